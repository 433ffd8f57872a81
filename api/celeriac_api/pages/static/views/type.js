// One task type: what it is, who serves it, how its tasks do, the slowest ones and the last failures.

import { get, segment } from "../api.js";
import { Chart } from "../chart.js";
import { h, setText, statusBadge } from "../dom.js";
import { DURATIONS, ago, duration, exactTime, failureRate, jsonBlock, number, percent, shortId } from "../format.js";
import { live } from "../live.js";
import { t } from "../text.js";
import { newTaskButton, repeat } from "../ui.js";
import { spanChooser } from "./types.js";

const SLOWEST = 8;
const FAILURES = 6;

export function show(root, { id: name, ending }) {
  const about = h("p", { class: "muted" });
  const served = h("div", { class: "meta" });
  const trouble = h("div", { class: "notice warn", role: "status", hidden: true });
  const counter = (key, href) => {
    const value = h("span", { class: "value" }, "–");
    const more = h("span", { class: "more clip-lines" });
    return { value, more, card: h(href ? "a" : "div", { class: "card counter", href }, h("span", { class: "name" }, t(`types.${key}`)), value, more) };
  };
  const counters = {
    rate: counter("rate", `#/tasks?type=${segment(name)}`),
    failed: counter("failed", `#/errors?type=${segment(name)}`),
    wait: counter("waiting"),
    run: counter("running"),
  };
  const chartCard = (key, series, options) => {
    const area = h("div", { class: "chart" });
    const chart = new Chart(area, { series, label: t(`types.${key}`), ...options });
    ending(() => chart.end());
    const legend = series.map((one) => h("span", {}, h("i", { class: `swatch-${one.tone}` }), one.name));
    const head = h("header", {}, h("h2", {}, t(`types.${key}`)), h("div", { class: "legend" }, legend));
    return { chart, card: h("section", { class: "card chart-card" }, head, h("div", { class: "body" }, area)) };
  };
  const ended = chartCard(
    "chart_ended",
    [
      { key: "completed", name: t("status.completed"), kind: "bar", tone: "good" },
      { key: "failed", name: t("status.failed"), kind: "bar", tone: "bad" },
    ],
    { format: number, whole: true },
  );
  const ran = chartCard(
    "chart_ran",
    [
      { key: "p50", name: "p50", kind: "line", tone: "accent", area: true },
      { key: "p95", name: "p95", kind: "line", tone: "warn" },
    ],
    { format: duration, steps: DURATIONS },
  );
  const slowest = h("tbody", {});
  const failures = h("tbody", {});
  const noneSlow = h("div", { class: "empty small" }, t("types.none_ended"));
  const noneFailed = h("div", { class: "empty small" }, t("types.none_failed"));
  const schema = h("div", { class: "body" });
  const listCard = (key, none, rows, link) =>
    h(
      "section",
      { class: "card" },
      h("header", {}, h("h2", {}, t(`types.${key}`)), link ?? null),
      none,
      h("div", { class: "scroll-x" }, h("table", { class: "plain" }, rows)),
    );

  let type = null;
  function showServed() {
    if (!type) return;
    const group = (live.groups ?? []).find((one) => one.name === type.queue);
    const chips = [
      h("a", { class: "chip", href: `#/tasks?queue=${segment(type.queue)}` }, t("types.group_of", { group: type.queue })),
      group && h("span", { class: "chip" }, t("types.workers", { n: group.workers })),
      group?.paused && statusBadge("paused"),
      h("span", { class: "chip" }, t("types.retries", { n: type.max_retries })),
      type.timeout_s && h("span", { class: "chip" }, t("types.timeout", { time: duration(1000 * type.timeout_s) })),
    ];
    served.replaceChildren(...chips.filter(Boolean));
  }
  async function load() {
    try {
      const wanted = span.name;
      const [stats, failed] = await Promise.all([
        get("stats", { ...span.query(), type: name, slowest: SLOWEST }),
        get("errors", { from: span.query().from, type: name, limit: FAILURES }),
      ]);
      if (wanted !== span.name) return;
      trouble.hidden = true;
      draw(stats, failed);
    } catch (error) {
      trouble.hidden = false;
      setText(trouble, error.message);
    }
  }
  function draw({ from, to, total, buckets, slowest: slow }, failed) {
    const minutes = Math.max(1, (Math.min(Date.now(), Date.parse(to)) - Date.parse(from)) / 60000);
    const all = total.completed + total.failed + total.cancelled;
    const each = all / minutes;
    setText(counters.rate.value, each === 0 ? "0" : each < 10 ? each.toFixed(2) : number(Math.round(each)));
    setText(counters.rate.more, t("types.ended_n", { n: all }));
    setText(counters.failed.value, percent(failureRate(total)));
    counters.failed.card.classList.toggle("alarm", total.failed > 0);
    setText(counters.failed.more, t("types.failed_n", { n: total.failed }));
    for (const which of ["wait", "run"]) {
      setText(counters[which].value, duration(total[which]?.p50_ms));
      setText(counters[which].more, total[which] ? t("types.p95", { p95: duration(total[which].p95_ms), max: duration(total[which].max_ms) }) : "");
    }
    ended.chart.set(buckets);
    ran.chart.set(buckets.map((one) => ({ at: one.at, p50: one.run?.p50_ms ?? null, p95: one.run?.p95_ms ?? null })));
    noneSlow.hidden = slow.length > 0;
    slowest.replaceChildren(
      ...slow.map((one) =>
        h(
          "tr",
          {},
          h("td", {}, h("a", { class: "mono", href: `#/tasks/${segment(one.task_id)}`, title: one.task_id }, shortId(one.task_id))),
          h("td", {}, statusBadge(one.status)),
          h("td", { class: "number faint nowrap", title: exactTime(one.finished_at) }, ago(one.finished_at)),
          h("td", { class: "number nowrap" }, duration(one.run_ms)),
        ),
      ),
    );
    noneFailed.hidden = failed.items.length > 0;
    failures.replaceChildren(
      ...failed.items.map((one) =>
        h(
          "tr",
          {},
          h("td", {}, h("a", { href: one.last_task_id ? `#/tasks/${segment(one.last_task_id)}` : `#/errors?type=${segment(name)}` }, h("span", { class: "clip-lines" }, one.message || one.code || "–"))),
          h("td", { class: "number nowrap" }, t("errors.failed", { n: one.failures })),
          h("td", { class: "number faint nowrap", title: exactTime(one.last_seen) }, ago(one.last_seen)),
        ),
      ),
    );
  }
  const span = spanChooser(load);
  root.append(
    h("p", { class: "crumbs" }, h("a", { href: "#/types" }, t("frame.types"))),
    h("div", { class: "head type-head" }, h("div", { class: "grow" }, h("h1", {}, name), about, served), span.element, newTaskButton("", name)),
    trouble,
    h("div", { class: "counters" }, Object.values(counters).map((one) => one.card)),
    h("div", { class: "charts" }, ended.card, ran.card),
    h(
      "div",
      { class: "charts" },
      listCard("slowest", noneSlow, slowest),
      listCard("last_failures", noneFailed, failures, h("a", { class: "small", href: `#/errors?type=${segment(name)}` }, t("types.all_errors"))),
    ),
    h("section", { class: "card" }, h("header", {}, h("h2", {}, t("types.payload"))), schema),
  );
  get("task-types").then(
    ({ task_types: types }) => {
      const found = types.find((one) => one.name === name);
      if (!found) {
        // The history knows types that no worker announces any more.
        setText(about, t("types.unknown"));
        return schema.replaceChildren(h("p", { class: "muted" }, t("types.no_schema")));
      }
      type = found;
      setText(about, found.description);
      schema.replaceChildren(jsonBlock(found.payload_schema));
      return showServed();
    },
    (error) => setText(about, error.message),
  );
  ending(live.on("state", showServed));
  ending(repeat(load, 10000));
}
