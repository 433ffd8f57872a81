// Why a task waits: the reasons of the API as lines, with links to what they name.

import { segment } from "./api.js";
import { h } from "./dom.js";
import { fullTime } from "./format.js";

/** A moment in a sentence. */
const MOMENT = /\d{4}-\d\d-\d\dT[\d:.]+Z/g;
/** What a line begins with, by the code of its reason. */
const WORDS = {
  scheduled: "time",
  sleeping: "time",
  retry: "retry",
  position: "place",
  limit: "limit",
  paused: "paused",
  no_worker: "no worker",
  dependency: "task",
  signal: "signal",
};
/** Where the things are that a sentence may name, by the word before the name. */
const PLACES = {
  task: (id) => `#/tasks/${segment(id)}`,
  group: () => "#/groups",
  rule: (name) => `#/limits/${segment(name)}`,
  key: (key) => `#/tasks?key=${segment(key)}`,
};

const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Return the sentence of a reason as texts and links. */
function sentence(reason) {
  const named = Object.entries(PLACES).filter(([kind]) => typeof reason[kind] === "string" && reason[kind]);
  const text = reason.text.replace(MOMENT, (at) => fullTime(at));
  if (!named.length) return [text];
  const pattern = new RegExp(named.map(([kind]) => `(?<=\\b${kind} )${literal(reason[kind])}(?![\\w-])`).join("|"), "g");
  const parts = [];
  let last = 0;
  for (const found of text.matchAll(pattern)) {
    const before = text.slice(0, found.index);
    const [, place] = named.find(([kind]) => before.endsWith(`${kind} `) && reason[kind] === found[0]);
    parts.push(text.slice(last, found.index), h("a", { href: place(found[0]) }, found[0]));
    last = found.index + found[0].length;
  }
  return [...parts, text.slice(last)];
}

/** Return one line for each reason. */
export function whyLines(reasons) {
  return reasons.map((reason) => h("li", { dataset: { code: reason.code } }, h("span", { class: "chip" }, WORDS[reason.code] ?? reason.code), h("span", {}, ...sentence(reason))));
}
