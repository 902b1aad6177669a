// The live picture: a stream of JPEGs, or one after the other where that does not come through.

import { address, cameraPath } from "./api.js";
import { byId, setText } from "./elements.js";
import { camera, on, state } from "./store.js";
import { STATES, sentence } from "./words.js";

const STREAM_FPS = 6;
const POLL_MS = 500;
const FAILED_POLL_MS = 2000;
const OLD_POLL_MS = 5000; // of a camera that gives no new ones now
// Whoever stands between (a proxy that collects) may hold a stream back for ever.
const FIRST_PICTURE_MS = 6000;

let mode = "off"; // off, stream, poll
let timer = null;
let shown = null; // name of the camera that the picture is of

export function startLive() {
  const picture = byId("picture");
  picture.addEventListener("load", () => {
    picture.hidden = false;
    showCover();
    if (mode === "poll") timer = setTimeout(poll, givesPictures() ? POLL_MS : OLD_POLL_MS);
    else clearTimeout(timer);
  });
  picture.addEventListener("error", () => {
    if (mode === "stream") fallBack();
    else if (mode === "poll") {
      picture.hidden = true;
      showCover();
      timer = setTimeout(poll, FAILED_POLL_MS);
    }
  });
  on("chosen", restart);
  on("cameras", onCameras);
  on("linked", restart);
  on("unlinked", stop);
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : restart()));
  globalThis.addEventListener("resize", debounced(restartWhenWider, 800));
}

// Asked for at the width it is shown at; a wider window asks again.
let askedWidth = 0;

function widthPx() {
  const shownPx = byId("stage").clientWidth * Math.min(2, globalThis.devicePixelRatio || 1);
  return [320, 640, 960, 1280].find((width) => width >= shownPx) ?? 1280;
}

function restartWhenWider() {
  if (mode !== "off" && widthPx() > askedWidth) restart();
}

const isShown = () => state.isLinked && !document.hidden && camera() !== null;
const givesPictures = () => ["open", "rebased"].includes(camera()?.state);

function restart() {
  stop();
  const picture = byId("picture");
  if (shown !== state.chosen) picture.hidden = byId("still").hidden = true;
  shown = state.chosen;
  showCover();
  if (!isShown()) return;
  askedWidth = widthPx();
  if (!givesPictures()) {
    poll(); // the last picture, where there is one
    return;
  }
  mode = "stream";
  picture.src = address(cameraPath(shown, "live.mjpg"), { width: askedWidth, fps: STREAM_FPS });
  timer = setTimeout(() => {
    if (mode === "stream" && !picture.naturalWidth) fallBack();
  }, FIRST_PICTURE_MS);
}

/** Ends the request: an image whose address is gone is not loaded any further. */
function stop() {
  clearTimeout(timer);
  const wasStream = mode === "stream";
  mode = "off";
  if (wasStream) {
    freeze();
    byId("picture").removeAttribute("src");
  }
}

/** The last picture stays on the canvas behind, so that stopping does not blank the view. */
function freeze() {
  const picture = byId("picture");
  const still = byId("still");
  if (!picture.naturalWidth || shown !== state.chosen) {
    still.hidden = true;
    return;
  }
  still.width = picture.naturalWidth;
  still.height = picture.naturalHeight;
  still.getContext("2d").drawImage(picture, 0, 0);
  still.hidden = false;
}

function fallBack() {
  clearTimeout(timer);
  mode = "poll";
  poll();
}

function poll() {
  clearTimeout(timer);
  if (!isShown()) return;
  mode = "poll";
  const path = cameraPath(shown, "picture.jpg");
  byId("picture").src = address(path, { width: askedWidth || widthPx(), at: Date.now() });
}

let lastState = null;

function onCameras() {
  const now = camera()?.state ?? null;
  if (now !== lastState) restart();
  lastState = now;
  showCover();
}

/** What is said over the picture: nothing while it is live. */
function showCover() {
  const known = camera();
  const cover = byId("cover");
  const hasPicture = !byId("picture").hidden || !byId("still").hidden;
  const isLive = known && givesPictures();
  cover.hidden = Boolean(isLive && hasPicture);
  cover.classList.toggle("is-veil", hasPicture);
  byId("cover-add").hidden = !state.isLinked || Boolean(known);
  if (!known) {
    setText(byId("cover-title"), state.isLinked ? "No camera yet" : "Not connected");
    setText(byId("cover-text"), state.isLinked ? "Add one by its address, or use this device's own." : "");
  } else if (isLive) {
    setText(byId("cover-title"), "Waiting for the first picture");
    setText(byId("cover-text"), "");
  } else {
    setText(byId("cover-title"), STATES[known.state]?.[0] ?? known.state);
    setText(byId("cover-text"), sentence(known.reason ?? ""));
  }
}

function debounced(work, waitMs) {
  let waiting = null;
  return () => {
    clearTimeout(waiting);
    waiting = setTimeout(work, waitMs);
  };
}
