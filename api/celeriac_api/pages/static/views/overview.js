// The state of the platform: counters, charts of the last hours, the last failures, the running tasks.

import { get } from "../api.js";
import { Chart, sparkline } from "../chart.js";
import { bar, h, setBar, setText, statusBadge } from "../dom.js";
import { DURATIONS, ago, duration, number, ranFor, shortId } from "../format.js";
import { live } from "../live.js";
import { complain, throttle } from "../ui.js";
import { newTaskButton } from "../new-task.js";
import { greet } from "../welcome.js";

const SPANS = { "15 m": [900e3, "1m"], "1 h": [3600e3, "1m"], "6 h": [6 * 3600e3, "5m"], "24 h": [86400e3, "15m"], "7 d": [7 * 86400e3, "6h"] };
const SPAN_KEY = "celeriac.overview.span";

const inGroups = (count) => `in ${number(count)} ${count === 1 ? "group" : "groups"}`;

export function show(root, { ending, me }) {
  let span = sessionStorage.getItem(SPAN_KEY) in SPANS ? sessionStorage.getItem(SPAN_KEY) : "1 h";

  // --- counters
  const counter = (name, href) => {
    const parts = { value: h("span", { class: "value" }, "–"), more: h("span", { class: "more clip-lines" }) };
    parts.card = h(href ? "a" : "div", { class: "card counter", href }, h("span", { class: "name" }, name), parts.value, parts.more);
    return parts;
  };
  const counters = {
    throughput: counter("Throughput"),
    waiting: counter("Waiting", "#/tasks?status=pending"),
    running: counter("Running", "#/tasks?status=processing"),
    scheduled: counter("Scheduled", "#/tasks?status=scheduled,retrying"),
    failed: counter("Failed, last hour", "#/dead"),
    workers: counter("Workers online", "#/workers"),
  };

  counters.workers.card.classList.add("admin-only");

  // --- charts
  const spans = h("div", { class: "segments", role: "group", "aria-label": "Time span" });
  for (const name of Object.keys(SPANS)) {
    spans.append(
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(name === span),
          onclick: () => {
            span = name;
            sessionStorage.setItem(SPAN_KEY, name);
            for (const one of spans.children) one.setAttribute("aria-pressed", String(one.textContent === name));
            loadCharts().catch(complain);
          },
        },
        name,
      ),
    );
  }
  const chartCard = (title, series, options) => {
    const area = h("div", { class: "chart" });
    const chart = new Chart(area, { series, label: title, ...options });
    ending(() => chart.end());
    const swatch = { good: "good", bad: "bad", accent: "accent", info: "info", faint: "faint", warn: "warn" };
    const card = h(
      "section",
      { class: "card chart-card" },
      h(
        "header",
        {},
        h("h2", {}, title),
        h(
          "div",
          { class: "legend" },
          series.map((one) => h("span", {}, h("i", { class: `swatch-${swatch[one.tone]}` }), one.name)),
        ),
      ),
      h("div", { class: "body" }, area),
    );
    return { chart, card };
  };
  const throughput = chartCard(
    "Tasks ended",
    [
      { key: "completed", name: "completed", kind: "bar", tone: "good" },
      { key: "failed", name: "failed", kind: "bar", tone: "bad" },
    ],
    { format: number, whole: true },
  );
  const waits = chartCard(
    "Wait for a worker",
    [
      { key: "wait50", name: "p50", kind: "line", tone: "accent", area: true },
      { key: "wait95", name: "p95", kind: "line", tone: "warn" },
    ],
    { format: duration, steps: DURATIONS },
  );
  const runs = chartCard(
    "Run time",
    [
      { key: "run50", name: "p50", kind: "line", tone: "accent", area: true },
      { key: "run95", name: "p95", kind: "line", tone: "warn" },
    ],
    { format: duration, steps: DURATIONS },
  );

  // --- groups, running tasks, failed tasks
  const depths = h("div", { class: "depths" });
  const groupsCard = h(
    "section",
    { class: "card" },
    h("header", {}, h("h2", {}, "Queue depth by group"), h("a", { href: "#/groups", class: "small" }, "All groups")),
    h("div", { class: "body" }, depths),
  );
  const running = h("div", {});
  const runningCard = h(
    "section",
    { class: "card" },
    h("header", {}, h("h2", {}, "Running now"), h("a", { href: "#/tasks?status=processing", class: "small" }, "All running")),
    running,
  );
  const failures = h("div", {});
  const failuresCard = h(
    "section",
    { class: "card" },
    h("header", {}, h("h2", {}, "Last failures"), h("a", { href: "#/dead", class: "small" }, "Dead letters")),
    failures,
  );
  const trouble = h("div", { class: "notice warn", role: "status", hidden: true });
  const welcome = h("div", { hidden: true });

  root.append(
    h(
      "div",
      { class: "head" },
      h("div", { class: "grow" }, h("h1", {}, "Overview"), h("p", {}, "Background work: what was submitted, what runs, what ended.")),
      spans,
      newTaskButton(""),
    ),
    trouble,
    welcome,
    h(
      "div",
      { class: "counters" },
      Object.values(counters).map((one) => one.card),
    ),
    h("div", { class: "charts" }, throughput.card, groupsCard, waits.card, runs.card),
    h("div", { class: "charts" }, runningCard, failuresCard),
  );

  // --- data
  let points = [];
  const point = (bucket) => ({
    at: bucket.at,
    completed: bucket.completed,
    failed: bucket.failed,
    wait50: bucket.wait?.p50_ms ?? null,
    wait95: bucket.wait?.p95_ms ?? null,
    run50: bucket.run?.p50_ms ?? null,
    run95: bucket.run?.p95_ms ?? null,
  });
  const draw = () => [throughput, waits, runs].forEach(({ chart }) => chart.set(points));
  async function loadCharts() {
    const [ms, bucket] = SPANS[span];
    const wanted = span;
    const stats = await get("stats", { from: new Date(Date.now() - ms).toISOString(), bucket });
    if (wanted !== span) return;
    points = stats.buckets.map(point);
    well();
    draw();
  }
  /** Load only the newest buckets, because the others do not change. */
  async function tail() {
    const [ms, bucket] = SPANS[span];
    const wanted = span;
    const from = points.at(-1)?.at;
    if (!from || Date.now() - Date.parse(from) > ms) return loadCharts();
    const stats = await get("stats", { from, bucket });
    if (wanted !== span) return undefined;
    points = [...points.slice(0, -1), ...stats.buckets.map(point)].slice(-Math.round(points.length));
    well();
    return draw();
  }
  async function loadFailed() {
    const hour = new Date(Date.now() - 3600e3).toISOString();
    const [stats, dead] = await Promise.all([get("stats", { from: hour, bucket: "5m" }), get("dead", { limit: 6 })]);
    setText(counters.failed.value, number(stats.total.failed));
    counters.failed.card.classList.toggle("alarm", stats.total.failed > 0);
    const ended = stats.total.failed + stats.total.completed;
    setText(counters.failed.more, ended ? `${((100 * stats.total.failed) / ended).toFixed(1)} % of ${number(ended)}` : "nothing ended");
    failures.replaceChildren(
      dead.items.length
        ? h(
            "div",
            { class: "scroll-x" },
            h(
              "table",
              { class: "plain" },
              h(
                "tbody",
                {},
                dead.items.map((task) =>
                  h(
                    "tr",
                    {},
                    h(
                      "td",
                      {},
                      h("a", { href: `#/tasks/${encodeURIComponent(task.task_id)}` }, task.type),
                      h("div", { class: "small muted clip-lines" }, (task.error?.message ?? "").slice(0, 110)),
                    ),
                    h("td", { class: "number faint nowrap", title: task.finished_at }, ago(task.finished_at)),
                  ),
                ),
              ),
            ),
          )
        : h("div", { class: "empty" }, h("strong", {}, "Nothing failed"), "Tasks that fail for good are listed here."),
    );
  }
  const failedSoon = throttle(() => loadFailed().catch(missing), 4000);
  const well = () => {
    trouble.hidden = true;
    delete trouble.dataset.broken;
  };
  const missing = (error) => {
    trouble.hidden = false;
    trouble.dataset.broken = "";
    trouble.textContent = error.status === 501 || error.status === 503 ? `History: ${error.message}` : error.message;
  };

  function showState({ groups, workers, delayed }) {
    const waiting = groups.reduce((sum, one) => sum + one.waiting, 0);
    const busy = groups.reduce((sum, one) => sum + one.running, 0);
    const unserved = groups.filter((one) => one.unserved && !one.paused);
    setText(counters.waiting.value, number(waiting));
    setText(counters.waiting.more, unserved.length ? `no worker for ${unserved[0].name}` : waiting ? inGroups(groups.filter((one) => one.waiting).length) : "");
    setText(counters.running.value, number(busy));
    setText(counters.scheduled.value, number(delayed));
    setText(counters.scheduled.more, "and retrying");
    setText(counters.workers.value, number(workers.length));
    const kinds = Object.entries(Object.groupBy ? Object.groupBy(workers, (one) => one.kind) : { all: workers });
    setText(counters.workers.more, kinds.map(([kind, list]) => `${list.length} ${kind}`).join(", "));
    counters.workers.card.classList.toggle("alarm", workers.length === 0);
    const deepest = Math.max(1, ...groups.map((one) => one.waiting));
    const shown = [...groups].sort((a, b) => b.waiting - a.waiting || b.running - a.running || a.name.localeCompare(b.name)).slice(0, 40);
    depths.replaceChildren(
      ...shown.map((one) => {
        const meter = bar(0, null, `${one.name}: waiting`);
        setBar(meter, (100 * one.waiting) / deepest);
        return h(
          "div",
          { class: "depth" },
          h(
            "span",
            { class: "clip" },
            h("a", { href: `#/tasks?queue=${encodeURIComponent(one.name)}` }, one.name),
            one.paused ? [" ", statusBadge("paused")] : null,
          ),
          h("span", { class: "muted" }, `${number(one.waiting)} waiting · ${number(one.running)} running`),
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
                      h("a", { href: `#/tasks/${encodeURIComponent(task.task_id)}` }, task.type),
                      h("div", { class: "small faint mono" }, shortId(task.task_id)),
                    ),
                    h("td", {}, bar(task.progress.percentage, null), h("div", { class: "small muted clip-lines" }, task.progress.stage || task.queue)),
                    h("td", { class: "number faint nowrap" }, duration(ranFor(task))),
                  ),
                ),
              ),
            ),
          )
        : h("div", { class: "empty" }, h("strong", {}, "Nothing runs"), "Submit a task: ", h("code", {}, "celeriac submit --help")),
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
      h("small", { class: "unit" }, "/ s"),
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
        if (task.status === "failed") failedSoon();
      }
      if (rows.size > 400) loadRunning().catch(() => {});
      drawRunning();
    }),
  );
  greet(welcome, me).catch(() => {});
  loadCharts().catch(missing);
  loadRunning().catch(complain);
  failedSoon();
  const timers = [
    // The history is slightly behind the events, so it is read again and again.
    setInterval(() => document.hidden || (tail().catch(missing), failedSoon()), 5000),
    setInterval(() => document.hidden || loadRunning().catch(() => {}), 30000),
    setInterval(drawRunning, 1000),
  ];
  ending(() => timers.forEach(clearInterval));
}
