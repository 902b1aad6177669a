// The counters: how fast each stage is, what was left out, and how much memory all of it takes.

import { call, cameraPath, sentencesOf } from "./api.js";
import { byId, element, setShare, setText } from "./elements.js";
import { on, repeat, state } from "./store.js";
import { bytesText, countText, duration, numberText } from "./words.js";

const REFRESH_MS = 2500;
const STAGES = {
  source: "read",
  encode: "encode",
  gate: "gate",
  memory: "memory",
  first_token: "first token",
};


export function startCounters() {
  on("record", (record) => {
    if (record.type === "stats" && record.camera === state.chosen) show(record);
  });
  on("chosen", () => {
    byId("counters").hidden = true;
    byId("counters-empty").hidden = false;
  });
  repeat(refresh, REFRESH_MS);
}

async function refresh() {
  const name = state.chosen;
  if (!name) return;
  try {
    const stats = await call("GET", cameraPath(name, "stats"));
    if (name === state.chosen) show(stats);
  } catch (fault) {
    if (![404, 409].includes(fault.status)) console.warn(sentencesOf(fault)); // 404: none yet
  }
}

function show(stats) {
  byId("counters").hidden = false;
  byId("counters-empty").hidden = true;
  showSpeed(stats);
  showFrames(stats);
  showMemory(stats);
  showStages(stats.stage_ms ?? {});
  showDrops(stats.dropped ?? {});
  showLane(stats.lane);
  showGovernor(stats.governor);
}

function showSpeed({ fps, fps_target: target, uptime_s: uptime, turns }) {
  setText(byId("c-fps"), numberText(fps));
  setText(byId("c-fps-of"), Number.isFinite(target) ? `of ${numberText(target)} fps` : "fps");
  setShare(byId("c-fps-bar"), target ? fps / target : 0);
  setText(byId("c-turns"), countText(turns));
  setText(byId("c-uptime"), duration(uptime ?? 0));
}

function showFrames({ frames_seen: seen, frames_still: still, frames_encoded: encoded, frames_gated: gated }) {
  setText(byId("c-seen"), countText(seen));
  for (const [id, count] of [["c-still", still], ["c-encoded", encoded], ["c-gated", gated]]) {
    setText(byId(id), countText(count));
    setText(byId(`${id}-share`), seen ? `${Math.round((count / seen) * 100)}%` : "–");
    setShare(byId(`${id}-bar`), seen ? count / seen : 0);
  }
}

function showMemory({ bytes_kept: kept, bytes_budget: budget, rss_bytes: rss }) {
  setText(byId("c-kept"), bytesText(kept));
  setText(byId("c-kept-of"), budget ? `of ${bytesText(budget)}` : "no budget");
  setShare(byId("c-kept-bar"), budget ? kept / budget : 0);
  setText(byId("c-rss"), bytesText(rss));
}

function showStages(stages) {
  const rows = Object.entries(stages).map(([name, { p50, p99 }]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", text: STAGES[name] ?? name.replaceAll("_", " ") }),
      element("td", { text: numberText(p50) }),
      element("td", { text: numberText(p99) }),
    ),
  );
  byId("c-stages").replaceChildren(...rows);
}

function showDrops(dropped) {
  const entries = Object.entries(dropped).filter(([, count]) => count > 0);
  const text = entries.map(([what, count]) => `${countText(count)} ${what.replaceAll("_", " ")}`);
  setText(byId("c-drops"), text.join(", ") || "nothing");
  byId("c-drops").classList.toggle("is-warn", entries.length > 0);
}

function showLane(lane) {
  byId("c-lane-row").hidden = !lane;
  if (!lane) return;
  const share = lane.speak_share ?? 0;
  setShare(byId("c-lane-bar"), 1 - share);
  setText(
    byId("c-lane"),
    `watching ${Math.round((1 - share) * 100)}%, speaking ${Math.round(share * 100)}%`,
  );
}

function showGovernor(governor) {
  byId("c-governor-row").hidden = !governor;
  if (!governor) return;
  const { level, achieved_fps: achieved, target_fps: target, encode_every: every } = governor;
  const parts = [level ? `step ${level}` : "everything is done"];
  if (Number.isFinite(target)) parts.push(`${numberText(achieved)} of ${numberText(target)} fps`);
  if (every > 1) parts.push(`one frame in ${every} encoded`);
  if (governor.token_share < 1) parts.push(`${percent(governor.token_share)} of the tokens`);
  if (governor.recall_share < 1) parts.push(`${percent(governor.recall_share)} of recall`);
  setText(byId("c-governor"), parts.join(", "));
}

const percent = (share) => `${Math.round(share * 100)}%`;
