// The stream of records (server-sent events): it reconnects by itself and takes up where it was cut.

import { address, call } from "./api.js";
import { isLocked } from "./dialogs.js";
import { byId, setText } from "./elements.js";
import { announce } from "./notices.js";
import { keepClock, on, state, tell } from "./store.js";

const TYPES = [
  "opened", "closed", "partial", "final", "drop", "camera", "warning", "stats", "standing",
];
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;
// A cable that is pulled closes nothing: where this long nothing came, the service is asked.
const SILENT_MS = 20000;

let source = null;
let lastId = "";
let lastHeard = Date.now();
let waitMs = FIRST_WAIT_MS;
let retry = null;
let wasLinked = false;
let attempt = 0; // the newest one counts: two at a time would tell everything twice

export function startStream() {
  byId("retry").addEventListener("click", connect);
  on("unlocked", connect);
  globalThis.addEventListener("online", () => !state.isLinked && connect());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !state.isLinked) connect();
  });
  setInterval(watchSilence, SILENT_MS / 2);
  connect();
}

async function connect() {
  clearTimeout(retry);
  source?.close();
  const mine = (attempt += 1);
  let locked = false;
  let isThere = true;
  try {
    locked = await isLocked();
  } catch {
    isThere = false;
  }
  if (mine !== attempt) return;
  if (locked) tell("locked"); // `unlocked` comes back here
  else if (isThere) open();
  else {
    lost();
    later();
  }
}

function open() {
  // A new EventSource has no Last-Event-ID of its own, so the number goes into the address; while
  // this one lives, the browser repeats the request with the header.
  source = new EventSource(address("v1/events", { after: lastId || undefined }));
  source.onopen = () => {
    waitMs = FIRST_WAIT_MS;
    lastHeard = Date.now();
    state.isLinked = true;
    byId("lost").hidden = true;
    if (wasLinked) announce("Connected again.");
    wasLinked = true;
    tell("linked");
  };
  source.onerror = () => {
    const isOver = source.readyState === EventSource.CLOSED;
    lost();
    if (isOver) later(); // refused, or a browser that does not try again by itself
  };
  for (const type of TYPES) source.addEventListener(type, heard);
}

function heard(event) {
  lastHeard = Date.now();
  if (event.lastEventId) lastId = event.lastEventId;
  let record;
  try {
    record = JSON.parse(event.data);
  } catch {
    console.warn("a record that is no JSON was left out");
    return;
  }
  keepClock(record);
  tell("record", record);
}

function lost() {
  const isNews = state.isLinked;
  state.isLinked = false;
  byId("lost").hidden = false;
  setText(
    byId("lost-text"),
    "The service cannot be reached. What you see is old; the page tries again by itself.",
  );
  if (isNews) {
    announce("The connection to the service was lost.");
    tell("unlinked");
  }
}

function later() {
  retry = setTimeout(connect, waitMs);
  waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
}

async function watchSilence() {
  if (!state.isLinked || document.hidden || Date.now() - lastHeard < SILENT_MS) return;
  try {
    await call("GET", "health", { waitMs: 5000 });
    lastHeard = Date.now();
  } catch {
    lost();
    connect();
  }
}
