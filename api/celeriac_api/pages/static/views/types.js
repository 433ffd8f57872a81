// The task types: those that workers announce and those of the history, with what their tasks did lately.

import { get, segment } from "../api.js";
import { sparkline } from "../chart.js";
import { h, icon, setText } from "../dom.js";
import { duration, failureRate, number, percent } from "../format.js";
import { t } from "../text.js";
import { complain, newTaskButton, oneOf, repeat } from "../ui.js";

/** Spans of time: their length in hours and the size of a bucket. */
const SPANS = { hour: [1, "1m"], day: [24, "15m"], week: [168, "6h"] };
const SPAN_KEY = "celeriac.types.span";
const MOST = 200;
/** The figures that a phone shows. */
const FEW = ["ended", "failed", "run95"];

/** Return the chosen span of time, and the buttons that choose it. */
export function spanChooser(onchange) {
  const stored = sessionStorage.getItem(SPAN_KEY);
  const chosen = { name: stored in SPANS ? stored : "day" };
  const choices = Object.keys(SPANS).map((value) => ({ value, text: t(`errors.span_${value}`) }));
  chosen.element = oneOf(t("errors.span"), choices, chosen.name, (name) => {
    chosen.name = name;
    sessionStorage.setItem(SPAN_KEY, name);
    onchange();
  });
  chosen.query = () => ({ from: new Date(Date.now() - SPANS[chosen.name][0] * 3600e3).toISOString(), bucket: SPANS[chosen.name][1] });
  return chosen;
}

export function show(root, { ending }) {
  let types = [];
  let parts = [];
  const search = h("input", { class: "field", type: "search", placeholder: t("types.search"), "aria-label": t("types.search"), dataset: { search: "" }, autocomplete: "off" });
  const rows = h("tbody", {});
  const table = h(
    "table",
    { class: "plain types" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", {}, t("types.type")),
        h("th", { class: "hide-small" }, t("types.group")),
        h("th", { class: "hide-small" }, t("types.over_time")),
        ["ended", "failed", "wait95", "run50", "run95"].map((name) => h("th", { class: `number ${FEW.includes(name) ? "" : "hide-small"}` }, t(`types.${name}`))),
      ),
    ),
    rows,
  );
  const none = h("div", { class: "empty", hidden: true });
  const trouble = h("div", { class: "notice warn", role: "status", hidden: true });

  function draw() {
    const known = new Map(types.map((one) => [one.name, { known: one }]));
    for (const part of parts) known.set(part.name, { ...known.get(part.name), part });
    const words = search.value.trim().toLowerCase();
    const ended = ({ part }) => (part ? part.completed + part.failed + part.cancelled : 0);
    const listed = [...known].filter(([name]) => name.toLowerCase().includes(words)).sort((a, b) => ended(b[1]) - ended(a[1]) || a[0].localeCompare(b[0]));
    none.hidden = listed.length > 0;
    setText(none, t("types.none"));
    table.hidden = !listed.length;
    rows.replaceChildren(
      ...listed.map(([name, one]) =>
        h(
          "tr",
          { dataset: { type: name } },
          h(
            "td",
            {},
            h("a", { href: `#/types/${segment(name)}` }, name || "–"),
            h("div", { class: "small muted clip-lines" }, one.known ? one.known.description.split("\n")[0] : t("types.unknown")),
          ),
          h("td", { class: "muted hide-small" }, one.known?.queue ?? "–"),
          h("td", { class: "hide-small" }, one.part ? sparkline(one.part.counts, { width: 110, height: 24 }) : null),
          h("td", { class: "number" }, one.part ? h("a", { href: `#/tasks?type=${segment(name)}` }, number(ended(one))) : "0"),
          h(
            "td",
            { class: "number nowrap" },
            one.part?.failed ? h("a", { class: "bad", href: `#/errors?type=${segment(name)}` }, `${number(one.part.failed)} · ${percent(failureRate(one.part))}`) : "–",
          ),
          h("td", { class: "number nowrap hide-small" }, duration(one.part?.wait?.p95_ms)),
          h("td", { class: "number nowrap hide-small" }, duration(one.part?.run?.p50_ms)),
          h("td", { class: "number nowrap" }, duration(one.part?.run?.p95_ms)),
        ),
      ),
    );
  }
  async function load() {
    try {
      const wanted = span.name;
      const stats = await get("stats", { ...span.query(), by: "type", most: MOST });
      if (wanted !== span.name) return;
      parts = stats.by.type;
      trouble.hidden = true;
    } catch (error) {
      trouble.hidden = false;
      setText(trouble, error.message);
    }
    draw();
  }
  const span = spanChooser(load);
  search.addEventListener("input", draw);
  root.append(
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, t("frame.types")), h("p", {}, t("types.about"))), span.element, newTaskButton("")),
    trouble,
    h("div", { class: "filters" }, h("div", { class: "search" }, icon("search"), search, h("kbd", { class: "hide-small" }, "/"))),
    h("section", { class: "card" }, none, h("div", { class: "scroll-x" }, table)),
  );
  get("task-types").then(({ task_types: found }) => ((types = found), draw()), complain);
  ending(repeat(load, 10000));
}
