// All tasks: filters in the address, endless rows, live changes.

import { get } from "../api.js";
import { bar, h, icon, setBar, setText, statusBadge } from "../dom.js";
import { ago, duration, fullTime, ranFor, shortId } from "../format.js";
import { newTaskButton } from "../new-task.js";
import { TaskList } from "../tasklist.js";
import { debounce } from "../ui.js";

const STATUSES = ["pending", "processing", "waiting", "scheduled", "retrying", "completed", "failed", "cancelled"];
const SINCE = { "": "Any time", "15m": "Last 15 minutes", "1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days" };
const SINCE_MS = { "15m": 900e3, "1h": 3600e3, "24h": 86400e3, "7d": 7 * 86400e3 };
const NAMES = ["status", "type", "queue", "key", "user_id", "tag", "since", "created_after", "created_before", "definition_id", "workflow_id", "q"];

/** Fill a row, or update the elements that it has already. */
export function renderTask(task, row) {
  if (!row.cells) {
    row.cells = {
      status: statusBadge(task.status),
      about: h("span", { class: "about clip" }),
      meter: bar(0, null),
      percent: h("span", {}),
      ran: h("span", { class: "time" }),
      age: h("span", { class: "time" }),
    };
    row.append(
      h("span", {}, row.cells.status),
      h("span", { class: "what" }, h("b", { class: "clip" }, task.type), h("span", { class: "id hide-small" }, shortId(task.task_id))),
      h("span", { class: "muted clip" }, task.queue),
      (row.cells.key = h("span", { class: "key clip" })),
      (row.cells.slot = h("span", { class: "clip" })),
      row.cells.ran,
      row.cells.age,
    );
    row.cells.meterBox = h("span", { class: "meter" }, row.cells.meter, row.cells.percent);
    row.cells.age.title = fullTime(task.created_at);
  }
  const { cells } = row;
  if (cells.status.dataset.status !== task.status) {
    cells.status.dataset.status = task.status;
    setText(cells.status, task.status);
  }
  const running = task.status === "processing";
  const wanted = running && !task.damaged && task.progress.percentage > 0 ? cells.meterBox : cells.about;
  if (cells.slot.firstChild !== wanted) cells.slot.replaceChildren(wanted);
  if (wanted === cells.meterBox) {
    setBar(cells.meter, task.progress.percentage);
    setText(cells.percent, `${Math.round(task.progress.percentage)} %`);
  } else {
    const failed = task.error && ["failed", "retrying"].includes(task.status);
    cells.about.classList.toggle("bad", Boolean(failed));
    const later = task.status === "scheduled" && task.run_at ? `runs ${ago(task.run_at)}` : "";
    setText(cells.about, task.damaged ? `damaged: ${task.damaged}` : failed ? task.error.message : later || task.progress.message || task.progress.stage || (task.tags ?? []).join(", "));
  }
  setText(cells.key, task.key ?? "");
  cells.key.title = task.key ?? "";
  setText(cells.ran, task.started_at ? duration(ranFor(task)) : "");
  setText(cells.age, ago(task.created_at));
}

export function show(root, { query: given, ending }) {
  root.classList.add("fill");
  const query = {};
  for (const name of NAMES) if (given.get(name)) query[name] = given.get(name);

  const list = new TaskList({
    columns: ["Status", "Task", "Group", "Key", "", "Ran", "Age"],
    render: renderTask,
    label: "Tasks",
    empty: (asked) =>
      Object.keys(asked).some((name) => name !== "since" && asked[name])
        ? [h("strong", {}, "No task matches"), h("button", { class: "button small", type: "button", onclick: () => clear() }, "Show all tasks")]
        : [h("strong", {}, "No tasks yet"), "Submitted tasks appear here, the newest first."],
  });
  ending(() => list.end());

  const search = h("input", {
    class: "field",
    type: "search",
    placeholder: "Task id, or words of an error",
    value: query.q ?? "",
    "aria-label": "Search",
    dataset: { search: "" },
    autocomplete: "off",
    spellcheck: "false",
  });
  const tabs = h("div", { class: "status-tabs", role: "group", "aria-label": "Status" });
  const select = (label, first) => h("select", { class: "field", "aria-label": label }, h("option", { value: "" }, first));
  const type = select("Type", "All types");
  const queue = select("Group", "All groups");
  const since = h(
    "select",
    { class: "field", "aria-label": "Submitted" },
    Object.entries(SINCE).map(([value, text]) => h("option", { value }, text)),
  );
  const user = h("input", { class: "field short admin-only", placeholder: "User", "aria-label": "User", value: query.user_id ?? "", autocomplete: "off" });
  const taskKey = h("input", { class: "field short", placeholder: "Key", "aria-label": "Key", value: query.key ?? "", autocomplete: "off", spellcheck: "false" });
  const tag = h("input", { class: "field short", placeholder: "Tag", "aria-label": "Tag", value: query.tag ?? "", autocomplete: "off" });
  since.value = query.since ?? "";
  const option = (field, value) => {
    if (value && ![...field.options].some((one) => one.value === value)) field.append(h("option", { value }, value));
    field.value = value ?? "";
  };
  option(type, query.type);
  option(queue, query.queue);
  get("task-types").then(
    ({ task_types: types }) => (types.forEach((one) => option(type, one.name)), option(type, query.type)),
    () => {},
  );
  get("groups").then(
    ({ groups }) => (groups.forEach((one) => option(queue, one.name)), option(queue, query.queue)),
    () => {},
  );

  function drawTabs() {
    const chosen = new Set((query.status ?? "").split(",").filter(Boolean));
    const tab = (text, status) =>
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(status ? chosen.has(status) : chosen.size === 0),
          onclick: (event) => {
            // With a modifier key, several statuses can be chosen.
            const next = status === null ? new Set() : event.shiftKey || event.metaKey || event.ctrlKey ? chosen : new Set();
            if (status !== null) chosen.has(status) && next === chosen ? next.delete(status) : next.add(status);
            apply({ status: [...next].join(",") });
          },
        },
        text,
      );
    tabs.replaceChildren(tab("All", null), ...STATUSES.map((status) => tab(status[0].toUpperCase() + status.slice(1), status)));
  }

  function load() {
    const { since: span, ...asked } = query;
    if (span) asked.created_after = new Date(Date.now() - SINCE_MS[span]).toISOString();
    return list.load(asked);
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

  const typed = debounce(() => apply({ q: search.value.trim(), key: taskKey.value.trim(), user_id: user.value.trim(), tag: tag.value.trim() }), 250);
  for (const field of [search, taskKey, user, tag]) field.addEventListener("input", typed);
  type.addEventListener("change", () => apply({ type: type.value }));
  queue.addEventListener("change", () => apply({ queue: queue.value }));
  since.addEventListener("change", () => apply({ since: since.value }));

  root.append(
    h("div", { class: "head" }, h("h1", { class: "grow" }, "Tasks"), newTaskButton()),
    h(
      "div",
      { class: "filters" },
      h("div", { class: "search" }, icon("search"), search, h("kbd", { class: "hide-small" }, "/")),
      type,
      queue,
      since,
      taskKey,
      user,
      tag,
    ),
    tabs,
    list.element,
  );
  drawTabs();
  load();
  if (given.get("focus") === "search") {
    history.replaceState(null, "", "#/tasks");
    search.focus();
  }
}
