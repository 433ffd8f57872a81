// All tasks: filters in the address, counts and a histogram, endless rows, live changes, and what can be done with many.

import { get } from "../api.js";
import { h, icon, setText } from "../dom.js";
import { FilterChips } from "../filter-chips.js";
import { clockTime, number } from "../format.js";
import { Histogram } from "../histogram.js";
import { live } from "../live.js";
import { cancelTasks, copyIds, retryTasks } from "../selection.js";
import { Suggestions } from "../suggestions.js";
import { TaskList } from "../tasklist.js";
import { ROW_FIELDS, renderTask, taskColumns } from "../taskrow.js";
import { capital, t } from "../text.js";
import { complain, debounce, newTaskButton, openNewTask } from "../ui.js";

const STATUSES = ["pending", "processing", "waiting", "scheduled", "retrying", "completed", "failed", "cancelled"];
const SINCE = ["", "15m", "1h", "24h", "7d"];
const SINCE_MS = { "15m": 900e3, "1h": 3600e3, "24h": 86400e3, "7d": 7 * 86400e3 };
const NAMES = ["status", "type", "queue", "key", "user_id", "tag", "since", "created_after", "created_before", "definition_id", "workflow_id", "error_group", "q"];
/** What is filtered beside search and status, for the number on the button of a phone. */
const FOLDED = ["type", "queue", "key", "user_id", "tag", "since", "created_after", "definition_id", "workflow_id", "error_group"];
const BUCKETS = 90;
/** How often counts and histogram follow the changes (ms). */
const FIGURES_MS = 4000;
/** After this time the history has a change, if it is not far behind (ms). */
const RECORDED_MS = 1500;

export function show(root, { query: given, ending }) {
  root.classList.add("fill", "tasks-view");
  const query = {};
  for (const name of NAMES) if (given.get(name)) query[name] = given.get(name);

  const list = new TaskList({
    columns: taskColumns(),
    render: renderTask,
    className: "tasks",
    label: t("frame.tasks"),
    height: 34,
    phoneHeight: 58,
    selects: true,
    fields: ROW_FIELDS,
    onkey: (key, task) => act(key, task),
    onread: (error) => tell(error),
    empty: (asked) =>
      Object.keys(asked).some((name) => asked[name])
        ? [h("strong", {}, t("tasks.no_match")), asked.q ? h("p", {}, t("tasks.searched")) : null, h("button", { class: "button small", type: "button", onclick: () => clear() }, t("tasks.show_all"))].filter(Boolean)
        : [h("strong", {}, t("tasks.none")), t("tasks.none_hint")],
  });
  ending(() => list.end());
  const histogram = new Histogram((after, before) => apply({ since: "", created_after: after, created_before: before }));

  const search = h("input", {
    class: "field",
    type: "search",
    placeholder: t("tasks.search_hint"),
    value: query.q ?? "",
    "aria-label": t("tasks.search"),
    dataset: { search: "" },
    autocomplete: "off",
    spellcheck: "false",
  });
  // What is wrong with a search is said below its field, and the list stays as it was.
  const trouble = h("p", { class: "error-text", id: "search-trouble", role: "alert", hidden: true });
  const suggestions = new Suggestions(search, { type: () => names(type), group: () => names(queue) });
  ending(() => suggestions.end());
  const chips = new FilterChips((change) => {
    if (change.q !== undefined) search.value = change.q;
    apply(change);
    search.focus();
  });
  const names = (field) => [...field.options].map((one) => one.value).filter(Boolean);
  const tabs = h("div", { class: "status-tabs", role: "group", "aria-label": t("tasks.status") });
  const counts = {};
  const select = (label, first) => h("select", { class: "field fold", "aria-label": label }, h("option", { value: "" }, first));
  const type = select(t("tasks.type"), t("tasks.all_types"));
  const queue = select(t("tasks.group"), t("tasks.all_groups"));
  const since = h(
    "select",
    { class: "field fold", "aria-label": t("tasks.submitted") },
    SINCE.map((value) => h("option", { value }, t(`tasks.since_${value || "ever"}`))),
  );
  const input = (label, value, kind = "") => h("input", { class: `field short fold ${kind}`, placeholder: label, "aria-label": label, value: value ?? "", autocomplete: "off", spellcheck: "false" });
  const user = input(t("tasks.user"), query.user_id, "admin-only");
  const taskKey = input(t("tasks.key"), query.key);
  const tag = input(t("tasks.tag"), query.tag);
  const unfold = h("button", { class: "button unfold only-small", type: "button", "aria-expanded": "false", onclick: () => fold() });
  const filters = h("div", { class: "filters" }, h("div", { class: "search" }, icon("search"), search, h("kbd", { class: "hide-small" }, "/"), suggestions.list), unfold, type, queue, since, taskKey, user, tag);
  const option = (field, value) => {
    if (value && ![...field.options].some((one) => one.value === value)) field.append(h("option", { value }, value));
    field.value = value ?? "";
  };
  option(type, query.type);
  option(queue, query.queue);
  function readOptions() {
    get("task-types").then(
      ({ task_types: types }) => (types.forEach((one) => option(type, one.name)), option(type, query.type)),
      () => {},
    );
    get("groups").then(
      ({ groups }) => (groups.forEach((one) => option(queue, one.name)), option(queue, query.queue)),
      () => {},
    );
  }

  function fold() {
    const open = filters.classList.toggle("open");
    unfold.setAttribute("aria-expanded", String(open));
  }

  /** Build the tabs once; `drawTabs` marks the chosen ones. */
  function buildTabs() {
    const tab = (text, status) => {
      counts[status ?? "all"] = h("span", { class: "count" });
      return h(
        "button",
        {
          type: "button",
          dataset: { status: status ?? "" },
          onclick: (event) => {
            const chosen = new Set((query.status ?? "").split(",").filter(Boolean));
            // With a modifier key, several statuses can be chosen.
            const next = status === null ? new Set() : event.shiftKey || event.metaKey || event.ctrlKey ? chosen : new Set();
            if (status !== null) chosen.has(status) && next === chosen ? next.delete(status) : next.add(status);
            apply({ status: [...next].join(",") });
          },
        },
        text,
        counts[status ?? "all"],
      );
    };
    tabs.append(tab(t("tasks.all"), null), ...STATUSES.map((status) => tab(capital(t(`status.${status}`)), status)));
  }

  function drawTabs() {
    chips.draw(query);
    const chosen = new Set((query.status ?? "").split(",").filter(Boolean));
    for (const button of tabs.children) button.setAttribute("aria-pressed", String(button.dataset.status ? chosen.has(button.dataset.status) : chosen.size === 0));
    const folded = FOLDED.filter((name) => query[name]).length;
    setText(unfold, folded ? t("tasks.filters_n", { n: folded }) : t("tasks.filters"));
    // A span that was chosen on the histogram is an option while it lasts.
    since.querySelector("[value=chosen]")?.remove();
    if (query.created_after || query.created_before) {
      const text = `${query.created_after ? clockTime(query.created_after) : "…"} – ${query.created_before ? clockTime(query.created_before) : "…"}`;
      since.append(h("option", { value: "chosen" }, text));
      since.value = "chosen";
    } else since.value = query.since ?? "";
  }

  /** Show what the server says of the search; returns whether the error was one of that. */
  function tell(error) {
    const wrong = error?.errors?.find(({ field }) => field === "q");
    trouble.hidden = !wrong;
    setText(trouble, wrong?.message ?? "");
    if (wrong) search.setAttribute("aria-invalid", "true");
    else search.removeAttribute("aria-invalid");
    return Boolean(wrong);
  }

  /** Return the parameters of the API: a span before now as a moment. */
  function asked() {
    const { since: span, ...rest } = query;
    return span ? { ...rest, created_after: new Date(Date.now() - SINCE_MS[span]).toISOString() } : rest;
  }

  let reading = null;
  async function readFigures() {
    reading?.abort();
    readAt = Date.now();
    const { signal } = (reading = new AbortController());
    const { status, ...others } = asked();
    try {
      const [found, bars] = await Promise.all([get("task-counts", others, { signal }), get("task-histogram", { ...others, status, buckets: BUCKETS }, { signal })]);
      drawFigures(found, status);
      histogram.draw(bars);
      // Until the history has everything; on a busy platform that is the usual pace.
      if (found.behind_ms) followFigures();
    } catch (error) {
      // The list says what is wrong.
      if (error.name !== "AbortError") list.setTotal(null);
    }
  }
  ending(() => reading?.abort());

  function drawFigures(found, status) {
    const more = new Set(found.more);
    const shown = (n, open) => (n ? `${number(n)}${open ? "+" : ""}` : "");
    setText(counts.all, shown(found.total, more.size));
    for (const one of STATUSES) setText(counts[one], shown(found.counts[one], more.has(one)));
    const chosen = status ? status.split(",") : STATUSES;
    list.setTotal({ n: chosen.reduce((sum, one) => sum + (found.counts[one] ?? 0), 0), more: chosen.some((one) => more.has(one)) });
  }

  // Some time after a change, when the history has it.
  let following = null;
  let readAt = 0;
  function followFigures() {
    following ??= setTimeout(
      () => {
        following = null;
        if (!document.hidden) readFigures();
      },
      Math.max(RECORDED_MS, readAt + FIGURES_MS - Date.now()),
    );
  }
  ending(live.on("tasks", followFigures));
  ending(() => clearTimeout(following));

  let loads = 0;
  async function load() {
    const mine = ++loads;
    // The rows are what people wait for. Counts and histogram would keep the server from them.
    await list.load(asked());
    if (mine === loads && root.isConnected) readFigures();
  }

  function apply(change) {
    for (const [name, value] of Object.entries(change)) {
      if (value) query[name] = value;
      else delete query[name];
    }
    const text = new URLSearchParams(query).toString();
    // This does not add a page to the history: going back leaves the view.
    history.replaceState(null, "", `#/tasks${text ? `?${text}` : ""}`);
    drawTabs();
    load();
  }

  function clear() {
    search.value = taskKey.value = user.value = tag.value = type.value = queue.value = since.value = "";
    apply(Object.fromEntries(NAMES.map((name) => [name, ""])));
  }

  /** Do what a key means for the selected tasks, else for the current row. */
  function act(key, task) {
    const works = { r: retryTasks, c: cancelTasks, y: copyIds };
    const work = Object.hasOwn(works, key) && works[key];
    const reads = key === "y";
    if (!work || (!reads && document.documentElement.dataset.submit === "no")) return false;
    if (list.selection.all) list.bar.press(key);
    else {
      const tasks = list.selection.empty ? (task ? [task] : []) : list.selection.tasks;
      if (!tasks.length) return false;
      Promise.resolve(work(tasks)).catch(complain);
    }
    return true;
  }

  const typed = debounce(() => apply({ q: search.value.trim(), key: taskKey.value.trim(), user_id: user.value.trim(), tag: tag.value.trim() }), 250);
  for (const field of [search, taskKey, user, tag]) field.addEventListener("input", typed);
  type.addEventListener("change", () => apply({ type: type.value }));
  queue.addEventListener("change", () => apply({ queue: queue.value }));
  since.addEventListener("change", () => since.value !== "chosen" && apply({ since: since.value, created_after: "", created_before: "" }));

  root.append(
    h("div", { class: "head" }, h("h1", {}, t("frame.tasks")), tabs, newTaskButton()),
    filters,
    trouble,
    chips.element,
    histogram.element,
    list.element,
  );
  buildTabs();
  drawTabs();
  load().finally(readOptions);
  const address = () => history.replaceState(null, "", "#/tasks");
  if (given.get("focus") === "search") {
    address();
    search.focus();
  } else if (given.has("new")) {
    address();
    openNewTask(given.get("new"));
  }
}
