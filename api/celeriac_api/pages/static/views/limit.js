// One rule: what it covers and allows, and the keys (or users) of which most tasks wait or run.

import { get, segment } from "../api.js";
import { bar, h, setText } from "../dom.js";
import { exactTime, number, when } from "../format.js";
import { commandOf, ruleForm } from "../rule-form.js";
import { t } from "../text.js";
import { command, complain, repeat } from "../ui.js";
import { coversWords, deleteRule, limitWords, tasksOf } from "./limits.js";

/** How often the page reads what waits and runs (ms), and how many keys it shows. */
const AGAIN_MS = 4000;
const SHOWN = 20;
const SORTS = { waiting: t("limits.most_waiting"), running: t("limits.most_running") };

export function show(root, { id, me, ending }) {
  const path = `limits/${segment(id)}`;
  let rule = null;
  let sort = "waiting";

  const about = h("p", {});
  const waiting = h("b", { class: "value" }, "–");
  const parked = h("b", { class: "value" }, "–");
  const running = h("b", { class: "value" }, "–");
  const facts = h("dl", { class: "facts" });
  const keysTitle = h("h2", {}, t("limits.keys"));
  const keysBody = h("tbody", {});
  const keyName = h("th", {}, t("limits.key"));
  const keysTable = h(
    "div",
    { class: "scroll-x" },
    h(
      "table",
      { class: "plain" },
      h("thead", {}, h("tr", {}, keyName, h("th", { class: "number" }, t("limits.col_waiting")), h("th", { class: "hide-small" }, h("span", { class: "visually-hidden" }, t("limits.col_share"))), h("th", { class: "number" }, t("limits.col_running")))),
      keysBody,
    ),
  );
  const keysNone = h("div", { class: "empty", hidden: true });
  const sorts = h("div", { class: "segments", role: "group", "aria-label": t("limits.sort") });
  const keysCard = h("section", { class: "card", hidden: true }, h("header", {}, keysTitle, sorts), keysTable, keysNone);
  const line = command();
  // Both need the rule, which has to be read first.
  const tasks = h("a", { class: "button", hidden: true }, t("limits.its_tasks"));
  const editButton = h("button", { class: "button admin-only", type: "button", hidden: true, onclick: edit }, t("limits.edit"));
  const body = h(
    "div",
    { class: "task-body", hidden: true },
    h(
      "div",
      { class: "stack" },
      h(
        "div",
        { class: "counters" },
        h("div", { class: "card counter" }, h("span", { class: "name" }, t("limits.col_waiting")), waiting),
        h("div", { class: "card counter" }, h("span", { class: "name" }, t("limits.held_back")), parked),
        h("div", { class: "card counter" }, h("span", { class: "name" }, t("limits.col_running")), running),
      ),
      keysCard,
    ),
    h(
      "div",
      { class: "stack" },
      h("section", { class: "card" }, h("header", {}, h("h2", {}, t("limits.facts"))), h("div", { class: "body" }, facts)),
      h("section", { class: "card" }, h("header", {}, h("h2", {}, t("limits.terminal"))), h("div", { class: "body" }, line)),
    ),
  );
  root.append(
    h("nav", { class: "crumbs", "aria-label": t("limits.where") }, h("a", { href: "#/limits" }, t("frame.limits")), " / ", id),
    h(
      "div",
      { class: "task-head" },
      h("div", { class: "grow" }, h("h1", {}, id), about),
      h(
        "div",
        { class: "actions" },
        tasks,
        editButton,
        h("button", { class: "button danger admin-only", type: "button", onclick: drop }, t("limits.delete")),
      ),
    ),
    body,
  );

  function draw() {
    body.hidden = tasks.hidden = editButton.hidden = false;
    setText(about, coversWords(rule));
    setText(waiting, number(rule.waiting));
    setText(parked, number(rule.parked));
    running.replaceChildren(number(rule.running), rule.by === "all" && rule.max_running ? h("span", { class: "unit" }, t("limits.of", { n: rule.max_running })) : "");
    tasks.href = tasksOf(rule);
    line.say(commandOf(rule));
    const fact = (name, value) => (value ? h("div", {}, h("dt", {}, name), h("dd", {}, value)) : null);
    facts.replaceChildren(
      ...[
        fact(t("limits.fact_group"), rule.group && h("a", { href: "#/groups" }, rule.group)),
        fact(t("limits.fact_type"), rule.type),
        fact(t("limits.fact_counts"), t(`limits.by_${rule.by}`)),
        fact(
          t("limits.fact_allows"),
          limitWords(rule).map((words) => h("div", {}, words)),
        ),
        fact(t("limits.fact_note"), rule.note),
        fact(t("limits.fact_since"), rule.at && h("time", { datetime: rule.at, title: exactTime(rule.at) }, when(rule.at))),
      ].filter(Boolean),
    );
  }

  function drawSorts() {
    sorts.replaceChildren(
      ...Object.entries(SORTS).map(([value, text]) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": String(value === sort),
            onclick: () => {
              sort = value;
              drawSorts();
              loadKeys().catch(complain);
            },
          },
          text,
        ),
      ),
    );
  }

  function drawKeys(items) {
    const noun = rule.by === "user" ? "user" : "key";
    setText(keysTitle, noun === "user" ? t("limits.users") : t("limits.keys"));
    setText(keyName, noun === "user" ? t("limits.user") : t("limits.key"));
    keysCard.hidden = false;
    keysTable.hidden = items.length === 0;
    keysNone.hidden = items.length > 0;
    keysNone.replaceChildren(h("strong", {}, t("limits.idle")), noun === "user" ? t("limits.idle_users") : t("limits.idle_keys"));
    const most = Math.max(1, ...items.map((one) => one[sort]));
    keysBody.replaceChildren(
      ...items.map((one) =>
        h(
          "tr",
          { dataset: { key: one.key } },
          h("td", {}, h("a", { href: tasksOf(rule, one.key) }, one.key)),
          h("td", { class: "number" }, number(one.waiting)),
          h("td", { class: "hide-small" }, bar((100 * one[sort]) / most, null, t(`limits.bar_${sort}`, { key: one.key }))),
          h("td", { class: "number nowrap" }, rule.max_running || rule.ordered ? t("limits.share", { n: one.running, most: rule.ordered ? 1 : rule.max_running }) : number(one.running)),
        ),
      ),
    );
  }

  async function loadKeys() {
    // Keys may name the customers of other users.
    if (rule.by === "all" || !me.admin) {
      keysCard.hidden = true;
      return;
    }
    const asked = sort;
    const { items } = await get(`${path}/keys`, { sort, limit: SHOWN });
    if (asked === sort) drawKeys(items);
  }

  async function load() {
    try {
      rule = await get(path);
    } catch (failure) {
      if (rule !== null && failure.status !== 404) return;
      body.replaceWith(
        h(
          "div",
          { class: "card empty", dataset: failure.status === 404 ? {} : { broken: "" } },
          h("strong", {}, failure.status === 404 ? t("limits.missing") : t("limits.unavailable")),
          failure.message,
        ),
      );
      stop();
      return;
    }
    draw();
    await loadKeys().catch(() => {});
  }

  async function edit() {
    if (await ruleForm(rule)) load();
  }

  async function drop() {
    if (await deleteRule(id)) location.hash = "#/limits";
  }

  drawSorts();
  let stop = () => {};
  stop = repeat(load, AGAIN_MS);
  ending(() => stop());
}
