// Tells a person what happened: the live region for screen readers, toasts, and the device's notifications.

import { byId, element, icon } from "./elements.js";

const TOASTS_AT_ONCE = 4;
const TOAST_MS = 9000;
// A screen reader that is spoken to more often never finishes a sentence; the newest one wins.
const SPOKEN_EVERY_MS = 2500;

let waiting = null;
let lastSpoken = 0;
let timer = null;

/** Has a screen reader say it when it has said what it is saying. */
export function announce(text) {
  waiting = text;
  clearTimeout(timer);
  const wait = Math.max(0, lastSpoken + SPOKEN_EVERY_MS - Date.now());
  timer = setTimeout(() => {
    lastSpoken = Date.now();
    byId("announcements").textContent = waiting;
  }, wait);
}

/** A note in the corner; `kind`: calm, good, bad or told. It stays while it is looked at. */
export function toast(title, text = "", kind = "calm") {
  const shelf = byId("toasts");
  while (shelf.children.length >= TOASTS_AT_ONCE) shelf.firstChild.remove();
  const note = element(
    "div",
    { class: `toast toast-${kind}` },
    element(
      "div",
      { class: "toast-words" },
      element("strong", { text: title }),
      text ? element("p", { text }) : null,
    ),
    element(
      "button",
      { type: "button", class: "quiet", "aria-label": "Dismiss", on: { click: () => note.remove() } },
      icon("close"),
    ),
  );
  shelf.append(note);
  (function leave() {
    setTimeout(() => {
      if (note.matches(":hover, :focus-within")) leave();
      else note.remove();
    }, TOAST_MS);
  })();
}

/** What went wrong, to eyes and ears. */
export function complain(title, sentences) {
  toast(title, sentences, "bad");
  announce(`${title} ${sentences}`);
}

const canNotify = () => "Notification" in globalThis && globalThis.isSecureContext;

/** Sends a notification of the device where the reader allowed it; says whether it did. */
export function notify(title, body, tag) {
  if (!canNotify() || Notification.permission !== "granted") return false;
  try {
    const note = new Notification(title, { body, tag, icon: new URL("icon.svg", import.meta.url).href });
    note.onclick = () => {
      globalThis.focus();
      note.close();
    };
    return true;
  } catch {
    return false; // phones want a service worker for it; the toast has told it already
  }
}

/** The switch beside the standing requests: asks for permission only when it is pressed. */
export function startNotifying() {
  const button = byId("notify");
  const text = byId("notify-text");
  function show() {
    if (!canNotify()) {
      button.hidden = true;
      return;
    }
    const isOn = Notification.permission === "granted";
    button.disabled = Notification.permission !== "default";
    button.classList.toggle("is-on", isOn);
    text.textContent = { granted: "Notifications on", denied: "Notifications blocked" }[
      Notification.permission
    ] ?? "Notify this device";
  }
  button.addEventListener("click", async () => {
    await Notification.requestPermission();
    show();
  });
  show();
}
