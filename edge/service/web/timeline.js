// The gate's timeline: a lane of scores per event type, with thresholds, events and still frames, and in words.

import { byId, drawn, element, setText } from "./elements.js";
import { on, wallOf } from "./store.js";
import { WINDOW_S, frameAt, nowS, stillShare, stillStretches, trace } from "./trace.js";
import { clockTime, eventGroup, eventName, plural, scoreText, streamTime } from "./words.js";

const LANE_PX = 19;
const TOP_PX = 4;
const AXIS_PX = 20;
const LABEL_PX = 74;
const VALUE_PX = 34;
const GRID_S = 30;

let lanes = []; // per event type: {area, line, mark, value, label}
let widthPx = 0;
let cursorS = null; // stream time that is looked at; null: the newest

export function startTimeline() {
  const plot = byId("plot");
  new ResizeObserver(() => {
    widthPx = 0;
    draw();
  }).observe(plot);
  on("trace", draw);
  on("chosen", () => (cursorS = null));
  plot.addEventListener("pointermove", (event) => pointAt(event.offsetX));
  plot.addEventListener("pointerleave", () => lookAt(null));
  plot.addEventListener("keydown", step);
  plot.addEventListener("blur", () => lookAt(null));
  byId("timeline-list").addEventListener("toggle", showWords);
}

// -------------------------------------------------------------------------- geometry

const plotPx = () => widthPx - LABEL_PX - VALUE_PX;
const xOf = (timeS) => LABEL_PX + ((timeS - (nowS() - WINDOW_S)) / WINDOW_S) * plotPx();
const laneTop = (lane) => TOP_PX + lane * LANE_PX;
const lowest = () => TOP_PX + trace.names.length * LANE_PX;
const yOf = (lane, score) => laneTop(lane) + (LANE_PX - 3) * (1 - Math.max(0, Math.min(1, score))) + 1;
const px = (value) => value.toFixed(1);

// --------------------------------------------------------------------------- drawing

function draw() {
  const plot = byId("plot");
  byId("timeline-empty").hidden = trace.names.length > 0;
  plot.hidden = trace.names.length === 0;
  const width = plot.clientWidth;
  if (!trace.names.length || !width) return;
  if (width !== widthPx || lanes.length !== trace.names.length) layOut(width);
  drawStill();
  trace.names.forEach(drawLane);
  drawMoment();
  showWords();
}

/** What stays while scores come: labels, thresholds, the axis. */
function layOut(width) {
  widthPx = width;
  const height = lowest() + AXIS_PX;
  const picture = byId("lanes");
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.setAttribute("height", height);
  picture.replaceChildren(drawn("g", { id: "still-frames" }), ...grid());
  lanes = trace.names.map((name, lane) => layOutLane(picture, name, lane));
  picture.append(drawn("line", { id: "cursor", class: "cursor", y1: TOP_PX, y2: lowest() }));
}

function grid() {
  const marks = [];
  for (let back = 0; back <= WINDOW_S; back += GRID_S) {
    const x = px(LABEL_PX + plotPx() * (1 - back / WINDOW_S));
    marks.push(drawn("line", { class: "grid", x1: x, x2: x, y1: TOP_PX, y2: lowest() }));
    const anchor = back === 0 ? "end" : back === WINDOW_S ? "start" : "middle";
    const text = drawn("text", { class: "axis", x, y: lowest() + 14, "text-anchor": anchor });
    text.textContent = back === 0 ? "now" : back % 60 ? `−${back} s` : `−${back / 60} min`;
    marks.push(text);
  }
  return marks;
}

function layOutLane(picture, name, lane) {
  const colour = `lane-${eventGroup(name)}`;
  const bottom = px(yOf(lane, 0));
  const ends = { x1: LABEL_PX, x2: LABEL_PX + plotPx() };
  const label = drawn("text", { class: `lane-label ${colour}`, x: 0, y: px(laneTop(lane) + 14) });
  label.textContent = eventName(name);
  const value = drawn("text", {
    class: "lane-value", x: widthPx, y: px(laneTop(lane) + 14), "text-anchor": "end",
  });
  const area = drawn("path", { class: `area ${colour}` });
  const line = drawn("path", { class: `line ${colour}` });
  const mark = drawn("g", { class: `marks ${colour}` });
  const parts = [drawn("line", { class: "floor", ...ends, y1: bottom, y2: bottom }), area, line];
  const threshold = trace.thresholds[name];
  if (Number.isFinite(threshold)) {
    const y = px(yOf(lane, threshold));
    parts.push(drawn("line", { class: "threshold", ...ends, y1: y, y2: y }));
  }
  picture.append(...parts, mark, label, value);
  return { area, line, mark, value };
}

function drawLane(name, lane) {
  const { area, line, mark } = lanes[lane];
  const points = trace.frames
    .filter((frame) => Number.isFinite(frame.scores[lane]))
    .map((frame) => `${px(xOf(frame.time_s))},${px(yOf(lane, frame.scores[lane]))}`);
  const floor = px(yOf(lane, 0));
  const [first, last] = [points[0]?.split(",")[0], points.at(-1)?.split(",")[0]];
  line.setAttribute("d", points.length ? `M${points.join("L")}` : "");
  area.setAttribute("d", points.length ? `M${first},${floor}L${points.join("L")}L${last},${floor}Z` : "");
  const left = nowS() - WINDOW_S;
  const events = trace.events.filter((one) => one.event === name && one.to_s >= left);
  mark.replaceChildren(...events.map((one) => markOf(one, lane)));
}

function markOf({ from_s: from, to_s: to }, lane) {
  const x = Math.max(LABEL_PX, xOf(from));
  const wide = Math.max(3, xOf(to) - x);
  return drawn("rect", {
    class: "mark", x: px(x), y: px(laneTop(lane) + 1), width: px(wide), height: LANE_PX - 3, rx: 1.5,
  });
}

function drawStill() {
  byId("still-frames").replaceChildren(
    ...stillStretches().map(([from, to]) => {
      const x = Math.max(LABEL_PX, xOf(from));
      const wide = Math.max(0, xOf(to) - x);
      return drawn("rect", { class: "still", x: px(x), y: TOP_PX, width: px(wide), height: lowest() - TOP_PX });
    }),
  );
}

// ---------------------------------------------------------------------- one moment

function pointAt(x) {
  const share = (x - LABEL_PX) / plotPx();
  lookAt(share < 0 || share > 1 ? null : nowS() - WINDOW_S * (1 - share));
}

/** The moment whose scores are shown: under the pointer, or chosen with the arrow keys. */
function lookAt(timeS) {
  if (timeS === cursorS) return;
  cursorS = timeS;
  if (lanes.length) drawMoment();
}

function step(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 }[event.key];
  const first = trace.frames[0]?.time_s ?? 0;
  let to = by === undefined ? null : (cursorS ?? nowS()) + by * (event.shiftKey ? 10 : 1);
  if (event.key === "Home") to = first;
  if (event.key === "End") to = nowS();
  if (to === null) return;
  event.preventDefault();
  lookAt(Math.max(first, Math.min(nowS(), to)));
}

/** The line at the moment, its scores beside the lanes and in words. */
function drawMoment() {
  const timeS = cursorS ?? nowS();
  const cursor = byId("cursor");
  cursor.classList.toggle("is-shown", cursorS !== null);
  for (const end of ["x1", "x2"]) cursor.setAttribute(end, px(xOf(timeS)));
  const frame = frameAt(timeS);
  trace.names.forEach((name, lane) => {
    const score = frame?.scores[lane];
    const { value } = lanes[lane];
    setText(value, Number.isFinite(score) ? scoreText(score) : "");
    value.classList.toggle("is-over", score >= (trace.thresholds[name] ?? 2));
  });
  const plot = byId("plot");
  plot.setAttribute("aria-valuenow", String(Math.round(timeS - nowS())));
  plot.setAttribute("aria-valuetext", momentText(timeS));
  setText(byId("moment"), cursorS === null ? "" : momentText(timeS));
}

/** `10:32:04: start .80, still`: the moment and the highest scores at it. */
function momentText(timeS) {
  const frame = frameAt(timeS);
  if (!frame) return "no frames yet";
  const best = trace.names
    .map((name, lane) => [name, frame.scores[lane]])
    .filter(([, score]) => score >= 0.05)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 3)
    .map(([name, score]) => `${eventName(name)} ${scoreText(score)}`);
  const parts = best.length ? best : ["no score above .05"];
  if (frame.is_still) parts.push("still");
  return `${timeText(timeS)} · ${parts.join(", ")}`;
}

function timeText(timeS) {
  const wall = wallOf(timeS);
  return wall === null ? streamTime(timeS) : clockTime(wall);
}

// ------------------------------------------------------------------------- in words

function showWords() {
  const told = trace.events.filter((one) => one.event !== "speak");
  const still = Math.round(stillShare() * 100);
  const summary = `${plural(told.length, "event")} in the last two minutes, ${still}% of the frames still`;
  setText(byId("timeline-summary"), summary);
  if (!byId("timeline-list").open) return;
  const items = told.toReversed().map(({ event, from_s: from, score }) => {
    const text = `${timeText(from)} · ${eventName(event)}, score ${scoreText(score)}`;
    return element("li", { text });
  });
  byId("timeline-events").replaceChildren(...items);
}
