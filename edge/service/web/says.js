// What it says: the newest sentence in large, and the log of sentences and events with their times.

import { call } from "./api.js";
import { byId, element, setText } from "./elements.js";
import { announce } from "./notices.js";
import { camera, keepClock, on, state } from "./store.js";
import {
  STATES, ago, attributesText, clockTime, eventGroup, eventName, eventSentence, firedText, plural,
  sentence, streamTime,
} from "./words.js";

const KEPT_ENTRIES = 300;
const HISTORY = "final,opened,camera,warning,standing";
// An event and its description are of one moment: its `about_s` ends where the event opened.
const SAME_MOMENT_S = 0.01;
const END_PX = 24;

// Per camera, bounded: the entries of its log, oldest first, and the newest sentence.
const logs = new Map();

// `awaits`: an event has opened and was not described yet. A partial text does not say why it is
// spoken, so only then it is taken for a description.
const emptyLog = () => ({ entries: [], seen: new Set(), now: null, partial: null, awaits: false });

export function startSays() {
  on("record", (record) => hear(record, true));
  on("chosen", showAll);
  on("linked", readHistory);
  on("cameras", () => {
    for (const name of logs.keys()) if (!camera(name)) logs.delete(name);
    showEmpty();
  });
  on("wiped", (name) => {
    logs.delete(name);
    showAll();
  });
  byId("newer").addEventListener("click", () => follow(true));
  const list = byId("log");
  list.addEventListener("scroll", scrolled);
  list.addEventListener("pointerleave", () => wasAtEnd && follow());
  setInterval(showAge, 5000);
}

async function readHistory() {
  try {
    const { records } = await call("GET", "v1/records", { query: { types: HISTORY, limit: 400 } });
    for (const record of records) {
      keepClock(record);
      hear(record, false);
    }
  } catch (fault) {
    console.warn("no history", fault);
  }
  showAll();
}

const keyOf = (record) =>
  [record.type, record.turn_id ?? record.event_id ?? record.code ?? record.state, record.wall].join("|");

/** Takes a record into its camera's log; `isNew`: it has just come, and is shown and said. */
function hear(record, isNew) {
  if (!logs.has(record.camera)) logs.set(record.camera, emptyLog());
  const log = logs.get(record.camera);
  const isShown = isNew && record.camera === state.chosen;
  if (record.type === "partial") {
    if (!log.awaits) return; // an answer to somebody, or a check: no news of the scene
    log.partial = record;
    if (isShown) showNow(log);
    return;
  }
  const change = taken(log, record);
  if (!change) return;
  if (isShown) {
    showEntry(change);
    showNow(log);
  }
  const entry = change.entry;
  if (isNew && entry.kind === "said" && record.type === "final") {
    announce(state.cameras.length > 1 ? `${record.camera}: ${entry.text}` : entry.text);
  }
}

/** {entry, isFresh} after the record, or null where it says nothing new. */
function taken(log, record) {
  const key = keyOf(record);
  if (log.seen.has(key)) return null;
  log.seen.add(key);
  if (log.seen.size > KEPT_ENTRIES * 4) log.seen.delete(log.seen.values().next().value);
  if (record.type === "final") return takenFinal(log, record);
  if (record.type === "opened") log.awaits = true;
  const entry = entryOf(record);
  return entry && { entry: kept(log, entry), isFresh: true };
}

function takenFinal(log, record) {
  if (log.partial?.turn_id === record.turn_id) log.partial = null;
  if (record.cause === "standing") return null; // yes or no to a check; a `standing` record is the news
  if (record.cause === "event") log.awaits = false;
  if (!record.text.trim() && record.cause !== "question") return null; // the model's veto
  if (record.cause === "question") {
    const asked = { question: record.question, text: record.text || "(no answer)" };
    return { entry: kept(log, { kind: "answer", record, ...asked }), isFresh: true };
  }
  log.now = record;
  const of = record.about_s[1];
  const event = log.entries
    .slice(-8)
    .findLast((e) => e.kind === "event" && Math.abs(e.record.about_s[0] - of) < SAME_MOMENT_S);
  if (!event) return { entry: kept(log, { kind: "said", record, text: record.text }), isFresh: true };
  Object.assign(event, { kind: "said", text: record.text });
  return { entry: event, isFresh: false };
}

function entryOf(record) {
  if (record.type === "opened") {
    if (record.event === "speak") return null; // its sentence is the news
    const text = eventSentence(record.event, record.attributes);
    return { kind: "event", record, text, event: record };
  }
  if (record.type === "standing") {
    if (record.is_met === false) return null;
    return { kind: "told", record, text: firedText(record), question: record.request };
  }
  if (record.type === "camera") {
    return { kind: "note", record, text: record.reason || (STATES[record.state]?.[0] ?? record.state) };
  }
  if (record.type === "warning") return { kind: "warn", record, text: record.message };
  return null;
}

/** Keeps it; the log that is looked at may grow to twice its size before it gives up what is read. */
function kept(log, entry) {
  log.entries.push(entry);
  const most = log === logs.get(state.chosen) ? KEPT_ENTRIES * 2 : KEPT_ENTRIES;
  while (log.entries.length > most) log.entries.shift().node?.remove();
  return entry;
}

// ----------------------------------------------------------------- the newest sentence

function showNow(log = logs.get(state.chosen)) {
  const box = byId("now");
  const isSpeaking = Boolean(log?.partial);
  const shown = log?.partial ?? log?.now;
  const text = shown?.text?.trim();
  box.classList.toggle("is-empty", !text);
  box.classList.toggle("is-speaking", isSpeaking);
  setText(byId("now-text"), text || (camera() ? "Nothing said yet." : ""));
  showAge();
}

function showAge() {
  const log = logs.get(state.chosen);
  const said = log?.partial ?? log?.now;
  setText(byId("now-age"), said ? `${clockTime(said.wall)} · ${ago(said.wall)}` : "");
}

// ------------------------------------------------------------------------------ the log

function showAll() {
  const list = byId("log");
  const log = logs.get(state.chosen);
  log?.entries.sort((a, b) => a.record.wall.localeCompare(b.record.wall));
  if (log && log.entries.length > KEPT_ENTRIES) log.entries.splice(0, log.entries.length - KEPT_ENTRIES);
  list.replaceChildren(...(log?.entries ?? []).map((entry) => (entry.node = nodeOf(entry))));
  follow();
  showNow(log);
  showEmpty();
}

function showEmpty() {
  byId("log-empty").hidden = byId("log").childElementCount > 0;
}

function nodeOf(entry) {
  const { record } = entry;
  return element(
    "li",
    { class: `entry entry-${entry.kind}` },
    element("time", {
      datetime: record.wall,
      title: `stream time ${streamTime(record.time_s, true)}`,
      text: clockTime(record.wall),
    }),
    element(
      "div",
      { class: "entry-words" },
      entry.question ? element("p", { class: "entry-question", text: entry.question }) : null,
      element("p", { class: "entry-text", text: sentence(entry.text) }),
    ),
    entry.event ? chipOf(entry.event) : null,
  );
}

function chipOf({ event, attributes, scores }) {
  const score = scores?.[event];
  const more = [attributesText(attributes), Number.isFinite(score) ? `score ${score.toFixed(2)}` : ""];
  return element("span", {
    class: `chip chip-${eventGroup(event)}`,
    title: more.filter(Boolean).join(", "),
    text: eventName(event),
  });
}

let unread = 0;
let wasAtEnd = true;
let lastTop = 0;

function isAtEnd() {
  const list = byId("log");
  return list.scrollHeight - list.scrollTop - list.clientHeight < END_PX;
}

/** Only scrolling up leaves the end: a line that came before this was heard does not. */
function scrolled() {
  const { scrollTop } = byId("log");
  wasAtEnd = isAtEnd() || (wasAtEnd && scrollTop >= lastTop);
  lastTop = scrollTop;
  if (isAtEnd()) hideNewer();
}

/** Somebody reads where the pointer or a selection is: then nothing moves. */
function isRead() {
  const list = byId("log");
  const marked = document.getSelection();
  const isMarked = marked && !marked.isCollapsed && list.contains(marked.anchorNode);
  // On a touch screen, what was touched last counts as under the pointer for ever.
  return isMarked || (matchMedia("(hover: hover)").matches && list.matches(":hover"));
}

function showEntry({ entry, isFresh }) {
  const list = byId("log");
  if (!isFresh && entry.node?.isConnected) {
    const node = nodeOf(entry);
    entry.node.replaceWith(node);
    entry.node = node;
    if (wasAtEnd && !isRead()) follow(); // a sentence may take more lines than its event did
    return;
  }
  entry.node = nodeOf(entry);
  list.append(entry.node);
  showEmpty();
  if (wasAtEnd && !isRead()) {
    follow();
    return;
  }
  unread += 1;
  byId("newer").hidden = false;
  setText(byId("newer-text"), `${plural(unread, "new line")}`);
}

/** To the newest line; only there are old lines given up, so that nothing moves under the eyes. */
function follow(isAsked = false) {
  const list = byId("log");
  const log = logs.get(state.chosen);
  while (log && log.entries.length > KEPT_ENTRIES) log.entries.shift().node?.remove();
  list.scrollTop = list.scrollHeight;
  wasAtEnd = true;
  hideNewer();
  lastTop = list.scrollTop;
  if (isAsked) list.focus({ preventScroll: true });
}

function hideNewer() {
  unread = 0;
  byId("newer").hidden = true;
}
