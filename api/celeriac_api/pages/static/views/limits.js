// Limits: the rules, what waits and runs under each of them; create, edit and delete a rule.

import { get, remove, segment } from "../api.js";
import { h, setText, statusBadge } from "../dom.js";
import { number } from "../format.js";
import { ruleForm } from "../rule-form.js";
import { command, complain, confirm, note, repeat } from "../ui.js";

/** How often the page reads what waits and runs (ms). */
const AGAIN_MS = 3000;
/** What a rule counts separately. */
const EACH = { key: "each key", user: "each user" };

/** The address of a rule's page. */
export const ruleAddress = (name) => `#/limits/${segment(name)}`;

/** Return the address of the tasks that a rule covers; with a key (or user), of its tasks only. */
export function tasksOf(rule, key = null) {
  const query = new URLSearchParams();
  if (rule.group) query.set("queue", rule.group);
  if (rule.type) query.set("type", rule.type);
  if (key !== null) query.set(rule.by === "user" ? "user_id" : "key", key);
  return `#/tasks?${query}`;
}

/** Return in words which tasks a rule covers. */
export function coversWords({ group, type, by }) {
  const tasks = [type ? `type ${type}` : null, group ? `group ${group}` : null].filter(Boolean).join(", ");
  return by === "all" ? tasks : `${tasks}, ${EACH[by]} by itself`;
}

/** Return in words what a rule allows, one text for each of its limits. */
export function limitWords(rule) {
  return [
    rule.max_running ? `at most ${number(rule.max_running)} running` : null,
    rule.rate ? `${rule.rate} starting` : null,
    rule.fair ? `${rule.by}s take turns` : null,
    rule.ordered ? "one at a time, in order" : null,
    rule.max_waiting ? `at most ${number(rule.max_waiting)} waiting` : null,
  ].filter(Boolean);
}

/** Ask, and delete a rule; resolves with true if it is gone. */
export async function deleteRule(name) {
  const text = "What waits for its places may start at once, as far as other rules allow.";
  if (!(await confirm({ title: `Delete the rule ${name}?`, text, action: "Delete", danger: true }))) return false;
  try {
    await remove(`limits/${segment(name)}`);
    note(`${name} is deleted`);
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

export function show(root, { ending }) {
  const body = h("tbody", {});
  const head = ["Rule", "Limits", "Waiting", "Running"].map((name, i) => h("th", { class: i > 1 ? "number" : i ? "hide-small" : null }, name));
  const card = h(
    "section",
    { class: "card scroll-x", hidden: true },
    h(
      "table",
      { class: "plain limits" },
      h("thead", {}, h("tr", {}, head, h("th", { class: "admin-only hide-small" }, h("span", { class: "visually-hidden" }, "Actions")))),
      body,
    ),
  );
  const none = h(
    "section",
    { class: "card empty", hidden: true },
    h("strong", {}, "No rules"),
    h("p", {}, "Without a rule, tasks start as soon as a worker has room for them. This one lets two tasks of each customer run at once:"),
    command("celeriac limits set per-customer --group default --by key --max-running 2"),
  );
  const trouble = h("section", { class: "card empty", hidden: true });
  root.append(
    h(
      "div",
      { class: "head" },
      h(
        "div",
        { class: "grow" },
        h("h1", {}, "Limits"),
        h("p", {}, "Rules say how many tasks may run at once or start per time. What is above a limit waits."),
      ),
      h("button", { class: "button primary admin-only", type: "button", onclick: create }, "New rule"),
    ),
    card,
    none,
    trouble,
  );

  async function create() {
    if (await ruleForm(null)) load();
  }

  /** The row of a rule: made once, so that no button is taken from the user who is about to press it. */
  function rowOf(name) {
    const made = {
      rule: null,
      about: h("div", {}),
      words: h("td", { class: "hide-small" }),
      waiting: h("td", { class: "number" }),
      running: h("td", { class: "number nowrap" }),
    };
    const edit = async () => (await ruleForm(made.rule)) && load();
    const drop = async () => (await deleteRule(name)) && load();
    made.element = h(
      "tr",
      { dataset: { rule: name } },
      h("td", {}, h("a", { href: ruleAddress(name) }, h("b", {}, name)), made.about),
      made.words,
      made.waiting,
      made.running,
      h(
        "td",
        { class: "actions-cell admin-only hide-small" },
        h("button", { class: "button small", type: "button", "aria-label": `Edit ${name}`, onclick: edit }, "Edit"),
        " ",
        h("button", { class: "button small danger", type: "button", "aria-label": `Delete ${name}`, onclick: drop }, "Delete"),
      ),
    );
    return made;
  }

  function drawRow(row, rule) {
    row.rule = rule;
    const words = limitWords(rule).join(", ");
    // It holds some of them back.
    const full = () => (rule.parked ? [" ", statusBadge("limited")] : []);
    row.about.replaceChildren(
      h("div", { class: "small muted" }, coversWords(rule)),
      h("div", { class: "small only-small" }, words, full()),
      ...(rule.note ? [h("div", { class: "small faint clip-lines" }, rule.note)] : []),
    );
    row.words.replaceChildren(words, ...full());
    setText(row.waiting, number(rule.waiting));
    row.waiting.title = rule.parked ? `${number(rule.parked)} have no room under this rule` : "";
    setText(row.running, rule.by === "all" && rule.max_running ? `${number(rule.running)} of ${number(rule.max_running)}` : number(rule.running));
  }

  const rows = new Map();
  function draw(rules) {
    card.hidden = rules.length === 0;
    none.hidden = rules.length > 0;
    trouble.hidden = true;
    const names = new Set(rules.map((rule) => rule.name));
    for (const name of rows.keys()) if (!names.has(name)) rows.delete(name);
    const drawn = rules.map((rule) => {
      if (!rows.has(rule.name)) rows.set(rule.name, rowOf(rule.name));
      const row = rows.get(rule.name);
      if (JSON.stringify(row.rule) !== JSON.stringify(rule)) drawRow(row, rule);
      return row.element;
    });
    if (drawn.length !== body.children.length || drawn.some((one, i) => body.children[i] !== one)) body.replaceChildren(...drawn);
  }

  async function load() {
    try {
      draw((await get("limits")).items);
    } catch (error) {
      // What is shown already stays in sight.
      if (rows.size && error.status !== 403) return;
      card.hidden = none.hidden = true;
      trouble.hidden = false;
      trouble.dataset.broken = "";
      trouble.replaceChildren(h("strong", {}, "The rules cannot be read"), error.message);
    }
  }
  ending(repeat(load, AGAIN_MS));
}
