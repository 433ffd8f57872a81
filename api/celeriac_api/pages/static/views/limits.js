// Limits: the rules, what waits and runs under each of them; create, edit and delete a rule.

import { get, remove, segment } from "../api.js";
import { h, setText, statusBadge } from "../dom.js";
import { number } from "../format.js";
import { ruleForm } from "../rule-form.js";
import { t } from "../text.js";
import { command, complain, confirm, note, repeat } from "../ui.js";

/** How often the page reads what waits and runs (ms). */
const AGAIN_MS = 3000;
/** What a rule counts separately. */
const EACH = { key: t("limits.each_key"), user: t("limits.each_user") };

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
  const tasks = [type ? t("limits.of_type", { type }) : null, group ? t("limits.of_group", { group }) : null].filter(Boolean).join(t("limits.comma"));
  return by === "all" ? tasks : t("limits.separately", { tasks, each: EACH[by] });
}

/** Return in words what a rule allows, one text for each of its limits. */
export function limitWords(rule) {
  return [
    rule.max_running ? t("limits.max_running", { n: rule.max_running }) : null,
    rule.rate ? t("limits.rate", { rate: rule.rate }) : null,
    rule.fair ? (rule.by === "user" ? t("limits.fair_user") : t("limits.fair_key")) : null,
    rule.ordered ? t("limits.ordered") : null,
    rule.max_waiting ? t("limits.max_waiting", { n: rule.max_waiting }) : null,
  ].filter(Boolean);
}

/** Ask, and delete a rule; resolves with true if it is gone. */
export async function deleteRule(name) {
  const text = t("limits.delete_text");
  if (!(await confirm({ title: t("limits.delete_title", { name }), text, action: t("limits.delete"), danger: true }))) return false;
  try {
    await remove(`limits/${segment(name)}`);
    note(t("limits.deleted", { name }));
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

export function show(root, { ending }) {
  const body = h("tbody", {});
  const head = [t("limits.col_rule"), t("limits.col_limits"), t("limits.col_waiting"), t("limits.col_running")].map((name, i) => h("th", { class: i > 1 ? "number" : i ? "hide-small" : null }, name));
  const card = h(
    "section",
    { class: "card scroll-x", hidden: true },
    h(
      "table",
      { class: "plain limits" },
      h("thead", {}, h("tr", {}, head, h("th", { class: "admin-only hide-small" }, h("span", { class: "visually-hidden" }, t("limits.actions"))))),
      body,
    ),
  );
  const none = h(
    "section",
    { class: "card empty", hidden: true },
    h("strong", {}, t("limits.none")),
    h("p", {}, t("limits.none_text")),
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
        h("h1", {}, t("frame.limits")),
        h("p", {}, t("limits.intro")),
      ),
      h("button", { class: "button primary admin-only", type: "button", onclick: create }, t("limits.new")),
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
        h("button", { class: "button small", type: "button", "aria-label": t("limits.edit_of", { name }), onclick: edit }, t("limits.edit")),
        " ",
        h("button", { class: "button small danger", type: "button", "aria-label": t("limits.delete_of", { name }), onclick: drop }, t("limits.delete")),
      ),
    );
    return made;
  }

  function drawRow(row, rule) {
    row.rule = rule;
    const words = limitWords(rule).join(t("limits.comma"));
    // It holds some of them back.
    const full = () => (rule.parked ? [" ", statusBadge("limited")] : []);
    row.about.replaceChildren(
      h("div", { class: "small muted" }, coversWords(rule)),
      h("div", { class: "small only-small" }, words, full()),
      ...(rule.note ? [h("div", { class: "small faint clip-lines" }, rule.note)] : []),
    );
    row.words.replaceChildren(words, ...full());
    setText(row.waiting, number(rule.waiting));
    row.waiting.title = rule.parked ? t("limits.held", { n: rule.parked }) : "";
    setText(row.running, rule.by === "all" && rule.max_running ? t("limits.share", { n: rule.running, most: rule.max_running }) : number(rule.running));
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
      trouble.replaceChildren(h("strong", {}, t("limits.unreadable")), error.message);
    }
  }
  ending(repeat(load, AGAIN_MS));
}
