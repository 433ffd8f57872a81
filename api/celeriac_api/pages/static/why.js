// Why a task waits: the reasons of the API as lines, with links to what they name. Their sentences are in English.

import { post, segment } from "./api.js";
import { h } from "./dom.js";
import { fullTime } from "./format.js";
import { t } from "./text.js";
import { complain, note } from "./ui.js";

/** A moment in a sentence. */
const MOMENT = /\d{4}-\d\d-\d\dT[\d:.]+Z/g;
/** The codes of reasons that have a word of their own. */
const CODES = ["scheduled", "sleeping", "retry", "position", "limit", "paused", "no_worker", "dependency", "signal"];
/** The name of a rule that is the limits of a group begins with this. */
const OF_GROUP = "group:";
/** The id of a task. */
const ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
/** Where the things are that a sentence may name, by the word before the name. */
const PLACES = {
  task: (id) => `#/tasks/${segment(id)}`,
  group: () => "#/groups",
  rule: (name) => `#/limits/${segment(name)}`,
  key: (key) => `#/tasks?key=${segment(key)}`,
  user: (user) => `#/tasks?user_id=${segment(user)}`,
};

const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Return the sentence of a reason as texts and links. */
function sentence({ text, task, group, rule, key }) {
  const limited = rule?.startsWith(OF_GROUP) ? rule.slice(OF_GROUP.length) : null;
  const named = Object.entries({ task, group: group ?? limited, rule, key, user: key }).filter(([, value]) => value);
  const patterns = [...named.map(([kind, value]) => `(?<=\\b(?<${kind}>${kind} ))${literal(value)}`), `(?<=\\b(?<other>task ))${ID}`];
  const whole = text.replace(MOMENT, (at) => fullTime(at));
  const parts = [];
  let last = 0;
  for (const found of whole.matchAll(new RegExp(`(?:${patterns.join("|")})(?![\\w-])`, "g"))) {
    const [kind] = Object.entries(found.groups).find(([, word]) => word);
    parts.push(whole.slice(last, found.index), h("a", { href: PLACES[kind === "other" ? "task" : kind](found[0]) }, found[0]));
    last = found.index + found[0].length;
  }
  return [...parts, whole.slice(last)];
}

/** A button that resumes a paused group, for those who may. */
function resume(group) {
  const act = async ({ currentTarget: button }) => {
    button.disabled = true;
    try {
      await post(`groups/${segment(group)}/resume`);
      note(t("groups.resumed", { name: group }));
    } catch (error) {
      button.disabled = false;
      complain(error);
    }
  };
  return h("button", { class: "button small admin-only", type: "button", onclick: act }, t("groups.resume"));
}

/** Return one line for each reason, and for each warning that is not among them. */
export function whyLines({ reasons, warnings = [] }) {
  const texts = new Set(reasons.map((reason) => reason.text));
  return [...reasons, ...warnings.filter((warning) => !texts.has(warning.text))].map((reason) => h("li", { dataset: { code: reason.code } }, h("span", { class: "chip" }, CODES.includes(reason.code) ? t(`why.${reason.code}`) : reason.code), h("span", { lang: "en" }, ...sentence(reason)), reason.code === "paused" && reason.group ? resume(reason.group) : null));
}
