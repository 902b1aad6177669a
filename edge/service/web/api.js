// Speaks with the service's HTTP API; every failure is an ApiError with a sentence and a hint.

import { tell } from "./store.js";

// The page may stand behind a proxy under a path of its own: everything is relative to this file.
const BASE = new URL("..", import.meta.url);
const ANSWER_MS = 15000;

export class ApiError extends Error {
  constructor(message, { code = "unknown", hint = "", status = 0 } = {}) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.hint = hint;
    this.status = status;
  }
}

/** Address of the API, `path` without a slash in front; `query` leaves out what is undefined. */
export function address(path, query = {}) {
  const full = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) full.searchParams.set(name, value);
  }
  return full.href;
}

export function socketAddress(path) {
  const full = new URL(path, BASE);
  full.protocol = full.protocol === "https:" ? "wss:" : "ws:";
  return full.href;
}

export const cameraPath = (name, rest = "") =>
  `v1/cameras/${encodeURIComponent(name)}${rest ? `/${rest}` : ""}`;

/** Asks the service and waits for the head of its answer. Raises ApiError. */
export async function request(method, path, { body, query, signal, waitMs = ANSWER_MS } = {}) {
  const limit = waitMs ? AbortSignal.timeout(waitMs) : null;
  const signals = [signal, limit].filter(Boolean);
  let answer;
  try {
    answer = await fetch(address(path, query), {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signals.length ? AbortSignal.any(signals) : undefined,
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (fault) {
    if (signal?.aborted) throw fault;
    throw unreachable(limit?.aborted);
  }
  if (!answer.ok) throw await errorFrom(answer);
  return answer;
}

/** The same, with the whole answer as a value; null where it has none. */
export async function call(method, path, options = {}) {
  const answer = await request(method, path, options);
  if (answer.status === 204) return null;
  try {
    return await answer.json();
  } catch {
    throw new ApiError("The service's answer could not be read.", { code: "answer-unreadable" });
  }
}

function unreachable(isLate) {
  return new ApiError(
    isLate ? "The service did not answer in time." : "The service cannot be reached.",
    { code: "service-unreachable", hint: "check that it still runs and that this device is online" },
  );
}

async function errorFrom(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // not one of ours, a proxy's page for example: the status alone is told
  }
  if (answer.status === 401) tell("locked");
  return errorOf(error, answer.status);
}

/** An ApiError from the `error` object of an answer or of a streamed chunk. */
export function errorOf(error, status = 0) {
  const said = typeof error.message === "string" && error.message;
  return new ApiError(said || `The service answered with status ${status}.`, {
    code: error.code ?? `status-${status}`,
    hint: error.hint ?? "",
    status,
  });
}

/** One or two sentences for a person. */
export function sentencesOf(fault) {
  if (!(fault instanceof ApiError)) return `Something on this page failed: ${fault?.message ?? fault}`;
  const first = closed(fault.message);
  return fault.hint ? `${first} ${closed(fault.hint)}` : first;
}

function closed(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
