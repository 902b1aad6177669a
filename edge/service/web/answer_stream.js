// Reads a streamed chat completion: the pieces of the text as they come, and what the last one adds.

import { ApiError, errorOf } from "./api.js";

/**
 * Calls `onText(piece)` for each piece of the answer to `answer` (a Response whose body is
 * `data: {…}` lines, ended by `data: [DONE]`). Returns the extension `edgestream` of the last
 * chunk, or {}. Raises ApiError for an error within the stream and for one that breaks off.
 */
export async function readAnswer(answer, onText) {
  let extension = {};
  let isDone = false;
  for await (const data of dataLines(answer.body)) {
    if (data === "[DONE]") {
      isDone = true;
      break;
    }
    const chunk = parsed(data);
    if (chunk.error) throw errorOf(chunk.error, answer.status);
    if (chunk.edgestream) extension = chunk.edgestream;
    for (const choice of chunk.choices ?? []) {
      if (choice.delta?.content) onText(choice.delta.content);
      if (choice.finish_reason) isDone = true;
    }
  }
  if (!isDone) {
    throw new ApiError("The answer broke off before its end.", {
      code: "answer-cut",
      hint: "ask again",
    });
  }
  return extension;
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new ApiError("A piece of the answer could not be read.", { code: "answer-unreadable" });
  }
}

/** The `data:` values of a body of server-sent events, however the network has cut it. */
async function* dataLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
    }
    if (rest.startsWith("data:")) data.push(rest.slice(5).trim());
    if (data.length) yield data.join("\n");
  } finally {
    reader.cancel().catch(() => null);
  }
}
