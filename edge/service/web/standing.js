// Standing requests ("Tell me when …"): adding, listing and cancelling them, and telling when one fires.

import { call, sentencesOf } from "./api.js";
import { byId, element, icon, setText } from "./elements.js";
import { announce, complain, notify, toast } from "./notices.js";
import { on, repeat, state, wallOf } from "./store.js";
import { ago, clockTime, eventName, firedText, sentence } from "./words.js";

const REFRESH_MS = 10000;
const LIT_MS = 12000;

let requests = [];
const lit = new Map(); // request_id -> the moment it fired, for the highlight
const firedAt = new Map(); // request_id -> the moment on the wall, of the records that are kept
const toldTurns = new Set(); // a record that is replayed is told once
const TOLD_MOST = 200;

export function startStanding() {
  byId("standing-form").addEventListener("submit", add);
  byId("standing-kind").addEventListener("change", showFields);
  on("record", (record) => record.type === "standing" && fired(record));
  on("event-types", showTypes);
  on("linked", readFired);
  repeat(refresh, REFRESH_MS);
  setInterval(show, 15000);
  showFields();
  show();
}

async function refresh() {
  try {
    ({ requests } = await call("GET", "v1/standing"));
    const known = new Set(requests.map((one) => one.request_id));
    for (const id of firedAt.keys()) if (!known.has(id)) firedAt.delete(id);
    show();
  } catch (fault) {
    if (fault.status !== 401) console.warn(sentencesOf(fault));
  }
}

async function readFired() {
  try {
    const query = { types: "standing", limit: 200 };
    const { records } = await call("GET", "v1/records", { query });
    for (const record of records) firedAt.set(record.request_id, record.wall);
    show();
  } catch (fault) {
    console.warn(sentencesOf(fault));
  }
}

/** The event types of the gate, once the trace has named them. */
function showTypes(names) {
  const box = byId("standing-events");
  if (box.dataset.names === names.join()) return;
  box.dataset.names = names.join();
  const was = new Set(chosenEvents());
  box.replaceChildren(
    ...names.map((name) =>
      element(
        "label",
        { class: "tick" },
        element("input", { type: "checkbox", value: name, checked: was.has(name) }),
        element("span", { text: eventName(name) }),
      ),
    ),
  );
}

const chosenEvents = () =>
  [...byId("standing-events").querySelectorAll("input:checked")].map((box) => box.value);

function showFields() {
  const kind = byId("standing-kind").value;
  byId("standing-events").hidden = kind !== "events";
}

async function add(event) {
  event.preventDefault();
  const text = byId("standing-text").value.trim();
  const kind = byId("standing-kind").value;
  const body = { text };
  if (byId("standing-where").value === "this" && state.chosen) body.camera = state.chosen;
  const problem = byId("standing-error");
  problem.hidden = true;
  if (kind === "events") {
    body.events = chosenEvents();
    if (!body.events.length) {
      problem.hidden = false;
      setText(problem, "Tick at least one event.");
      return;
    }
  }
  byId("standing-add").disabled = true;
  try {
    await call("POST", "v1/standing", { body });
    byId("standing-text").value = "";
    for (const box of byId("standing-events").querySelectorAll("input")) box.checked = false;
    announce(`Added: tell me when ${text}`);
    await refresh();
  } catch (fault) {
    problem.hidden = false;
    setText(problem, sentencesOf(fault));
  } finally {
    byId("standing-add").disabled = false;
  }
}

async function cancel(request, button) {
  button.disabled = true;
  try {
    await call("DELETE", `v1/standing/${encodeURIComponent(request.request_id)}`);
    announce(`Cancelled: ${request.text}`);
    await refresh();
    byId("standing-text").focus();
  } catch (fault) {
    button.disabled = false;
    complain("The request could not be cancelled.", sentencesOf(fault));
  }
}

function fired(record) {
  const key = [record.camera, record.turn_id, record.request_id, record.wall].join("|");
  if (record.is_met === false || toldTurns.has(key)) return;
  toldTurns.add(key);
  if (toldTurns.size > TOLD_MOST) toldTurns.delete(toldTurns.values().next().value);
  const title = `${record.request}`;
  const said = sentence(firedText(record));
  toast(title, `${said} ${record.camera}, ${clockTime(record.wall)}`, "told");
  announce(`${title}: ${said}`);
  notify(title, `${said} (${record.camera})`, record.request_id);
  lit.set(record.request_id, record.wall);
  firedAt.set(record.request_id, record.wall);
  setTimeout(() => {
    lit.delete(record.request_id);
    show();
  }, LIT_MS);
  show();
  refresh();
}

function show() {
  const list = byId("standing-list");
  byId("standing-empty").hidden = requests.length > 0;
  const signature = JSON.stringify(requests.map((one) => [one, lit.has(one.request_id), lastText(one)]));
  if (list.dataset.signature === signature) return;
  list.dataset.signature = signature;
  const focused = document.activeElement?.dataset?.cancel;
  list.replaceChildren(...requests.map(itemOf));
  if (focused) [...list.querySelectorAll("button")].find((b) => b.dataset.cancel === focused)?.focus();
}

function itemOf(request) {
  const what = [
    request.camera ? request.camera : "all cameras",
    request.events?.length
      ? request.events.map(eventName).join(", ")
      : `asked every ${request.check_s} s`,
  ];
  const button = element(
    "button",
    {
      type: "button",
      class: "quiet",
      "aria-label": `Cancel: ${request.text}`,
      title: "Cancel this request",
      data: { cancel: request.request_id },
      on: { click: () => cancel(request, button) },
    },
    icon("close"),
  );
  return element(
    "li",
    { class: `request${lit.has(request.request_id) ? " is-lit" : ""}` },
    element(
      "div",
      {},
      element("p", { class: "request-text", text: request.text }),
      element("p", { class: "request-facts", text: `${what.join(" · ")} · ${lastText(request)}` }),
    ),
    request.is_met ? element("span", { class: "badge badge-good", text: "met" }) : null,
    button,
  );
}

function lastText(request) {
  const wall = firedAt.get(request.request_id) ?? wallOfFiring(request);
  return wall === null ? "not fired yet" : `fired ${ago(wall)}`;
}

/** Where its record is not kept any more: by the stream time of its camera. */
function wallOfFiring({ camera: name, last_fired_s: firedS }) {
  if (!Number.isFinite(firedS)) return null;
  return wallOf(firedS, name ?? state.chosen);
}
