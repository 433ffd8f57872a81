// Values as what they are: pictures, films, chats, and JSON as a tree that opens piece by piece.

import { address, segment } from "./api.js";
import { h, setText } from "./dom.js";
import { duration, jsonBlock, number, ranFor } from "./format.js";
import { t } from "./text.js";
import { debounce } from "./ui.js";

/** JSON up to this length is shown as a whole, because colours cost elements (characters). */
const WHOLE = 900;
/** How many entries of a list or object are shown at once. */
const ENTRIES = 25;
/** How many entries of a fresh tree are open. */
const OPEN = 30;
/** How long a text in a tree is shown; and how many places a search shows. */
const TEXT = 300;
const FOUND = 40;
/** Most messages of a chat that are shown. */
const MESSAGES = 30;

const isContainer = (value) => typeof value === "object" && value !== null && Object.keys(value).length > 0;
const kindOf = (value) => (value === null || typeof value === "boolean" ? "word" : typeof value === "string" ? "text" : "number");

function scalar(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (typeof value !== "string" || text.length <= TEXT) return h("span", { class: kindOf(value) }, typeof value === "string" ? JSON.stringify(text) : text);
  // A long text opens by itself, and costs nothing before.
  const rest = h("pre", { class: "tree-text", tabindex: 0 });
  const details = h("details", { class: "tree-long" }, h("summary", {}, h("span", { class: "text" }, `${JSON.stringify(text.slice(0, 120)).slice(0, -1)}…`), h("span", { class: "faint" }, t("values.characters", { n: text.length }))), rest);
  details.addEventListener("toggle", () => details.open && (rest.textContent = text));
  return details;
}

/** Return the entries of a container from one on, and a button for those after them. `budget.left` entries may still be opened. */
function entries(value, from, budget) {
  const list = Array.isArray(value);
  const names = Object.keys(value);
  const shown = names.slice(from, from + ENTRIES).map((name) => entry(list ? Number(name) : name, value[name], budget));
  const left = names.length - from - ENTRIES;
  if (left <= 0) return shown;
  const more = h("button", { class: "button small quiet", type: "button", onclick: () => more.parentElement.replaceWith(...entries(value, from + ENTRIES, { left: 0 })) }, t("values.more", { n: left }));
  return [...shown, h("li", {}, more)];
}

function entry(name, value, budget) {
  const key = h("span", { class: typeof name === "number" ? "faint" : "key" }, `${name}: `);
  if (!isContainer(value)) return h("li", {}, key, scalar(value));
  const count = Object.keys(value).length;
  const open = budget.left >= Math.min(count, ENTRIES);
  if (open) budget.left -= Math.min(count, ENTRIES);
  const inside = h("ul", {}, open ? entries(value, 0, budget) : null);
  const details = h("details", { open }, h("summary", {}, key, h("span", { class: "faint" }, Array.isArray(value) ? `[${number(count)}]` : `{${number(count)}}`)), inside);
  details.addEventListener("toggle", () => details.open && !inside.childElementCount && inside.append(...entries(value, 0, { left: 0 })));
  return h("li", {}, details);
}

/** Yield the places of scalars and keys that contain a text: `[path, value]`. */
function* search(value, wanted, path = "") {
  for (const name of Object.keys(value)) {
    const place = Array.isArray(value) ? `${path}[${name}]` : path ? `${path}.${name}` : name;
    const one = value[name];
    const text = isContainer(one) ? "" : typeof one === "string" ? one : JSON.stringify(one);
    if ((!Array.isArray(value) && name.toLowerCase().includes(wanted)) || text.toLowerCase().includes(wanted)) yield [place, one];
    if (isContainer(one)) yield* search(one, wanted, place);
  }
}

/** Return JSON: a small value as a whole, a large one as a tree with a search. */
export function jsonValue(value, label) {
  const text = JSON.stringify(value, null, 2) ?? "null";
  if (text.length <= WHOLE || !isContainer(value)) return jsonBlock(value, WHOLE);
  const tree = h("ul", { class: "tree", tabindex: 0, "aria-label": label }, entries(value, 0, { left: OPEN }));
  const found = h("ul", { class: "tree", hidden: true, tabindex: 0, "aria-label": t("values.found_label") });
  const said = h("span", { class: "small muted", role: "status" });
  const field = h("input", { class: "field small", type: "search", placeholder: t("values.search"), "aria-label": t("values.search"), spellcheck: "false" });
  const look = () => {
    const wanted = field.value.trim().toLowerCase();
    tree.hidden = Boolean(wanted);
    found.hidden = !wanted;
    if (!wanted) return setText(said, "");
    const places = [];
    let all = 0;
    for (const place of search(value, wanted)) {
      if (places.length < FOUND) places.push(place);
      if (++all > 9999) break;
    }
    found.replaceChildren(...places.map(([path, one]) => h("li", {}, h("span", { class: "key" }, `${path}: `), isContainer(one) ? h("span", { class: "faint" }, Array.isArray(one) ? `[${one.length}]` : `{${Object.keys(one).length}}`) : scalar(one))));
    return setText(said, all > places.length ? t("values.found_first", { n: all, shown: places.length }) : t("values.found", { n: all }));
  };
  field.addEventListener("input", debounce(look, 200));
  return h("div", { class: "json-value" }, h("div", { class: "tree-tools" }, field, said), tree, found);
}

// --- chats

/** Return the text of a message's content: a text, or parts of which some have one. */
function contentText(content) {
  if (typeof content === "string") return content;
  if (Array.isArray(content)) return content.map((part) => (typeof part === "string" ? part : (part?.text ?? `[${part?.type ?? t("values.part")}]`))).join("\n");
  return content === null || content === undefined ? "" : JSON.stringify(content);
}

const isMessage = (one) => typeof one === "object" && one !== null && typeof one.role === "string";
/** Return whether a payload is a chat: a list of messages. */
export const isChat = (payload) => Array.isArray(payload?.messages) && payload.messages.length > 0 && payload.messages.every(isMessage);

/** Return the messages that a result of a chat has. */
function answersOf(result) {
  if (typeof result === "string") return [{ role: "assistant", content: result }];
  if (Array.isArray(result?.choices)) return result.choices.map((choice) => choice?.message ?? { role: "assistant", content: choice?.text ?? choice });
  if (isMessage(result?.message)) return [result.message];
  return typeof result === "object" && result !== null && "content" in result ? [{ role: "assistant", ...result }] : [];
}

function bubble(message) {
  const calls = Array.isArray(message.tool_calls) ? message.tool_calls : [];
  const role = ["system", "user", "assistant", "tool"].includes(message.role) ? t(`values.role.${message.role}`) : message.role;
  return h(
    "li",
    { class: "bubble", dataset: { role: message.role } },
    h("span", { class: "small muted" }, role),
    h("p", {}, contentText(message.content)),
    calls.length ? h("p", { class: "mono small" }, calls.map((call) => `${call?.function?.name ?? "?"}(${call?.function?.arguments ?? ""})`).join("\n")) : null,
  );
}

const bubbles = (messages) => [
  ...(messages.length > MESSAGES ? [h("p", { class: "small muted" }, t("values.messages_left", { n: messages.length - MESSAGES }))] : []),
  h("ol", { class: "chat" }, messages.slice(-MESSAGES).map(bubble)),
];

/** Return the tokens of a chat in a sentence, or null. */
function tokensOf(task) {
  const usage = task.result?.usage;
  const made = usage?.completion_tokens;
  if (!Number.isFinite(made)) return null;
  const ran = ranFor(task);
  const rate = ran ? t("values.per_second", { n: number(Math.round((made * 10000) / ran) / 10) }) : null;
  return [Number.isFinite(usage.prompt_tokens) ? t("values.tokens_in", { n: usage.prompt_tokens }) : null, t("values.tokens_out", { n: made }), rate, ran ? duration(ran) : null].filter(Boolean).join(" · ");
}

// --- media

const MEDIA = { image: ["png", "jpg", "jpeg", "gif", "webp", "avif", "bmp"], video: ["mp4", "webm", "m4v", "mov", "mkv"], audio: ["mp3", "ogg", "wav", "flac", "m4a", "opus", "aac"] };

function mediaOf(task) {
  const path = task.result?.result_file_path;
  if (typeof path !== "string") return null;
  const [name] = path.split(/[/\\]/).slice(-1);
  const said = task.result.files?.[name]?.media_type?.split("/")[0];
  const kind = said in MEDIA ? said : Object.keys(MEDIA).find((one) => MEDIA[one].includes(name.split(".").at(-1).toLowerCase()));
  return kind ? { kind, name } : null;
}

/** Return a picture or a player for the file of a task. The file itself comes when it is played. */
function media({ kind, name }, task) {
  const source = address(`tasks/${segment(task.task_id)}/file`, { inline: "true" }).href;
  const broken = h("p", { class: "muted small", hidden: true }, t("values.no_media"));
  const onerror = (event) => ((event.currentTarget.hidden = true), (broken.hidden = false));
  const element =
    kind === "image" ? h("img", { src: source, alt: t("values.picture", { name }), loading: "lazy", onerror }) : h(kind, { src: source, controls: true, preload: "metadata", "aria-label": name, onerror });
  return h("figure", { class: "media" }, element, broken, h("figcaption", { class: "small muted" }, name));
}

// --- what the page shows

/** Return the elements for the result of a completed task. */
export function resultOf(task) {
  if (task.result === null || task.result === undefined) return [h("p", { class: "muted" }, t("values.nothing"))];
  const shown = [];
  const found = mediaOf(task);
  if (found) shown.push(media(found, task));
  const answers = isChat(task.payload) ? answersOf(task.result) : [];
  if (answers.length) {
    shown.push(...bubbles(answers));
    const tokens = tokensOf(task);
    if (tokens) shown.push(h("p", { class: "small muted tokens" }, tokens));
  }
  if (!shown.length) return [jsonValue(task.result, t("task.result"))];
  return [...shown, folded(task.result, t("task.result"))];
}

/** Return the elements for the payload of a task. */
export function payloadOf(task) {
  if (!isChat(task.payload)) return [jsonValue(task.payload, t("task.payload"))];
  return [...bubbles(task.payload.messages), folded(task.payload, t("task.payload"))];
}

function folded(value, label) {
  const details = h("details", { class: "folded" }, h("summary", { class: "small" }, t("values.as_json")));
  details.addEventListener("toggle", () => details.open && details.childElementCount === 1 && details.append(jsonValue(value, label)));
  return details;
}
