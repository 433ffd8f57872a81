// Groups: their tasks and workers; pause and resume a group, and limit it.

import { get, post, put, remove, segment } from "../api.js";
import { bar, h, statusBadge } from "../dom.js";
import { number, when } from "../format.js";
import { live } from "../live.js";
import { t } from "../text.js";
import { command, complain, confirm, dialog, note, repeat } from "../ui.js";
import { limitWords, ruleAddress } from "./limits.js";

/** How often the page reads the rules (ms), and how many of a group are named. */
const RULES_MS = 5000;
const RULES = 5;

/** Return the limits of a group, marked if the group is full and more tasks wait. */
function limitsOf({ limits, running, waiting }) {
  const full = limits.max_running && running >= limits.max_running && waiting;
  const parts = [
    limits.max_running ? t("groups.most_running", { n: limits.max_running }) : null,
    limits.rate ? t("groups.most_starting", { rate: limits.rate }) : null,
    limits.note || null,
  ];
  const text = parts.filter(Boolean).join(" · ");
  return h("div", { class: "small muted" }, full ? [statusBadge("limited"), " "] : null, text);
}

/** Return links to the rules of a group that are not its own limits, marked if one of them holds tasks back. */
function rulesOf(rules) {
  if (!rules.length) return null;
  const links = rules
    .slice(0, RULES)
    .map((rule) => h("a", { class: "chip", href: ruleAddress(rule.name), title: limitWords(rule).join(", ") }, h("span", { class: "clip" }, rule.name)));
  const more = rules.length > RULES ? h("span", { class: "small muted" }, t("groups.more", { n: rules.length - RULES })) : null;
  const held = rules.some((rule) => rule.parked) ? statusBadge("limited") : null;
  return h("div", { class: "meta" }, held, h("span", { class: "small muted" }, t("groups.rules", { n: rules.length })), links, more);
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
        h("h1", {}, t("groups.title")),
        h("p", {}, t("groups.about")),
      ),
    ),
    h(
      "section",
      { class: "card scroll-x" },
      h(
        "table",
        { class: "plain groups" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", {}, t("groups.column.group")),
            h("th", { class: "number" }, t("groups.column.waiting")),
            h("th", { class: "hide-small" }, t("groups.column.room")),
            h("th", { class: "number hide-small" }, t("groups.column.running")),
            h("th", { class: "number" }, t("groups.column.workers")),
            h("th", { class: "admin-only" }, h("span", { class: "visually-hidden" }, t("groups.column.actions"))),
          ),
        ),
        body,
      ),
    ),
    h("div", { class: "admin-only hint" }, h("p", { class: "small muted" }, t("groups.terminal")), command('celeriac groups pause NAME --note "the disk is full"')),
  );

  async function pause(name) {
    const text = await confirm({
      title: t("groups.pause_title", { name }),
      text: t("groups.pause_text"),
      action: t("groups.pause"),
      noteLabel: t("groups.note"),
    });
    if (text === null) return;
    await change(name, act(name, "pause", { note: text || null }), t("groups.paused", { name }));
  }

  async function limit({ name, limits }) {
    const wanted = await dialog((close) => {
      const most = h("input", { class: "field", type: "number", min: 1, max: 1000000, value: limits?.max_running ?? "" });
      const rate = h("input", { class: "field", maxlength: 12, autocomplete: "off", placeholder: t("groups.rate_example"), value: limits?.rate ?? "" });
      const text = h("input", { class: "field", maxlength: 200, autocomplete: "off", value: limits?.note ?? "" });
      const given = () => ({ max_running: most.value ? Number(most.value) : null, rate: rate.value.trim() || null, note: text.value || null });
      return h(
        "form",
        { method: "dialog", onsubmit: (event) => (event.preventDefault(), close(given())) },
        h("h2", {}, t("groups.limit_title", { name })),
        h(
          "p",
          { class: "muted" },
          t("groups.limit_text"),
        ),
        h("label", { class: "label" }, t("groups.at_once"), most),
        h("label", { class: "label" }, t("groups.per_time"), rate),
        h("label", { class: "label" }, t("groups.note"), text),
        h(
          "footer",
          {},
          h("button", { class: "button", type: "button", onclick: () => close(null) }, t("common.keep")),
          h("button", { class: "button primary", type: "submit" }, t("groups.set")),
        ),
      );
    });
    if (wanted === null) return;
    const path = `groups/${segment(name)}/limits`;
    const none = wanted.max_running === null && wanted.rate === null;
    await change(name, () => (none ? remove(path) : put(path, wanted)), none ? t("groups.unlimited", { name }) : t("groups.limited", { name }));
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
                ` ${group.paused.at ? when(group.paused.at) : ""}${group.paused.note ? ` · ${group.paused.note}` : ""}`,
              )
            : null,
          group.limits ? limitsOf(group) : null,
          rulesOf(covering),
        ),
        h("td", { class: "number", dataset: { name: t("groups.column.waiting") } }, number(group.waiting)),
        h(
          "td",
          { class: "hide-small", title: t("groups.room", { n: group.waiting, most: group.max_queue_length }) },
          bar(Math.max(share, group.waiting ? 1.5 : 0), share > 80 ? "failed" : null, t("groups.room", { n: group.waiting, most: group.max_queue_length })),
        ),
        h(
          "td",
          { class: "number", dataset: { name: t("groups.column.running") } },
          group.limits?.max_running ? t("groups.of", { n: group.running, most: group.limits.max_running }) : number(group.running),
        ),
        h(
          "td",
          { class: "number", dataset: { name: t("groups.column.workers") } },
          group.unserved
            ? h("span", { class: "error-text", title: t("groups.serving", { n: group.workers }) }, t("groups.unserved", { n: group.unserved }))
            : number(group.workers),
        ),
        h(
          "td",
          { class: "actions-cell admin-only" },
          h("button", { class: "button small", type: "button", onclick: () => limit(group) }, t("groups.limit")),
          " ",
          group.paused
            ? h(
                "button",
                { class: "button small primary", type: "button", onclick: () => change(group.name, act(group.name, "resume", {}), t("groups.resumed", { name: group.name })) },
                t("groups.resume"),
              )
            : h("button", { class: "button small", type: "button", onclick: () => pause(group.name) }, t("groups.pause")),
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
