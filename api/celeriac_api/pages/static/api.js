// Calls of the HTTP API. Addresses are relative to this file, so it works below any path.

export const ROOT = new URL("../../", import.meta.url);
const BASE = new URL("api/v1/", ROOT);

/** A refusal by the API: `status`, `code`, and a text for people. */
export class Problem extends Error {
  constructor(status, document) {
    super(document?.detail || document?.title || `the server answered ${status}`);
    this.status = status;
    this.code = document?.code ?? "";
    this.errors = document?.errors ?? [];
  }
}

export function address(path, query) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined && one !== null && one !== "") url.searchParams.append(name, one);
  }
  return url;
}

/** Answers that `first-view.js` asked for while this file was fetched, by their addresses. Each is taken once. */
const early = globalThis.firstAnswers ?? new Map();
/** An answer that nobody has taken for so long is old (ms). */
const EARLY_MS = 5000;
setTimeout(() => early.clear(), EARLY_MS);

function takeEarly(method, { href }) {
  const answer = method === "GET" ? early.get(href) : undefined;
  early.delete(href);
  return answer;
}

/** How many calls wait for their answers. */
let waiting = 0;
export const busy = () => waiting > 0;

async function ask(...call) {
  waiting++;
  try {
    return await answerOf(...call);
  } finally {
    waiting--;
  }
}

async function answerOf(method, path, { query, body, signal, headers } = {}) {
  const url = address(path, query);
  let answer;
  try {
    answer = await (takeEarly(method, url) ??
      fetch(url, {
        method,
        signal,
        credentials: "same-origin",
        headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
      }));
    signal?.throwIfAborted();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "the server cannot be reached" });
  }
  const text = await answer.text();
  let document = null;
  try {
    document = text ? JSON.parse(text) : null;
  } catch {
    document = { detail: text.slice(0, 300) };
  }
  if (!answer.ok) {
    if (answer.status === 401) dispatchEvent(new CustomEvent("signedout"));
    throw new Problem(answer.status, document);
  }
  return document;
}

export const get = (path, query, options) => ask("GET", path, { query, ...options });
/** Send a body, which may be `null`; without one, `{}`. */
export const post = (path, body = {}, options = {}) => ask("POST", path, { body, ...options });
export const put = (path, body, options) => ask("PUT", path, { body, ...options });
export const patch = (path, body, options) => ask("PATCH", path, { body, ...options });
export const remove = (path, options) => ask("DELETE", path, options);

/** Return a key for one action, so that a repeated request performs it once. */
export const onceKey = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

export const segment = (text) => encodeURIComponent(text);
