// A submission as text to copy: a request of curl, a piece of Python, a command of `celeriac`.

import { ROOT, address } from "./api.js";
import { h, icon } from "./dom.js";
import { session } from "./session.js";
import { t } from "./text.js";
import { complain, copy, shellWord } from "./ui.js";

/** The secrets of a payload are shown as this. */
const MASK = "***";
/** The options of a submission that have an option of the command line. */
const FLAGS = {
  queue: "--group",
  priority: "--priority",
  max_retries: "--max-retries",
  delay: "--delay",
  run_at: "--run-at",
  expires: "--expires",
  timeout: "--timeout",
  key: "--key",
  cost: "--cost",
  on_unmet: "--on-unmet",
  user_id: "--user-id",
};

/** Return the submission that makes a task like this one: `{type, payload, queue, …}`. */
export function submissionOf(task) {
  // What a definition noted is not true of another task.
  const { schedule, ...metadata } = task.metadata ?? {};
  const found = {
    type: task.type,
    payload: task.payload ?? {},
    queue: task.queue,
    key: task.key,
    priority: task.priority,
    max_retries: task.max_retries,
    tags: task.tags,
    user_id: task.user_id,
    metadata: Object.keys(metadata).length ? metadata : null,
  };
  const left = ([name, value]) => name === "type" || name === "payload" || (Array.isArray(value) ? value.length : value || (name === "max_retries" && value === 0));
  return Object.fromEntries(Object.entries(found).filter(left));
}

/** Return whether a secret is hidden in the payload of a submission. It must be written again before it is sent. */
export function hasMask(value) {
  if (value === MASK) return true;
  return typeof value === "object" && value !== null && Object.values(value).some(hasMask);
}

/** Return a literal of Python for a value of JSON. */
function literal(value, indent = "") {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") return JSON.stringify(value).replace(/[\u007f-\u009f]/g, (one) => `\\x${one.charCodeAt(0).toString(16)}`);
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const list = Array.isArray(value);
  const items = list ? value.map((one) => literal(one, inner)) : Object.entries(value).map(([name, one]) => `${literal(name)}: ${literal(one, inner)}`);
  const [open, close] = list ? "[]" : "{}";
  const line = `${open}${items.join(", ")}${close}`;
  return line.length <= 72 && !line.includes("\n") ? line : `${open}\n${items.map((one) => `${inner}${one},\n`).join("")}${indent}${close}`;
}

/** Return a command of curl that submits. With `signedIn` it sends a token. */
export function asCurl(submission, { signedIn = false } = {}) {
  const heads = ["-H 'Content-Type: application/json'", ...(signedIn ? ['-H "Authorization: Bearer $CELERIAC_TOKEN"'] : [])];
  // A word in single quotes: `$` and `!` in the payload stay what they are.
  const body = `'${JSON.stringify(submission).replaceAll("'", "'\\''")}'`;
  return [`curl ${shellWord(address("tasks").href)}`, ...heads, `-d ${body}`].join(" \\\n  ");
}

/** Return a program in Python that submits and prints the result. */
export function asPython(submission, { signedIn = false } = {}) {
  const { type, payload, ...options } = submission;
  const more = Object.entries(options).map(([name, value]) => `    ${name}=${literal(value, "    ")},\n`);
  const given = `    ${literal(type)},\n    ${literal(payload, "    ")},\n${more.join("")}`;
  const comment = signedIn ? "# The token is in CELERIAC_TOKEN.\n" : "";
  return `from celeriac import Client\n\n${comment}client = Client(${literal(ROOT.href.replace(/\/$/, ""))})\nhandle = client.submit(\n${given})\nprint(handle.result())\n`;
}

/** Return a command of `celeriac` that submits. */
export function asCommand(submission) {
  const { type, payload, metadata, tags = [], depends_on: after = [], once, debounce, ...options } = submission;
  const words = [`celeriac submit ${shellWord(type)}`, `--payload ${shellWord(JSON.stringify(payload))}`];
  for (const [name, value] of Object.entries(options)) if (FLAGS[name]) words.push(`${FLAGS[name]} ${shellWord(String(value))}`);
  for (const tag of tags) words.push(`--tag ${shellWord(tag)}`);
  for (const one of after) words.push(`--after ${shellWord(typeof one === "string" ? one : `${one.task}:${one.when ?? "completed"}`)}`);
  if (metadata) words.push(`--metadata ${shellWord(JSON.stringify(metadata))}`);
  const more = {
    "--once-key": once?.key,
    "--until": once?.until,
    "--on-conflict": once?.on_conflict,
    "--debounce-key": debounce?.key,
    "--debounce-delay": debounce?.delay,
    "--debounce-max": debounce?.max_delay,
  };
  for (const [name, value] of Object.entries(more)) if (value) words.push(`${name} ${shellWord(String(value))}`);
  if (debounce?.payload === "first") words.push("--debounce-first");
  return words.join(" \\\n  ");
}

const WAYS = { curl: asCurl, python: asPython, command: asCommand };

/** Return buttons that copy what `read()` returns, a submission, in each way. `read` may throw with a text for people. */
export function copyAsButtons(read) {
  const one = async (way) => {
    try {
      const { signed_in: signedIn } = await session;
      await copy(WAYS[way](read(), { signedIn }), t(`copyas.${way}_copied`));
    } catch (failure) {
      complain(failure);
    }
  };
  return h(
    "span",
    { class: "copy-as", role: "group", "aria-label": t("copyas.label") },
    Object.keys(WAYS).map((way) => h("button", { class: "button small quiet", type: "button", title: t(`copyas.${way}_hint`), onclick: () => one(way) }, icon("copy"), t(`copyas.${way}`))),
  );
}
