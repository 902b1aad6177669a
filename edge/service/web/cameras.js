// The cameras: which is looked at, how each is, adding, pausing and removing them.

import { call, cameraPath, sentencesOf } from "./api.js";
import { confirmed } from "./dialogs.js";
import { byId, element, setText } from "./elements.js";
import { announce, complain, toast } from "./notices.js";
import { camera, forgetClock, on, repeat, state, tell } from "./store.js";
import { STATES, numberText, sentence, streamTime } from "./words.js";

const REFRESH_MS = 4000;

export function startCameras() {
  byId("pause").addEventListener("click", pauseOrResume);
  byId("remove").addEventListener("click", remove);
  byId("add-camera").addEventListener("click", () => byId("add-dialog").showModal());
  byId("cover-add").addEventListener("click", () => byId("add-dialog").showModal());
  byId("add-form").addEventListener("submit", add);
  on("record", (record) => record.type === "camera" && heard(record));
  repeat(refresh, REFRESH_MS);
}

/** Reads the list anew; `wanted` is looked at then. */
export async function refresh(wanted) {
  let list;
  try {
    list = await call("GET", "v1/cameras");
  } catch (fault) {
    if (fault.status !== 401) console.warn(sentencesOf(fault)); // the banner and the dialog tell
    return;
  }
  for (const gone of state.cameras.filter((old) => !list.cameras.some((c) => c.name === old.name))) {
    forgetClock(gone.name);
  }
  state.cameras = list.cameras;
  state.most = list.most;
  state.takesWebrtc = list.takes_webrtc;
  if (typeof wanted === "string" && camera(wanted)) choose(wanted);
  else if (!camera()) choose(state.cameras[0]?.name ?? null);
  show();
  tell("cameras");
}

export function choose(name) {
  if (name === state.chosen) return;
  state.chosen = name;
  show();
  tell("chosen");
}

/** A camera says how it is before the list is read again. */
function heard(record) {
  const known = camera(record.camera);
  if (!known) {
    refresh();
    return;
  }
  known.state = record.state === "rebased" ? "open" : record.state;
  known.reason = record.reason;
  known.is_paused = known.state === "paused";
  show();
  tell("cameras");
  const [words] = STATES[known.state] ?? [known.state];
  if (known.state !== "open") announce(`Camera ${known.name}: ${words}. ${record.reason}`);
}

function show() {
  showChooser();
  const known = camera();
  byId("camera-actions").hidden = !known;
  setText(byId("camera-name"), known?.name ?? "No camera");
  const [label, kind] = known ? (STATES[known.state] ?? [known.state, "calm"]) : ["", "calm"];
  const badge = byId("badge");
  badge.hidden = !known;
  badge.className = `badge badge-${kind}`;
  setText(badge, label);
  const isTrouble = known && known.reason && !["open", "rebased"].includes(known.state);
  byId("reason").hidden = !isTrouble;
  setText(byId("reason"), isTrouble ? sentence(known.reason) : "");
  byId("camera-facts").hidden = !known;
  if (!known) return;
  setText(byId("camera-facts"), factsOf(known));
  const words = isOver(known) ? "Start again" : known.is_paused ? "Resume" : "Pause";
  setText(byId("pause-text"), words);
  byId("pause-icon").setAttribute("href", words === "Pause" ? "#i-pause" : "#i-play");
}

const isOver = (known) => ["ended", "failed", "stopped"].includes(known.state);

function factsOf(known) {
  const facts = [];
  if (Number.isFinite(known.fps)) facts.push(`${numberText(known.fps)} fps`);
  if (Number.isFinite(known.time_s)) facts.push(`watched ${streamTime(known.time_s)}`);
  if (known.has_zones) facts.push("privacy zones on");
  return facts.join(" · ");
}

function showChooser() {
  const list = byId("chooser");
  const signature = JSON.stringify(state.cameras.map((known) => [known.name, known.state]));
  const isSame = list.dataset.signature === signature && list.dataset.chosen === String(state.chosen);
  byId("add-camera").disabled = state.most > 0 && state.cameras.length >= state.most;
  byId("add-camera").title = byId("add-camera").disabled
    ? `There are ${state.most} cameras already, the most that the service watches.`
    : "";
  if (isSame) return;
  Object.assign(list.dataset, { signature, chosen: String(state.chosen) });
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  list.replaceChildren(...state.cameras.map(chip));
  if (focused) [...list.querySelectorAll("button")].find((b) => b.dataset.name === focused)?.focus();
}

function chip(known) {
  const [words, kind] = STATES[known.state] ?? [known.state, "calm"];
  const isChosen = known.name === state.chosen;
  return element(
    "li",
    {},
    element(
      "button",
      {
        type: "button",
        class: "camera-chip",
        "aria-pressed": isChosen ? "true" : "false",
        data: { name: known.name },
        on: { click: () => choose(known.name) },
      },
      element("span", { class: `dot dot-${kind}`, "aria-hidden": "true" }),
      element("span", { class: "camera-chip-name", text: known.name }),
      element("span", { class: "visually-hidden", text: `, ${words}` }),
    ),
  );
}

async function pauseOrResume() {
  const known = camera();
  const action = known.is_paused || isOver(known) ? "resume" : "pause";
  await attempt(`The camera could not be ${action}d.`, byId("pause"), async () => {
    await call("POST", cameraPath(known.name, action));
    await refresh();
  });
}

async function remove() {
  const known = camera();
  const isMeant = await confirmed(
    `Remove ${known.name}?`,
    "The service stops watching this camera and closes its connection.",
    "Remove camera",
  );
  if (!isMeant) return;
  await attempt("The camera could not be removed.", byId("remove"), async () => {
    await call("DELETE", cameraPath(known.name));
    toast(`${known.name} was removed.`);
    await refresh();
  });
}

async function add(event) {
  event.preventDefault();
  const name = byId("add-name").value.trim();
  const problem = byId("add-error");
  problem.hidden = true;
  byId("add-send").disabled = true;
  try {
    await call("POST", "v1/cameras", { body: { name, address: byId("add-address").value.trim() } });
    byId("add-form").reset();
    byId("add-dialog").close();
    announce(`Camera ${name} was added.`);
    await refresh(name);
  } catch (fault) {
    problem.hidden = false;
    setText(problem, sentencesOf(fault));
  } finally {
    byId("add-send").disabled = false;
  }
}

async function attempt(title, button, work) {
  button.disabled = true;
  try {
    await work();
  } catch (fault) {
    complain(title, sentencesOf(fault));
  } finally {
    button.disabled = false;
    show();
  }
}
