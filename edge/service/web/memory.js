// The memory strip: the key frames that are kept, oldest first, how much of the budget they take, and wiping.

import { call, cameraPath, sentencesOf } from "./api.js";
import { confirmed } from "./dialogs.js";
import { byId, element, setShare, setText } from "./elements.js";
import { openKeyFrame, thumbnail, timeLabel } from "./key_frame.js";
import { complain, toast } from "./notices.js";
import { camera, on, repeat, state, tell } from "./store.js";
import { bytesText, plural } from "./words.js";

// A long memory is a long answer: a thousand key frames are read every 20 s.
const REFRESH_MS = 4000;
const REFRESH_MS_EACH = 20;
const END_PX = 80;

let shownOf = null; // the camera whose strip stands there
let shown = new Map(); // id -> {item, signature}

export function startMemory() {
  byId("wipe").addEventListener("click", wipe);
  byId("strip").addEventListener("keydown", walk);
  on("chosen", clear);
  repeat(refresh, () => Math.max(REFRESH_MS, shown.size * REFRESH_MS_EACH));
  clear();
}

async function refresh() {
  const name = state.chosen;
  if (!name) return;
  try {
    const memory = await call("GET", cameraPath(name, "memory"));
    if (name === state.chosen) show(name, memory);
  } catch (fault) {
    // 404 and 409: it was removed, or does not watch now and remembers nothing.
    if (![404, 409].includes(fault.status)) console.warn(sentencesOf(fault));
    else if (name === state.chosen) clear();
  }
}

function clear() {
  shown = new Map();
  shownOf = null;
  byId("strip").replaceChildren();
  byId("memory-empty").hidden = false;
  setText(byId("memory-facts"), "");
  byId("memory-bar").hidden = true;
  byId("wipe").disabled = true;
}

function show(name, memory) {
  const strip = byId("strip");
  const isAtEnd = strip.scrollWidth - strip.scrollLeft - strip.clientWidth < END_PX;
  const isFirst = shownOf !== name;
  shownOf = name;
  const kept = memory.key_frames;
  const ids = new Set(kept.map((one) => one.id));
  for (const [id, { item }] of shown) {
    if (ids.has(id)) continue;
    item.remove();
    shown.delete(id);
  }
  kept.forEach((one, place) => put(name, one, place));
  rove();
  if ((isAtEnd || isFirst) && !strip.matches(":hover, :focus-within")) strip.scrollLeft = strip.scrollWidth;
  byId("memory-empty").hidden = kept.length > 0;
  byId("wipe").disabled = false;
  showBudget(kept.length, memory);
}

/** The item of a key frame at its place; it is made anew only where something on it has changed. */
function put(name, one, place) {
  const strip = byId("strip");
  const signature = JSON.stringify([one.covers, one.said, one.has_picture, one.used_by?.length]);
  let known = shown.get(one.id);
  if (known?.signature !== signature) {
    const item = itemOf(name, one);
    const hadFocus = known?.item.contains(document.activeElement);
    known?.item.replaceWith(item);
    known = { item, signature };
    shown.set(one.id, known);
    if (hadFocus) item.firstChild.focus();
  }
  known.item.keyFrame = one;
  if (strip.children[place] !== known.item) strip.insertBefore(known.item, strip.children[place] ?? null);
}

function itemOf(name, one) {
  const time = timeLabel(name, one);
  const uses = one.used_by?.length ?? 0;
  const words = [
    `Key frame of ${time}`,
    `stands for ${plural(one.covers ?? 1, "frame")}`,
    one.said && `said: ${one.said}`,
    uses > 0 && `used by ${plural(uses, "answer")}`,
  ];
  const item = element("li", {});
  item.append(
    element(
      "button",
      {
        type: "button",
        class: "key-frame",
        tabindex: "-1",
        title: one.said || null,
        "aria-label": words.filter(Boolean).join(", "),
        on: { click: () => openKeyFrame(name, one.id, item.keyFrame) },
      },
      element(
        "span",
        { class: "thumb-box" },
        thumbnail(name, one),
        element("span", { class: "covers", text: `×${one.covers ?? 1}` }),
        uses ? element("span", { class: "uses", text: plural(uses, "answer") }) : null,
      ),
      element("span", { class: "key-frame-time", text: time }),
      element("span", { class: "key-frame-said", text: one.said || "" }),
    ),
  );
  return item;
}

// One tab stop for the whole strip; arrows walk along it.
function rove() {
  const buttons = [...byId("strip").querySelectorAll("button")];
  if (!buttons.some((button) => button.tabIndex === 0)) {
    const last = buttons.at(-1);
    if (last) last.tabIndex = 0;
  }
}

function walk(event) {
  const buttons = [...byId("strip").querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (at < 0 || to === undefined || !buttons[to]) return;
  event.preventDefault();
  buttons[at].tabIndex = -1;
  buttons[to].tabIndex = 0;
  buttons[to].focus();
}

function showBudget(count, { bytes_kept: kept, bytes_budget: budget }) {
  const facts = [plural(count, "key frame")];
  facts.push(budget ? `${bytesText(kept)} of ${bytesText(budget)}` : bytesText(kept));
  setText(byId("memory-facts"), facts.join(" · "));
  const bar = byId("memory-bar");
  bar.hidden = !budget;
  if (!budget) return;
  bar.setAttribute("aria-valuenow", String(Math.round((kept / budget) * 100)));
  bar.setAttribute("aria-valuetext", `${bytesText(kept)} of ${bytesText(budget)}`);
  setShare(bar, kept / budget);
}

async function wipe() {
  const known = camera();
  const isMeant = await confirmed(
    `Wipe what ${known.name} remembers?`,
    "Its key frames, the dialogue, what was saved on disk and the records that are kept for this page are deleted. This cannot be undone.",
    "Wipe memory",
  );
  if (!isMeant) return;
  byId("wipe").disabled = true;
  try {
    await call("DELETE", cameraPath(known.name, "memory"));
    clear();
    tell("wiped", known.name);
    toast("Memory wiped", `${known.name} starts to remember anew.`);
    await refresh();
  } catch (fault) {
    complain("The memory could not be wiped.", sentencesOf(fault));
  } finally {
    byId("wipe").disabled = false;
  }
}
