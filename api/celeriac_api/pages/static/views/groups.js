// Groups: their tasks and workers; pause and resume a group, and limit it.

import { get, post, put, remove, segment } from "../api.js";
import { bar, h, statusBadge } from "../dom.js";
import { ago, number } from "../format.js";
import { live } from "../live.js";
import { command, complain, confirm, dialog, note, repeat } from "../ui.js";
import { limitWords, ruleAddress } from "./limits.js";

/** How often the page reads the rules (ms), and how many of a group are named. */
const RULES_MS = 5000;
const RULES = 5;

/** Return the limits of a group, marked if the group is full and more tasks wait. */
function limitsOf({ limits, running, waiting }) {
  const full = limits.max_running && running >= limits.max_running && waiting;
  const parts = [limits.max_running ? `${number(limits.max_running)} running` : null, limits.rate ? `${limits.rate} starting` : null];
  const text = `at most ${parts.filter(Boolean).join(", ")}${limits.note ? ` · ${limits.note}` : ""}`;
  return h("div", { class: "small muted" }, full ? [statusBadge("limited"), " "] : null, text);
}

/** Return links to the rules of a group that are not its own limits, marked if one of them holds tasks back. */
function rulesOf(rules) {
  if (!rules.length) return null;
  const links = rules
    .slice(0, RULES)
    .map((rule) => h("a", { class: "chip", href: ruleAddress(rule.name), title: limitWords(rule).join(", ") }, h("span", { class: "clip" }, rule.name)));
  const more = rules.length > RULES ? h("span", { class: "small muted" }, `and ${number(rules.length - RULES)} more`) : null;
  const held = rules.some((rule) => rule.parked) ? statusBadge("limited") : null;
  return h("div", { class: "meta" }, held, h("span", { class: "small muted" }, rules.length === 1 ? "rule" : "rules"), links, more);
}

export function show(root, { ending }) {
  /** The rules of each group, without its own limits. */
  let rules = {};
  let shown = [];
  const body = h("tbody", {});
  const rows = new Map();
  root.append(
    h(
      "div",
      { class: "head" },
      h(
        "div",
        { class: "grow" },
        h("h1", {}, "Groups"),
        h("p", {}, "The workers of a group run its tasks. While a group is paused, its tasks are accepted and wait."),
      ),
    ),
    h(
      "section",
      { class: "card scroll-x" },
      h(
        "table",
        { class: "plain" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", {}, "Group"),
            h("th", { class: "number" }, "Waiting"),
            h("th", { class: "hide-small" }, "Queue limit"),
            h("th", { class: "number hide-small" }, "Running"),
            h("th", { class: "number" }, "Workers"),
            h("th", { class: "admin-only" }, h("span", { class: "visually-hidden" }, "Actions")),
          ),
        ),
        body,
      ),
    ),
    h("div", { class: "admin-only hint" }, h("p", { class: "small muted" }, "From a terminal:"), command('celeriac groups pause NAME --note "the disk is full"')),
  );

  async function pause(name) {
    const text = await confirm({
      title: `Pause ${name}?`,
      text: "Running tasks go on. Waiting and new tasks wait until you resume the group.",
      action: "Pause",
      noteLabel: "Note for other operators (optional)",
    });
    if (text === null) return;
    await change(name, act(name, "pause", { note: text || null }), `${name} is paused`);
  }

  async function limit({ name, limits }) {
    const wanted = await dialog((close) => {
      const most = h("input", { class: "field", type: "number", min: 1, max: 1000000, value: limits?.max_running ?? "" });
      const rate = h("input", { class: "field", maxlength: 12, autocomplete: "off", placeholder: "5/s, 100/m, 10/h or 1/d", value: limits?.rate ?? "" });
      const text = h("input", { class: "field", maxlength: 200, autocomplete: "off", value: limits?.note ?? "" });
      const given = () => ({ max_running: most.value ? Number(most.value) : null, rate: rate.value.trim() || null, note: text.value || null });
      return h(
        "form",
        { method: "dialog", onsubmit: (event) => (event.preventDefault(), close(given())) },
        h("h2", {}, `Limit ${name}`),
        h(
          "p",
          { class: "muted" },
          "The limits apply across all workers of the group. Tasks above a limit wait, and running tasks go on. Leave both fields empty for no limit.",
        ),
        h("label", { class: "label" }, "Running at once", most),
        h("label", { class: "label" }, "Starts per time", rate),
        h("label", { class: "label" }, "Note for other operators (optional)", text),
        h(
          "footer",
          {},
          h("button", { class: "button", type: "button", onclick: () => close(null) }, "Keep as it is"),
          h("button", { class: "button primary", type: "submit" }, "Set"),
        ),
      );
    });
    if (wanted === null) return;
    const path = `groups/${segment(name)}/limits`;
    const none = wanted.max_running === null && wanted.rate === null;
    await change(name, () => (none ? remove(path) : put(path, wanted)), none ? `${name} has no limits` : `${name} is limited`);
  }

  const act = (name, action, body_) => () => post(`groups/${segment(name)}/${action}`, body_);

  async function change(name, ask, done) {
    try {
      const group = await ask();
      draw((live.groups ?? []).map((one) => (one.name === name ? group : one)));
      note(done);
    } catch (error) {
      complain(error);
    }
  }

  function draw(groups) {
    shown = groups;
    const seen = new Set();
    for (const group of groups) {
      seen.add(group.name);
      const covering = rules[group.name] ?? [];
      const key = JSON.stringify([group, covering.map((rule) => [rule.name, limitWords(rule), rule.parked > 0])]);
      const known = rows.get(group.name);
      if (known?.key === key) continue;
      const share = (100 * group.waiting) / group.max_queue_length;
      const cells = [
        h(
          "td",
          {},
          h("a", { href: `#/tasks?queue=${segment(group.name)}` }, h("b", {}, group.name)),
          group.paused
            ? h(
                "div",
                { class: "small muted" },
                statusBadge("paused"),
                ` ${group.paused.at ? `${ago(group.paused.at)} ago`.replace("now ago", "now") : ""}${group.paused.note ? ` · ${group.paused.note}` : ""}`,
              )
            : null,
          group.limits ? limitsOf(group) : null,
          rulesOf(covering),
        ),
        h("td", { class: "number" }, number(group.waiting)),
        h(
          "td",
          { class: "hide-small", title: `at most ${number(group.max_queue_length)} may wait` },
          bar(Math.max(share, group.waiting ? 1.5 : 0), share > 80 ? "failed" : null, "share of the queue limit"),
        ),
        h(
          "td",
          { class: "number hide-small" },
          group.limits?.max_running ? `${number(group.running)} of ${number(group.limits.max_running)}` : number(group.running),
        ),
        h(
          "td",
          { class: "number" },
          group.unserved
            ? h("span", { class: "error-text", title: `${number(group.workers)} workers serve the group` }, `none for ${number(group.unserved)}`)
            : number(group.workers),
        ),
        h(
          "td",
          { class: "actions-cell admin-only" },
          h("button", { class: "button small", type: "button", onclick: () => limit(group) }, "Limit"),
          " ",
          group.paused
            ? h(
                "button",
                { class: "button small primary", type: "button", onclick: () => change(group.name, act(group.name, "resume", {}), `${group.name} is resumed`) },
                "Resume",
              )
            : h("button", { class: "button small", type: "button", onclick: () => pause(group.name) }, "Pause"),
        ),
      ];
      if (known) {
        known.row.replaceChildren(...cells);
        known.key = key;
      } else {
        const row = h("tr", { dataset: { group: group.name } }, cells);
        rows.set(group.name, { row, key });
      }
    }
    for (const [name, { row }] of rows) {
      if (!seen.has(name)) {
        row.remove();
        rows.delete(name);
      }
    }
    const order = groups.map((group) => rows.get(group.name).row);
    if (order.some((row, i) => body.children[i] !== row)) body.replaceChildren(...order);
  }

  async function loadRules() {
    // Without an answer, what is shown stays.
    const items = await get("limits").then(
      (answer) => answer.items,
      () => null,
    );
    if (items === null) return;
    rules = {};
    for (const rule of items) if (rule.group && rule.name !== `group:${rule.group}`) (rules[rule.group] ??= []).push(rule);
    draw(shown);
  }

  if (live.groups) draw(live.groups);
  else
    get("groups")
      .then(({ groups }) => draw(groups))
      .catch(complain);
  ending(live.on("state", ({ groups }) => draw(groups)));
  ending(repeat(loadRules, RULES_MS));
}
