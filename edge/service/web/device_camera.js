// This device's own camera as one of the service's: as a video over WebRTC, or else as JPEGs over a WebSocket.

import { call, cameraPath, sentencesOf, socketAddress } from "./api.js";
import { refresh } from "./cameras.js";
import { byId, setText } from "./elements.js";
import { announce, complain } from "./notices.js";
import { isForLater, peerTo } from "./peer.js";
import { camera, on, state } from "./store.js";

const LONGEST_SIDE_PX = 1280;
const JPEG_QUALITY = 0.8;
// Two on the way: one is being looked at while the next one travels. More would only grow old.
const UNSEEN_MOST = 2;
// A socket that was not asked for its pictures for so long has lost its count.
const UNSEEN_MS = 5000;
const RETRY_MS = [1000, 2000, 4000, 8000, 15000];

const REFUSED_MOST = 10;

// {name, stream, video, canvas, fps, isVideo, peer, socket, sent, seen, refused, heardAt, timer, attempts, lock}
let feed = null;

export function startDeviceCamera() {
  byId("device-form").addEventListener("submit", begin);
  byId("device-stop").addEventListener("click", () => end("This device's camera was stopped."));
  on("cameras", resumed);
  if (!navigator.mediaDevices?.getUserMedia) {
    byId("device-send").disabled = true;
    byId("device-error").hidden = false;
    setText(
      byId("device-error"),
      "A browser gives its camera only to pages over https or of this very machine. Open this page over https.",
    );
  }
}

async function begin(event) {
  event.preventDefault();
  const problem = byId("device-error");
  problem.hidden = true;
  byId("device-send").disabled = true;
  const name = byId("device-name").value.trim();
  let stream = null;
  try {
    stream = await opened(byId("device-facing").value);
    if (camera(name)?.kind !== "browser") {
      await call("POST", "v1/cameras", { body: { name, address: "browser:" } });
    }
    end();
    await feedFrom(name, stream, Number(byId("device-fps").value));
    byId("add-dialog").close();
    announce(`This device's camera is sent as ${name}.`);
    await refresh(name);
  } catch (fault) {
    for (const track of stream?.getTracks() ?? []) track.stop();
    problem.hidden = false;
    setText(problem, refusal(fault));
  } finally {
    byId("device-send").disabled = false;
  }
}

function opened(facing) {
  return navigator.mediaDevices.getUserMedia({
    audio: false,
    video: { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 720 } },
  });
}

function refusal(fault) {
  const sentences = {
    NotAllowedError: "The browser did not allow the camera. Allow it in the site's settings.",
    NotFoundError: "This device has no camera.",
    NotReadableError: "The camera is in use by another program.",
  };
  return sentences[fault.name] ?? sentencesOf(fault);
}

async function feedFrom(name, stream, fps) {
  const video = document.createElement("video");
  Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  feed = { name, stream, video, fps, canvas: document.createElement("canvas") };
  Object.assign(feed, { socket: null, timer: null, attempts: 0, lock: null, heardAt: 0 });
  Object.assign(feed, { peer: null, isPaused: false });
  feed.isVideo = state.takesWebrtc && "RTCPeerConnection" in window;
  stream.getVideoTracks()[0].addEventListener("ended", () => end("The camera was taken away."));
  connect(feed);
  byId("device-strip").hidden = false;
  show();
  // A phone that goes to sleep sends nothing.
  feed.lock = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
}

function connect(mine) {
  if (mine.isVideo) connectVideo(mine);
  else connectSocket(mine);
}

/** Sends the video itself; where that is not possible at all, its pictures over a WebSocket. */
async function connectVideo(mine) {
  let peer = null;
  try {
    peer = await peerTo(mine.name, mine.stream, mine.fps, () => lost(mine, peer));
  } catch (fault) {
    if (mine !== feed) return;
    if (fault.status === 404) {
      end(sentencesOf(fault));
      return;
    }
    mine.isPaused = fault.code === "camera-not-watching";
    mine.isVideo = isForLater(fault);
    if (mine.isVideo) later(mine);
    else connect(mine);
    return;
  }
  if (mine !== feed) {
    peer.close();
    return;
  }
  Object.assign(mine, { peer, attempts: 0 });
  refresh();
  show();
}

function lost(mine, peer) {
  if (mine !== feed || mine.peer !== peer || !peer) return;
  peer.close();
  mine.peer = null;
  if (camera(mine.name)) later(mine);
  else end("The service does not take pictures of this camera any more.");
}

function later(mine) {
  mine.timer = setTimeout(() => mine === feed && connect(mine), retryMs(mine));
  show();
}

/** A camera that was paused takes pictures again: there is nothing more to wait for. */
function resumed() {
  const known = feed?.isPaused ? camera(feed.name) : null;
  if (!known || known.is_paused) return;
  feed.isPaused = false;
  clearTimeout(feed.timer);
  connect(feed);
}

function connectSocket(mine) {
  const socket = new WebSocket(socketAddress(cameraPath(mine.name, "frames")));
  mine.socket = socket;
  mine.sent = mine.seen = mine.refused = 0;
  socket.addEventListener("open", () => {
    mine.heardAt = Date.now();
    send(mine, socket);
  });
  socket.addEventListener("message", (event) => hear(mine, socket, event.data));
  socket.addEventListener("close", (event) => {
    if (mine !== feed || mine.socket !== socket) return;
    if (event.code === 1008 || event.code === 4004 || !camera(mine.name)) {
      end(event.reason || "The service does not take pictures of this camera any more.");
      return;
    }
    later(mine);
  });
}

const retryMs = (mine) => RETRY_MS[Math.min(mine.attempts++, RETRY_MS.length - 1)];

function hear(mine, socket, text) {
  let said = {};
  try {
    said = JSON.parse(text);
  } catch {
    return; // not the count: nothing to learn
  }
  if (mine !== feed || mine.socket !== socket) return;
  mine.heardAt = Date.now();
  if (said.error) {
    mine.refused += 1; // that one is not on its way any more; one bad picture is no reason to stop
    if (mine.refused >= REFUSED_MOST) end(said.error.message);
  } else if (Number.isFinite(said.seen)) {
    mine.seen = said.seen;
    mine.attempts = 0;
    if (mine.seen === 1) refresh();
    show();
  }
}

/** One picture, where the service has looked at those before; then again in one interval. */
async function send(mine, socket) {
  const isMine = () => mine === feed && mine.socket === socket && socket.readyState === 1;
  if (!isMine()) return;
  const begun = performance.now();
  if (mine.sent - mine.seen - mine.refused < UNSEEN_MOST) {
    const jpeg = await pictureOf(mine);
    if (!isMine()) return;
    if (jpeg) {
      socket.send(jpeg);
      mine.sent += 1;
    }
  } else if (Date.now() - mine.heardAt > UNSEEN_MS) {
    socket.close(); // the way back is gone; `close` connects anew
    return;
  }
  const wait = Math.max(0, 1000 / mine.fps - (performance.now() - begun));
  mine.timer = setTimeout(() => send(mine, socket), wait);
}

function pictureOf({ video, canvas }) {
  const { videoWidth: width, videoHeight: height } = video;
  if (!width || !height) return Promise.resolve(null);
  const scale = Math.min(1, LONGEST_SIDE_PX / Math.max(width, height));
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
}

function show() {
  if (!feed) return;
  const isOpen = feed.peer !== null || feed.socket?.readyState === 1;
  setText(
    byId("device-text"),
    isOpen
      ? `This device's camera is sent as ${feed.name}, ${feed.fps} pictures a second. Keep this tab in front.`
      : `This device's camera waits for the service (${feed.name}).`,
  );
}

function end(why = "") {
  if (!feed) return;
  const ended = feed;
  feed = null;
  clearTimeout(ended.timer);
  ended.socket?.close();
  ended.peer?.close();
  for (const track of ended.stream.getTracks()) track.stop();
  ended.lock?.release().catch(() => null);
  byId("device-strip").hidden = true;
  if (why) complain("Not sending any more.", why);
}
