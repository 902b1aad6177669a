// A video to the service over WebRTC: straight to where this page came from, with no server between.

import { call, cameraPath } from "./api.js";

// Longer than the service waits: a WebSocket that follows finds the place free.
const CONNECT_MS = 6000;
const OFFERED_MS = 10000;

/** Whether a fault passes by itself; any other one means that this way is closed. */
export const isForLater = (fault) =>
  [401, 409, 429].includes(fault.status) || ["service-unreachable", "service-full"].includes(fault.code);

/**
 * A connection over which the service sees `stream`; whoever has it closes it.
 * Raises what `call` raises, or an Error where the two do not reach each other.
 */
export async function peerTo(name, stream, fps, whenLost) {
  const peer = new RTCPeerConnection({ iceServers: [] });
  try {
    const [track] = stream.getVideoTracks();
    const sendEncodings = [{ maxFramerate: fps }];
    const { sender } = peer.addTransceiver(track, { direction: "sendonly", streams: [stream], sendEncodings });
    await peer.setLocalDescription();
    await keepSharp(sender);
    // This device's addresses need not be known: it asks the service, never the other way round.
    const { sdp, type } = peer.localDescription;
    const body = { sdp, type };
    const answer = await call("POST", cameraPath(name, "offer"), { body, waitMs: OFFERED_MS });
    await peer.setRemoteDescription(answer);
    await connected(peer);
    peer.addEventListener("connectionstatechange", () => peer.connectionState === "failed" && whenLost());
    // The service says goodbye here; the connection itself would find out seconds later.
    sender.transport.addEventListener("statechange", () => sender.transport.state === "closed" && whenLost());
    return peer;
  } catch (fault) {
    peer.close();
    throw fault;
  }
}

/** On a bad line rather fewer pictures than small ones; not every browser can choose. */
async function keepSharp(sender) {
  const parameters = sender.getParameters();
  parameters.degradationPreference = "maintain-resolution";
  await sender.setParameters(parameters).catch(() => null);
}

function connected(peer) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no way to the service by WebRTC")), CONNECT_MS);
    peer.addEventListener("connectionstatechange", () => {
      if (peer.connectionState === "connected") resolve();
      else if (["failed", "closed"].includes(peer.connectionState)) reject(new Error(peer.connectionState));
      else return;
      clearTimeout(timer);
    });
  });
}
