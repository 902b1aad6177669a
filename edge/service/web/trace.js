// The newest two minutes of the gate's scores, and the events that opened in them; bounded in time and count.

import { call, cameraPath, sentencesOf } from "./api.js";
import { on, repeat, state, tell } from "./store.js";

export const WINDOW_S = 120;
const REFRESH_MS = 1000;
// 120 s at 8 frames a second, with room; beyond it the oldest go, whatever their time.
const FRAMES_MOST = 4000;
const EVENTS_MOST = 400;

/** Of the chosen camera. `events`: [{event_id, event, from_s, to_s, score}]. */
export const trace = { names: [], thresholds: {}, frames: [], events: [] };

export function startTrace() {
  on("chosen", forget);
  on("wiped", (name) => name === state.chosen && forget());
  on("record", hear);
  on("linked", readEvents);
  repeat(refresh, REFRESH_MS);
}

function forget() {
  Object.assign(trace, { names: [], thresholds: {}, frames: [], events: [] });
  tell("trace");
  readEvents();
}

async function readEvents() {
  const name = state.chosen;
  if (!name) return;
  try {
    const query = { camera: name, types: "opened,closed", limit: 200 };
    const { records } = await call("GET", "v1/records", { query });
    if (name === state.chosen) records.forEach(hear);
  } catch (fault) {
    console.warn(sentencesOf(fault));
  }
}

function hear(record) {
  if (record.camera !== state.chosen) return;
  if (record.type === "opened" && !trace.events.some((one) => one.event_id === record.event_id)) {
    const [from, to] = record.about_s;
    const { event_id: id, event, scores } = record;
    trace.events.push({ event_id: id, event, from_s: from, to_s: to, score: scores[event] });
    trace.events.sort((a, b) => a.from_s - b.from_s);
    if (trace.events.length > EVENTS_MOST) trace.events.shift();
  } else if (record.type === "closed") {
    const known = trace.events.find((one) => one.event_id === record.event_id);
    if (known) known.to_s = record.about_s[1];
  }
}

async function refresh() {
  const name = state.chosen;
  if (!name) return;
  const newest = trace.frames.at(-1)?.time_s;
  try {
    const part = await call("GET", cameraPath(name, "trace"), { query: { since_s: newest ?? 0 } });
    if (name !== state.chosen) return;
    take(part, newest);
  } catch (fault) {
    if (![404, 409].includes(fault.status)) console.warn(sentencesOf(fault));
  }
}

function take({ names, thresholds, frames }, newest = -1) {
  // A camera that was removed and added again begins its stream time anew.
  if (String(names) !== String(trace.names) && trace.frames.length) trace.frames = [];
  trace.names = names;
  trace.thresholds = thresholds;
  trace.frames.push(...frames.filter((frame) => frame.time_s > newest));
  const from = nowS() - WINDOW_S;
  const first = trace.frames.findIndex((frame) => frame.time_s >= from);
  if (first > 0) trace.frames.splice(0, first);
  if (trace.frames.length > FRAMES_MOST) trace.frames.splice(0, trace.frames.length - FRAMES_MOST);
  trace.events = trace.events.filter((one) => one.to_s >= from);
  tell("event-types", names);
  tell("trace");
}

/** Stream time at the right edge. */
export const nowS = () => trace.frames.at(-1)?.time_s ?? 0;

/** The frame that was newest at a moment; null where there is none. */
export function frameAt(timeS) {
  let low = 0;
  let high = trace.frames.length - 1;
  if (high < 0) return null;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (trace.frames[middle].time_s <= timeS) low = middle;
    else high = middle - 1;
  }
  return trace.frames[low];
}

/** [from_s, to_s] of each stretch in which frames stood still. */
export function stillStretches() {
  const stretches = [];
  let begun = null;
  for (const frame of trace.frames) {
    if (frame.is_still && begun === null) begun = frame.time_s;
    if (!frame.is_still && begun !== null) {
      stretches.push([begun, frame.time_s]);
      begun = null;
    }
  }
  if (begun !== null) stretches.push([begun, nowS()]);
  return stretches;
}

export function stillShare() {
  const still = trace.frames.filter((frame) => frame.is_still).length;
  return trace.frames.length ? still / trace.frames.length : 0;
}
