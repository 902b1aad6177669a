// Starts the page: each part takes its place, then the stream of records is opened.

import { startCameras } from "./cameras.js";
import { startChat } from "./chat.js";
import { startCounters } from "./counters.js";
import { startDeviceCamera } from "./device_camera.js";
import { startDialogs } from "./dialogs.js";
import { byId, setText } from "./elements.js";
import { startLive } from "./live.js";
import { startMemory } from "./memory.js";
import { startNotifying } from "./notices.js";
import { startSays } from "./says.js";
import { startStanding } from "./standing.js";
import { startStream } from "./stream.js";
import { startTimeline } from "./timeline.js";
import { startTrace } from "./trace.js";

function startTheme() {
  const { CHOICES, kept, set } = globalThis.edgestreamTheme;
  const words = { auto: "as the device", light: "light", dark: "dark" };
  const button = byId("theme");
  function show(choice) {
    byId("theme-icon").setAttribute("href", `#i-theme-${choice}`);
    setText(byId("theme-text"), `Colours: ${words[choice]}`);
    button.title = `Colours: ${words[choice]}`;
  }
  button.addEventListener("click", () => {
    const next = CHOICES[(CHOICES.indexOf(kept()) + 1) % CHOICES.length];
    set(next);
    show(next);
  });
  show(kept());
}

startTheme();
startDialogs();
startNotifying();
startLive();
startSays();
startChat();
startStanding();
startTimeline();
startTrace();
startMemory();
startCounters();
startDeviceCamera();
startCameras();
startStream();
