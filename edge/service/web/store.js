// What the page knows, in one place, and how its parts hear of a change.

/** Changed by cameras.js and stream.js alone; every other part reads it. */
export const state = {
  cameras: [], // as GET /v1/cameras gives them
  most: 0, // how many there may be
  takesWebrtc: false, // the camera of a page may come as a video
  chosen: null, // name of the one that is looked at
  isLinked: false, // the stream of records is open
  model: null, // id for the API
};

const listeners = new Map();

/** Calls `heard(detail)` whenever `name` is told. */
export function on(name, heard) {
  if (!listeners.has(name)) listeners.set(name, []);
  listeners.get(name).push(heard);
}

/** Tells everybody; one part that fails does not keep the others from hearing. */
export function tell(name, detail) {
  for (const heard of listeners.get(name) ?? []) {
    try {
      heard(detail);
    } catch (fault) {
      console.error(`a listener of ${name} failed`, fault);
    }
  }
}

export const camera = (name = state.chosen) =>
  state.cameras.find((known) => known.name === name) ?? null;

// Stream time and the wall clock of each camera, from its newest record: wall = time_s + offset.
const offsets = new Map();

export function keepClock(record) {
  const wallMs = Date.parse(record.wall);
  if (Number.isFinite(wallMs)) offsets.set(record.camera, wallMs - record.time_s * 1000);
}

/** The moment on the wall of a stream time of the chosen camera, ms; null before its first record. */
export function wallOf(timeS, name = state.chosen) {
  const offset = offsets.get(name);
  return offset === undefined ? null : offset + timeS * 1000;
}

export function forgetClock(name) {
  offsets.delete(name);
}

/**
 * Runs `work` now and `everyMs` after each run has ended, while the tab is seen and the service is
 * there; at once where another camera is chosen meanwhile. `everyMs`: a number, or what gives one.
 * Answers to a choice that has changed since are thrown away by `work` itself.
 */
export function repeat(work, everyMs) {
  let timer = null;
  let isRunning = false;
  let isAsked = false;
  async function turn() {
    clearTimeout(timer);
    isAsked = isRunning;
    if (isRunning) return;
    if (!document.hidden && state.isLinked) {
      isRunning = true;
      try {
        await work();
      } finally {
        isRunning = false;
      }
    }
    const wait = typeof everyMs === "function" ? everyMs() : everyMs;
    timer = setTimeout(turn, isAsked ? 0 : wait);
  }
  document.addEventListener("visibilitychange", turn);
  on("chosen", turn);
  on("linked", turn);
  turn();
}
