// The dialogs: asking whether something is meant, asking for the API key, and what all dialogs share.

import { call, sentencesOf } from "./api.js";
import { byId, setText } from "./elements.js";
import { on, tell } from "./store.js";

/** Close buttons and a click beside the dialog close it; Escape does by itself. */
export function startDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    for (const button of dialog.querySelectorAll("[data-close]")) {
      button.addEventListener("click", () => dialog.close("cancel"));
    }
    dialog.addEventListener("click", (event) => {
      if (dialog.id !== "key-dialog" && isBeside(dialog, event)) dialog.close("cancel");
    });
  }
  startKey();
}

function isBeside(dialog, { target, clientX: x, clientY: y, detail }) {
  if (target !== dialog || detail === 0) return false; // 0: a key on a button, at no place
  const box = dialog.getBoundingClientRect();
  return x < box.left || x > box.right || y < box.top || y > box.bottom;
}

/** Whether the reader means it. The safe answer has the focus. */
export function confirmed(title, text, action) {
  const dialog = byId("confirm-dialog");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), action);
  dialog.returnValue = "";
  dialog.showModal();
  byId("confirm-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Whether the API wants a key that this browser has not given yet. */
export async function isLocked() {
  const session = await call("GET", "v1/session");
  return session.needs_key && !session.is_open;
}

function startKey() {
  const dialog = byId("key-dialog");
  const field = byId("key-field");
  let isNeeded = false;
  on("locked", () => {
    if (dialog.open) return;
    isNeeded = true;
    byId("key-error").hidden = true;
    dialog.showModal();
  });
  // Nothing works without it; a browser lets Escape close a dialog the second time.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.addEventListener("close", () => isNeeded && dialog.showModal());
  byId("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = byId("key-send");
    button.disabled = true;
    try {
      // The service keeps it in a cookie that no script can read; here it is forgotten at once.
      await call("POST", "v1/session", { body: { key: field.value } });
      field.value = "";
      isNeeded = false;
      dialog.close();
      tell("unlocked");
    } catch (fault) {
      byId("key-error").hidden = false;
      setText(byId("key-error"), sentencesOf(fault));
      field.select();
    } finally {
      button.disabled = false;
    }
  });
}
