// One key frame: its picture, when and why it was kept, what was said, and which answers used it.

import { address, call, cameraPath, sentencesOf } from "./api.js";
import { byId, element, icon, setText } from "./elements.js";
import { wallOf } from "./store.js";
import { clockTime, dayAndTime, plural, reasonText, scoreText, streamTime } from "./words.js";

/** Its picture, or a placeholder of the same size where the service keeps none. */
export function thumbnail(name, keyFrame) {
  if (!keyFrame.has_picture) return placeholder();
  const path = cameraPath(name, `memory/${encodeURIComponent(keyFrame.id)}.jpg`);
  return element("img", {
    class: "thumb",
    alt: "",
    loading: "lazy",
    src: address(path),
    on: {
      error: (event) => event.target.replaceWith(placeholder()),
    },
  });
}

const placeholder = () => element("span", { class: "thumb thumb-none" }, icon("frame"));

/** Opens the dialog on a key frame of a camera; `known` spares the question to the service. */
export async function openKeyFrame(name, id, known = null) {
  const dialog = byId("key-frame-dialog");
  let keyFrame = known;
  let problem = "";
  if (!keyFrame) {
    try {
      const memory = await call("GET", cameraPath(name, "memory"));
      keyFrame = memory.key_frames.find((one) => one.id === id) ?? null;
      if (!keyFrame) problem = "This key frame is not kept any more: it was merged with a later one or wiped.";
    } catch (fault) {
      problem = sentencesOf(fault);
    }
  }
  setText(byId("key-frame-title"), keyFrame ? `Key frame ${id}` : `Key frame ${id} is gone`);
  byId("key-frame-body").replaceChildren(
    ...(keyFrame ? partsOf(name, keyFrame) : [element("p", { text: problem })]),
  );
  if (!dialog.open) dialog.showModal();
}

function partsOf(name, keyFrame) {
  const wall = keyFrame.wall ?? wallOf(keyFrame.time_s, name);
  const facts = element(
    "dl",
    { class: "facts" },
    ...fact("Seen", `${dayAndTime(wall)} (stream time ${streamTime(keyFrame.time_s, true)})`),
    ...fact("Why it was kept", reasonText(keyFrame.reason)),
    ...fact("Stands for", plural(keyFrame.covers ?? 1, "frame")),
    ...fact("What was said", keyFrame.said || "Nothing."),
  );
  const used = keyFrame.used_by ?? [];
  const answers = used.length
    ? element("ul", { class: "used-by" }, ...used.map(usedBy))
    : element("p", { class: "is-note", text: "No answer has used it." });
  return [
    element("div", { class: "key-frame-picture" }, thumbnail(name, keyFrame)),
    facts,
    element("h3", { text: "Answers that used it" }),
    answers,
  ];
}

const fact = (name, value) => [element("dt", { text: name }), element("dd", { text: value })];

function usedBy({ question, text, score }) {
  return element(
    "li",
    {},
    element("span", { class: "used-question", text: question || "A description" }),
    element("span", { class: "used-answer", text: text || "–" }),
    element("span", { class: "used-score", title: "score", text: scoreText(score) }),
  );
}

export const timeLabel = (name, keyFrame) =>
  clockTime(keyFrame.wall ?? wallOf(keyFrame.time_s, name));
