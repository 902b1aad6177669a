// How the page puts into words what the service sends: events, states, times, sizes.

/** Per event type: what a person calls it, in a chip; in a sentence; and the group of its colour. */
const EVENTS = {
  cut: ["scene", "the scene changes", "scene"],
  fade_out: ["fade out", "it fades to black", "scene"],
  fade_in: ["fade in", "a picture appears", "scene"],
  dark: ["dark", "it gets dark", "light"],
  bright: ["bright", "it gets bright", "light"],
  blur: ["blur", "it gets blurry", "light"],
  pan: ["pan", "the camera turns", "camera"],
  zoom: ["zoom", "the camera zooms", "camera"],
  shake: ["shake", "the camera shakes", "camera"],
  motion: ["motion", "something moves", "things"],
  enter: ["enters", "something enters", "things"],
  leave: ["leaves", "something leaves", "things"],
  start: ["starts", "something starts to move", "things"],
  stop: ["stops", "something stops", "things"],
  meet: ["meet", "two things meet", "things"],
  every: ["tick", "time to look", "speech"],
  speak: ["speak", "it wants to speak", "speech"],
};

const plain = (type) => String(type).replaceAll("_", " ");

export const eventName = (type) => EVENTS[type]?.[0] ?? plain(type);
export const eventGroup = (type) => EVENTS[type]?.[2] ?? "other";

/** `the camera turns right`; `who` and `colour` of an event stay in its title. */
export function eventSentence(type, attributes = {}) {
  const words = EVENTS[type]?.[1] ?? plain(type);
  return attributes.direction ? `${words} ${attributes.direction}` : words;
}

/** What a standing request fired at: the answer to its check, or the types of the events. */
export function firedText({ turn_id: turnId, text }) {
  if (turnId) return text;
  return text.split(", ").map((type) => eventSentence(type)).join(", ");
}

export function attributesText(attributes = {}) {
  return Object.entries(attributes)
    .map(([name, value]) => `${plain(name)}: ${value}`)
    .join(", ");
}

/** State of a camera: [what a person reads, kind of badge]. */
export const STATES = {
  starting: ["Starting", "wait"],
  connecting: ["Connecting", "wait"],
  open: ["Live", "good"],
  rebased: ["Live", "good"],
  lost: ["Lost", "bad"],
  paused: ["Paused", "calm"],
  ended: ["Ended", "calm"],
  stopped: ["Stopped", "calm"],
  failed: ["Failed", "bad"],
};

/** Why a key frame was kept; a reason that is not listed is shown as it came. */
const REASONS = {
  first: "It is the first frame of the stream.",
  cut: "It is the first one after the scene changed.",
  spoke: "Something was said about it.",
  cluster: "It is the most typical of frames that look alike.",
};

export const reasonText = (reason) => REASONS[reason] ?? sentence(plain(reason ?? "not told"));

export function sentence(text) {
  const trimmed = String(text).trim();
  if (!trimmed) return "";
  const begun = trimmed[0].toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

/** Stream time as a person reads it: `2:03`, `1:02:03`; with tenths where asked for. */
export function streamTime(timeS, tenths = false) {
  if (!Number.isFinite(timeS)) return "–";
  const whole = tenths ? Math.round(timeS * 10) / 10 : Math.floor(timeS);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const seconds = whole % 60;
  const low = tenths ? seconds.toFixed(1).padStart(4, "0") : String(seconds).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${low}` : `${minutes}:${low}`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** A moment on the wall, from RFC 3339 or milliseconds: `10:32:04`. */
export function clockTime(wall) {
  const moment = new Date(wall);
  return Number.isNaN(moment.getTime()) ? "–" : CLOCK.format(moment);
}

export function dayAndTime(wall) {
  const moment = new Date(wall);
  if (Number.isNaN(moment.getTime())) return "–";
  return `${DAY.format(moment)}, ${CLOCK.format(moment)}`;
}

/** How long ago, in words that need not change every second. */
export function ago(wall, now = Date.now()) {
  const seconds = Math.round((now - new Date(wall).getTime()) / 1000);
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 5) return "now";
  return `${duration(seconds)} ago`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

export function bytesText(bytes) {
  if (!Number.isFinite(bytes)) return "–";
  const units = ["B", "kB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

export const countText = (count) =>
  Number.isFinite(count) ? count.toLocaleString("en-GB") : "–";

export function numberText(value, digits = 1) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

export const plural = (count, one, many = `${one}s`) =>
  `${countText(count)} ${count === 1 ? one : many}`;

/** The field's way of writing a score: `.83`. */
export const scoreText = (score) =>
  Number.isFinite(score) ? (score >= 0.995 ? "1.0" : score.toFixed(2).replace(/^0/, "")) : "–";
