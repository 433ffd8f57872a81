// One rule: what it covers and allows, and the keys (or users) of which most tasks wait or run.

import { get, segment } from "../api.js";
import { bar, h, setText } from "../dom.js";
import { ago, fullTime, number } from "../format.js";
import { commandOf, ruleForm } from "../rule-form.js";
import { command, complain, repeat } from "../ui.js";
import { coversWords, deleteRule, limitWords, tasksOf } from "./limits.js";

/** How often the page reads what waits and runs (ms), and how many keys it shows. */
const AGAIN_MS = 4000;
const SHOWN = 20;
const SORTS = { waiting: "Most waiting", running: "Most running" };

export function show(root, { id, me, ending }) {
  const path = `limits/${segment(id)}`;
  let rule = null;
  let sort = "waiting";

  const about = h("p", {});
  const waiting = h("b", { class: "value" }, "–");
  const parked = h("b", { class: "value" }, "–");
  const running = h("b", { class: "value" }, "–");
  const facts = h("dl", { class: "facts" });
  const keysTitle = h("h2", {}, "Keys");
  const keysBody = h("tbody", {});
  const keyName = h("th", {}, "Key");
  const keysTable = h(
    "div",
    { class: "scroll-x" },
    h(
      "table",
      { class: "plain" },
      h("thead", {}, h("tr", {}, keyName, h("th", { class: "number" }, "Waiting"), h("th", { class: "hide-small" }, h("span", { class: "visually-hidden" }, "Share")), h("th", { class: "number" }, "Running"))),
      keysBody,
    ),
  );
  const keysNone = h("div", { class: "empty", hidden: true });
  const sorts = h("div", { class: "segments", role: "group", "aria-label": "Sort by" });
  const keysCard = h("section", { class: "card", hidden: true }, h("header", {}, keysTitle, sorts), keysTable, keysNone);
  const line = command();
  const tasks = h("a", { class: "button" }, "Its tasks");
  const body = h(
    "div",
    { class: "task-body", hidden: true },
    h(
      "div",
      { class: "stack" },
      h(
        "div",
        { class: "counters" },
        h("div", { class: "card counter" }, h("span", { class: "name" }, "Waiting"), waiting),
        h("div", { class: "card counter" }, h("span", { class: "name" }, "Held back"), parked),
        h("div", { class: "card counter" }, h("span", { class: "name" }, "Running"), running),
      ),
      keysCard,
    ),
    h(
      "div",
      { class: "stack" },
      h("section", { class: "card" }, h("header", {}, h("h2", {}, "Facts")), h("div", { class: "body" }, facts)),
      h("section", { class: "card" }, h("header", {}, h("h2", {}, "From a terminal")), h("div", { class: "body" }, line)),
    ),
  );
  root.append(
    h("nav", { class: "crumbs", "aria-label": "Where you are" }, h("a", { href: "#/limits" }, "Limits"), " / ", id),
    h(
      "div",
      { class: "task-head" },
      h("div", { class: "grow" }, h("h1", {}, id), about),
      h(
        "div",
        { class: "actions" },
        tasks,
        h("button", { class: "button admin-only", type: "button", onclick: edit }, "Edit"),
        h("button", { class: "button danger admin-only", type: "button", onclick: drop }, "Delete"),
      ),
    ),
    body,
  );

  function draw() {
    body.hidden = false;
    setText(about, coversWords(rule));
    setText(waiting, number(rule.waiting));
    setText(parked, number(rule.parked));
    running.replaceChildren(number(rule.running), rule.by === "all" && rule.max_running ? h("span", { class: "unit" }, `of ${number(rule.max_running)}`) : "");
    tasks.href = tasksOf(rule);
    line.say(commandOf(rule));
    const fact = (name, value) => (value ? h("div", {}, h("dt", {}, name), h("dd", {}, value)) : null);
    facts.replaceChildren(
      ...[
        fact("Group", rule.group && h("a", { href: "#/groups" }, rule.group)),
        fact("Type", rule.type),
        fact("Counts", { all: "all tasks together", key: "each key by itself", user: "each user by itself" }[rule.by]),
        fact(
          "Allows",
          limitWords(rule).map((words) => h("div", {}, words)),
        ),
        fact("Note", rule.note),
        fact("Since", rule.at && h("time", { datetime: rule.at, title: fullTime(rule.at) }, `${ago(rule.at)} ago`.replace("now ago", "now"))),
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
    setText(keysTitle, noun === "user" ? "Users" : "Keys");
    setText(keyName, noun === "user" ? "User" : "Key");
    keysCard.hidden = false;
    keysTable.hidden = items.length === 0;
    keysNone.hidden = items.length > 0;
    keysNone.replaceChildren(h("strong", {}, "Nothing waits or runs"), `The ${noun}s of the tasks that wait and run appear here.`);
    const most = Math.max(1, ...items.map((one) => one[sort]));
    keysBody.replaceChildren(
      ...items.map((one) =>
        h(
          "tr",
          { dataset: { key: one.key } },
          h("td", {}, h("a", { href: tasksOf(rule, one.key) }, one.key)),
          h("td", { class: "number" }, number(one.waiting)),
          h("td", { class: "hide-small" }, bar((100 * one[sort]) / most, null, `${sort} tasks of ${one.key}, relative to the most`)),
          h("td", { class: "number nowrap" }, rule.max_running || rule.ordered ? `${number(one.running)} of ${number(rule.ordered ? 1 : rule.max_running)}` : number(one.running)),
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
          h("strong", {}, failure.status === 404 ? "This rule does not exist" : "Not available"),
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
    if (rule && (await ruleForm(rule))) load();
  }

  async function drop() {
    if (await deleteRule(id)) location.hash = "#/limits";
  }

  drawSorts();
  let stop = () => {};
  stop = repeat(load, AGAIN_MS);
  ending(() => stop());
}
