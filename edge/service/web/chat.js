// Questions and answers: asked of the camera that is looked at, answered as they are spoken.

import { readAnswer } from "./answer_stream.js";
import { call, request, sentencesOf } from "./api.js";
import { byId, element, icon, setText } from "./elements.js";
import { openKeyFrame, thumbnail } from "./key_frame.js";
import { announce } from "./notices.js";
import { camera, on, state } from "./store.js";
import { clockTime, scoreText, streamTime } from "./words.js";

const KEPT_MESSAGES = 100;
const SHOWN_KEY_FRAMES = 6;
const END_PX = 40;

let asking = null; // AbortController of the answer that is spoken

export function startChat() {
  byId("ask-form").addEventListener("submit", submit);
  byId("stop").addEventListener("click", () => asking?.abort());
  for (const button of byId("suggestions").querySelectorAll("button")) {
    button.addEventListener("click", () => ask(button.textContent));
  }
  on("cameras", show);
  on("chosen", show);
  on("linked", readModel);
  on("unlinked", show);
  on("wiped", forget);
  show();
}

async function readModel() {
  try {
    const { data } = await call("GET", "v1/models");
    state.model = data[0]?.id ?? null;
  } catch {
    state.model = null; // the chat says so when it is asked
  }
  show();
}

function show() {
  const known = camera();
  const canAsk = state.isLinked && known && known.can_answer !== false;
  byId("ask").disabled = !canAsk;
  byId("ask").hidden = asking !== null;
  byId("stop").hidden = asking === null;
  const talked = showTalkOf(state.chosen) > 0;
  byId("suggestions").hidden = !canAsk || talked;
  byId("chat-empty").hidden = talked;
  setText(
    byId("chat-empty"),
    known && known.can_answer === false
      ? `${known.name} is not watched now and can answer nothing.`
      : "Ask about now, or about anything it has watched.",
  );
  setText(byId("ask-of"), known ? `of ${known.name}` : "");
}

/** Shows what one camera was asked, and nothing of the others; how much that is. */
function showTalkOf(name) {
  let shown = 0;
  for (const exchange of byId("messages").children) {
    exchange.hidden = exchange.dataset.camera !== name;
    shown += exchange.hidden ? 0 : 1;
  }
  return shown;
}

/** What a camera was asked goes with its memory. */
function forget(name) {
  for (const exchange of [...byId("messages").children]) {
    if (exchange.dataset.camera === name) exchange.remove();
  }
  show();
}

function submit(event) {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (question && !asking) {
    byId("question").value = "";
    ask(question);
  }
}

async function ask(question) {
  if (asking) return;
  const asked = state.chosen;
  const mine = (asking = new AbortController());
  const scope = byId("scope").value;
  const answer = startAnswer(question, asked);
  show();
  try {
    const response = await request("POST", "v1/chat/completions", {
      body: {
        model: state.model ?? "edgestream",
        stream: true,
        camera: asked,
        messages: [{ role: "user", content: scope + question }],
      },
      signal: mine.signal,
      waitMs: 0, // it may wait for the answers before it; the stop button is there for the impatient
    });
    const extension = await readAnswer(response, answer.add);
    answer.end(extension);
    announce(`Answer: ${answer.text()}`);
  } catch (fault) {
    if (mine.signal.aborted) answer.stop();
    else {
      answer.fail(sentencesOf(fault));
      announce(`No answer. ${sentencesOf(fault)}`);
    }
  } finally {
    asking = null;
    show();
  }
}

/** Puts question and answer below; the ways to fill the answer. */
function startAnswer(question, name) {
  const text = element("p", { class: "answer-text" });
  const foot = element("div", { class: "answer-foot" });
  const dots = element("span", { class: "dots", "aria-hidden": "true" });
  for (let i = 0; i < 3; i += 1) dots.append(element("i"));
  const body = element("div", { class: "answer" }, text, dots, foot);
  const list = byId("messages");
  list.append(
    element(
      "li",
      { class: "exchange", data: { camera: name } },
      element(
        "p",
        { class: "question" },
        element("span", { class: "visually-hidden", text: "You asked: " }),
        question,
      ),
      body,
    ),
  );
  while (list.childElementCount > KEPT_MESSAGES) list.firstChild.remove();
  keepAtEnd(true);
  const over = () => dots.remove();
  return {
    text: () => text.textContent,
    add: (piece) => {
      text.append(piece);
      keepAtEnd();
    },
    end: (extension) => {
      over();
      if (!text.textContent.trim()) {
        text.textContent = "It had nothing to say.";
        text.classList.add("is-note");
      }
      showFoot(foot, extension, name);
      keepAtEnd();
    },
    stop: () => {
      over();
      foot.append(element("span", { class: "is-note", text: "Stopped." }));
    },
    fail: (sentences) => {
      over();
      body.classList.add("is-fault");
      body.append(element("p", { class: "answer-fault" }, icon("alert"), sentences));
      keepAtEnd(true);
    },
  };
}

/** When it is about, and the key frames that it was answered from. */
function showFoot(foot, extension, name) {
  const facts = [clockTime(Date.now())];
  const [from, to] = extension.about_s ?? [];
  if (Number.isFinite(from)) {
    facts.push(from === to ? `about ${streamTime(to)}` : `about ${streamTime(from)}–${streamTime(to)}`);
  }
  if (extension.context === "recall") facts.push("from memory");
  foot.append(element("span", { text: facts.join(" · ") }));
  const used = extension.used ?? [];
  if (!used.length) return;
  foot.append(
    element(
      "ul",
      { class: "used", "aria-label": "Key frames that were used" },
      ...used.slice(0, SHOWN_KEY_FRAMES).map(({ id, score }) =>
        element("li", {}, element(
          "button",
          {
            type: "button",
            class: "used-frame",
            "aria-label": `Key frame ${id}, score ${scoreText(score)}`,
            on: { click: () => openKeyFrame(name, id) },
          },
          thumbnail(name, { id, has_picture: true }),
          element("span", { class: "used-score", text: scoreText(score) }),
        )),
      ),
    ),
  );
  if (used.length > SHOWN_KEY_FRAMES) {
    foot.append(element("span", { text: `and ${used.length - SHOWN_KEY_FRAMES} more` }));
  }
}

/** Follows the answer only for a reader who is at the end. */
function keepAtEnd(isMeant = false) {
  const box = byId("messages");
  if (isMeant || box.scrollHeight - box.scrollTop - box.clientHeight < END_PX) {
    box.scrollTop = box.scrollHeight;
  }
}
