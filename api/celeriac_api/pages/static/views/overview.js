// The state of the platform: counters, charts, the tasks by type, the last errors, the running tasks.

import { get, segment } from "../api.js";
import { Chart, sparkline } from "../chart.js";
import { bar, h, setBar, setText, statusBadge } from "../dom.js";
import { DURATIONS, ago, duration, exactTime, failureRate, number, percent, ranFor, shortId } from "../format.js";
import { lastErrors } from "../last-errors.js";
import { live } from "../live.js";
import { pieces, t } from "../text.js";
import { complain, newTaskButton, oneOf, throttle } from "../ui.js";

/** Spans of time: their length (ms), and the size of a bucket. */
const SPANS = { "15m": [900e3, "1m"], "1h": [3600e3, "1m"], "6h": [6 * 3600e3, "5m"], "24h": [86400e3, "15m"], "7d": [7 * 86400e3, "6h"] };
const SPAN_KEY = "celeriac.overview.span";
/** What the chart of ended tasks is divided by. */
const DIVISIONS = ["outcome", "type", "queue"];
const TONES = ["part-1", "part-2", "part-3", "part-4", "part-5", "part-6"];
/** Rows of the table by type. */
const TYPES = 8;
/** How old an answer may be that the menu has asked for (ms). */
const SAME_MS = 1000;
/** How often everything is read again, and how often the newest buckets are (ms). */
const WHOLE_MS = 30000;
const TAIL_MS = 5000;

const choices = (names) => Object.entries(names).map(([value, text]) => ({ value, text }));

export function show(root, { ending, me }) {
  const stored = sessionStorage.getItem(SPAN_KEY);
  let span = stored in SPANS ? stored : "1h";
  let division = "outcome";

  // --- counters
  const counter = (name, href) => {
    const parts = { name: h("span", { class: "name" }, name), value: h("span", { class: "value" }, "–"), more: h("span", { class: "more clip-lines" }) };
    parts.card = h(href ? "a" : "div", { class: "card counter", href }, parts.name, parts.value, parts.more);
    return parts;
  };
  const counters = {
    throughput: counter(t("overview.throughput")),
    waiting: counter(t("overview.waiting"), "#/tasks?status=pending"),
    running: counter(t("overview.running"), "#/tasks?status=processing"),
    scheduled: counter(t("overview.scheduled"), "#/tasks?status=scheduled,retrying"),
    failed: counter("", "#/errors"),
    workers: counter(t("overview.workers"), "#/workers"),
  };
  counters.workers.card.classList.add("admin-only");

  // --- charts
  const spanNames = Object.fromEntries(Object.keys(SPANS).map((name) => [name, t(`overview.span_${name}`)]));
  const spans = oneOf(t("errors.span"), choices(spanNames), span, (name) => {
    span = name;
    sessionStorage.setItem(SPAN_KEY, name);
    loadCharts().catch(missing);
  });
  const legendOf = (series) =>
    series.map((one) => h(one.href ? "a" : "span", { href: one.href }, h("i", { class: `swatch-${one.tone}` }), h("span", { class: "clip" }, one.name)));
  const chartCard = (title, series, options, tools = null) => {
    const area = h("div", { class: "chart" });
    const chart = new Chart(area, { series, label: title, ...options });
    ending(() => chart.end());
    const legend = h("div", { class: "legend" }, legendOf(series));
    const card = h("section", { class: "card chart-card" }, h("header", {}, h("h2", {}, title), tools, legend), h("div", { class: "body" }, area));
    return { chart, card, legend };
  };
  const outcomes = [
    { key: "completed", name: t("status.completed"), kind: "bar", tone: "good" },
    { key: "failed", name: t("status.failed"), kind: "bar", tone: "bad" },
  ];
  const divided = Object.fromEntries(DIVISIONS.map((name) => [name, t(`overview.by_${name}`)]));
  const divisions = oneOf(t("overview.divide"), choices(divided), division, (name) => {
    division = name;
    loadCharts().catch(missing);
  });
  divisions.classList.add("small");
  const pick = (from, to) => (location.hash = `#/tasks?${new URLSearchParams({ q: `finished_after:${from} finished_before:${to}` })}`);
  const throughput = chartCard(t("overview.ended"), outcomes, { format: number, whole: true, onpick: pick }, divisions);
  const percentiles = (name) => [
    { key: `${name}50`, name: "p50", kind: "line", tone: "accent", area: true },
    { key: `${name}95`, name: "p95", kind: "line", tone: "warn" },
  ];
  const waits = chartCard(t("overview.wait"), percentiles("wait"), { format: duration, steps: DURATIONS, onpick: pick });
  const runs = chartCard(t("overview.run"), percentiles("run"), { format: duration, steps: DURATIONS, onpick: pick });

  // --- groups, types, running tasks, errors
  const listCard = (title, link, ...inside) => h("section", { class: "card" }, h("header", {}, h("h2", {}, title), link), inside);
  const link = (href, text) => h("a", { href, class: "small" }, text);
  const depths = h("div", { class: "depths" });
  const groupsCard = listCard(t("overview.depth"), link("#/groups", t("overview.all_groups")), h("div", { class: "body" }, depths));
  const running = h("div", {});
  const runningCard = listCard(t("overview.running_now"), link("#/tasks?status=processing", t("overview.all_running")), running);
  const errors = h("div", {});
  const errorsCard = listCard(t("overview.last_errors"), link("#/errors", t("overview.all_errors")), errors);
  const types = h("div", {});
  const typesCard = listCard(t("overview.types"), link("#/types", t("overview.all_types")), types);
  const trouble = h("div", { class: "notice warn", role: "status", hidden: true });
  const welcome = h("div", { hidden: true });

  root.append(
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, t("frame.overview")), h("p", {}, t("overview.about"))), spans, newTaskButton("")),
    trouble,
    welcome,
    h(
      "div",
      { class: "counters" },
      Object.values(counters).map((one) => one.card),
    ),
    h("div", { class: "charts" }, throughput.card, groupsCard, waits.card, runs.card),
    typesCard,
    h("div", { class: "charts" }, runningCard, errorsCard),
  );

  // --- data
  let points = [];
  let readAt = 0;
  const point = (bucket, parts) => ({
    at: bucket.at,
    completed: bucket.completed,
    failed: bucket.failed,
    wait50: bucket.wait?.p50_ms ?? null,
    wait95: bucket.wait?.p95_ms ?? null,
    run50: bucket.run?.p50_ms ?? null,
    run95: bucket.run?.p95_ms ?? null,
    ...parts,
  });
  const draw = () => [throughput, waits, runs].forEach(({ chart }) => chart.set(points));

  /** One question for all charts, the counter of failures and the table by type. */
  async function loadCharts() {
    const [ms, bucket] = SPANS[span];
    const wanted = span + division;
    readAt = Date.now();
    // The last hour is what the API answers without a beginning: so this address is the one that `first-view.js` asks for.
    const from = span === "1h" ? null : new Date(readAt - ms).toISOString();
    const stats = await get("stats", { from, bucket, by: division === "queue" ? ["type", "queue"] : "type" });
    if (wanted !== span + division) return null;
    const parts = division === "outcome" ? [] : stats.by[division].slice(0, TONES.length);
    const series = parts.map((part, i) => ({ key: `part${i}`, name: part.name, kind: "bar", tone: TONES[i], href: `#/tasks?${division}=${segment(part.name)}` }));
    points = stats.buckets.map((one, i) => point(one, Object.fromEntries(parts.map((part, n) => [`part${n}`, part.counts[i]]))));
    throughput.chart.show(parts.length ? series : outcomes);
    throughput.legend.replaceChildren(...legendOf(parts.length ? series : outcomes));
    showFailed(stats.total);
    showTypes(stats.by.type);
    well();
    draw();
    return stats.total;
  }
  /** Load only the newest buckets, because the others do not change; now and then all. */
  async function tail() {
    const [ms, bucket] = SPANS[span];
    const wanted = span + division;
    const from = points.at(-1)?.at;
    if (!from || Date.now() - Date.parse(from) > ms || division !== "outcome" || Date.now() - readAt > WHOLE_MS) return loadCharts();
    const stats = await get("stats", { from, bucket });
    if (wanted !== span + division) return undefined;
    points = [...points.slice(0, -1), ...stats.buckets.map((one) => point(one))].slice(-Math.round(points.length));
    const sum = (name) => points.reduce((all, one) => all + one[name], 0);
    showFailed({ completed: sum("completed"), failed: sum("failed") });
    well();
    return draw();
  }
  function showFailed(total) {
    const ended = total.failed + total.completed;
    setText(counters.failed.name, t("overview.failed", { span: spanNames[span] }));
    setText(counters.failed.value, number(total.failed));
    counters.failed.card.classList.toggle("alarm", total.failed > 0);
    setText(counters.failed.more, ended ? t("overview.failed_share", { percent: percent(failureRate(total)), n: ended }) : t("overview.nothing_ended"));
  }
  function showTypes(parts) {
    const row = (part) => {
      const name = segment(part.name);
      return h(
        "tr",
        { dataset: { type: part.name } },
        h("td", {}, h("a", { href: `#/types/${name}` }, part.name || "–")),
        h("td", { class: "hide-small" }, sparkline(part.counts, { width: 96, height: 22 })),
        h("td", { class: "number" }, h("a", { href: `#/tasks?type=${name}` }, number(part.completed + part.failed + part.cancelled))),
        h("td", { class: "number nowrap" }, part.failed ? h("a", { class: "bad", href: `#/errors?type=${name}` }, `${number(part.failed)} · ${percent(failureRate(part))}`) : "–"),
        h("td", { class: "number nowrap hide-small" }, duration(part.wait?.p95_ms)),
        h("td", { class: "number nowrap" }, duration(part.run?.p95_ms)),
      );
    };
    const head = h(
      "tr",
      {},
      h("th", {}, t("types.type")),
      h("th", { class: "hide-small" }, t("types.over_time")),
      h("th", { class: "number" }, t("types.ended")),
      h("th", { class: "number" }, t("types.failed")),
      h("th", { class: "number hide-small" }, t("types.wait95")),
      h("th", { class: "number" }, t("types.run95")),
    );
    types.replaceChildren(
      parts.length
        ? h("div", { class: "scroll-x" }, h("table", { class: "plain" }, h("thead", {}, head), h("tbody", {}, parts.slice(0, TYPES).map(row))))
        : h("div", { class: "empty small" }, t("types.none_ended")),
    );
  }
  async function loadErrors() {
    const { items } = await lastErrors(SAME_MS);
    errors.replaceChildren(
      items.length
        ? h(
            "div",
            { class: "scroll-x" },
            h(
              "table",
              { class: "plain" },
              h(
                "tbody",
                {},
                items.map((one) =>
                  h(
                    "tr",
                    {},
                    h(
                      "td",
                      {},
                      h("a", { href: one.last_task_id ? `#/tasks/${segment(one.last_task_id)}` : "#/errors", class: "clip-lines" }, one.message || one.code || "–"),
                      h("div", { class: "small muted clip-lines" }, one.type),
                    ),
                    h("td", { class: "number nowrap" }, number(one.failures)),
                    h("td", { class: "number faint nowrap", title: exactTime(one.last_seen) }, ago(one.last_seen)),
                  ),
                ),
              ),
            ),
          )
        : h("div", { class: "empty" }, h("strong", {}, t("overview.nothing_failed")), t("overview.nothing_failed_more")),
    );
  }
  const errorsSoon = throttle(() => loadErrors().catch(missing), 4000);
  const well = () => {
    trouble.hidden = true;
    delete trouble.dataset.broken;
  };
  const missing = (error) => {
    trouble.hidden = false;
    trouble.dataset.broken = "";
    trouble.textContent = error.status === 501 || error.status === 503 ? t("overview.history", { why: error.message }) : error.message;
  };

  function showState({ groups, workers, delayed }) {
    const waiting = groups.reduce((sum, one) => sum + one.waiting, 0);
    const busy = groups.reduce((sum, one) => sum + one.running, 0);
    const unserved = groups.filter((one) => one.unserved && !one.paused);
    const within = waiting ? t("overview.in_groups", { n: groups.filter((one) => one.waiting).length }) : "";
    setText(counters.waiting.value, number(waiting));
    setText(counters.waiting.more, unserved.length ? t("overview.unserved", { group: unserved[0].name }) : within);
    setText(counters.running.value, number(busy));
    setText(counters.scheduled.value, number(delayed));
    setText(counters.scheduled.more, t("overview.and_retrying"));
    setText(counters.workers.value, number(workers.length));
    const kinds = new Map();
    for (const one of workers) kinds.set(one.kind, (kinds.get(one.kind) ?? 0) + 1);
    setText(counters.workers.more, [...kinds].map(([kind, count]) => `${count} ${kind}`).join(", "));
    counters.workers.card.classList.toggle("alarm", workers.length === 0);
    const deepest = Math.max(1, ...groups.map((one) => one.waiting));
    const shown = [...groups].sort((a, b) => b.waiting - a.waiting || b.running - a.running || a.name.localeCompare(b.name)).slice(0, 40);
    depths.replaceChildren(
      ...shown.map((one) => {
        const meter = bar(0, null, t("overview.depth_of", { group: one.name }));
        setBar(meter, (100 * one.waiting) / deepest);
        return h(
          "div",
          { class: "depth" },
          h("span", { class: "clip" }, h("a", { href: `#/tasks?queue=${segment(one.name)}` }, one.name), one.paused ? [" ", statusBadge("paused")] : null),
          h("span", { class: "muted" }, t("overview.depth_is", { waiting: one.waiting, running: one.running })),
          meter,
        );
      }),
    );
  }

  const rows = new Map();
  function showRunning() {
    const list = [...rows.values()].sort((a, b) => (a.started_at < b.started_at ? 1 : -1)).slice(0, 6);
    running.replaceChildren(
      list.length
        ? h(
            "div",
            { class: "scroll-x" },
            h(
              "table",
              { class: "plain" },
              h(
                "tbody",
                {},
                list.map((task) =>
                  h(
                    "tr",
                    {},
                    h(
                      "td",
                      {},
                      h("a", { href: `#/tasks/${segment(task.task_id)}` }, task.type),
                      h("div", { class: "small faint mono" }, shortId(task.task_id)),
                    ),
                    h("td", {}, bar(task.progress.percentage, null), h("div", { class: "small muted clip-lines" }, task.progress.stage || task.queue)),
                    h("td", { class: "number faint nowrap" }, duration(ranFor(task))),
                  ),
                ),
              ),
            ),
          )
        : h("div", { class: "empty" }, h("strong", {}, t("overview.nothing_runs")), pieces("overview.nothing_runs_more", { command: h("code", {}, "celeriac submit --help") })),
    );
  }
  const drawRunning = throttle(showRunning, 500);
  async function loadRunning() {
    const found = await get("running", { limit: 50 });
    rows.clear();
    for (const task of found.tasks) rows.set(task.task_id, task);
    drawRunning();
  }
  function showRates() {
    const last = live.rates.slice(-10);
    if (!last.length) return;
    const ms = last.reduce((sum, rate) => sum + rate.span_ms, 0);
    const ended = last.reduce((sum, rate) => sum + rate.completed + rate.failed + rate.cancelled, 0);
    const each = (1000 * ended) / ms;
    counters.throughput.value.replaceChildren(
      each === 0 ? "0" : each < 10 ? each.toFixed(1) : number(Math.round(each)),
      " ",
      h("small", { class: "unit" }, t("overview.per_second")),
    );
    counters.throughput.more.replaceChildren(
      sparkline(
        live.rates.slice(-60).map((rate) => ((rate.completed + rate.failed + rate.cancelled) * 1000) / rate.span_ms),
        { width: 110, height: 22 },
      ),
    );
  }

  if (live.groups) showState(live);
  showRates();
  ending(live.on("state", showState));
  ending(live.on("rates", showRates));
  ending(
    live.on("tasks", ({ tasks }) => {
      for (const task of tasks) {
        if (task.status === "processing") rows.set(task.task_id, task);
        else rows.delete(task.task_id);
        if (task.status === "failed") errorsSoon();
      }
      if (rows.size > 400) loadRunning().catch(() => {});
      drawRunning();
    }),
  );
  const welcomed = () =>
    import("../welcome.js")
      .then(({ greet }) => greet(welcome, me))
      .catch(() => {});
  // An installation with tasks in its charts is not new.
  loadCharts()
    .then(
      (total) => total?.submitted || welcomed(),
      (error) => (missing(error), welcomed()),
    )
    .finally(errorsSoon);
  loadRunning().catch(complain);
  const timers = [
    // The history is slightly behind the events, so it is read again and again.
    setInterval(() => document.hidden || (tail().catch(missing), errorsSoon()), TAIL_MS),
    setInterval(() => document.hidden || loadRunning().catch(() => {}), 30000),
    setInterval(drawRunning, 1000),
  ];
  ending(() => timers.forEach(clearInterval));
}
