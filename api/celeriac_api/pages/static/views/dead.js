// Dead letters: the tasks that failed for good, retries of one or many, and the progress of bulk operations.

import { get, onceKey, post } from "../api.js";
import { bar, h, icon, setText, statusBadge } from "../dom.js";
import { ago, number } from "../format.js";
import { live } from "../live.js";
import { TaskList } from "../tasklist.js";
import { complain, confirm, debounce, note, throttle } from "../ui.js";
import { renderTask } from "./tasks.js";

const BULK = "celeriac.bulk";

export function show(root, { ending }) {
  root.classList.add("fill");
  const query = {};
  const list = new TaskList({
    path: "dead",
    className: "dead",
    columns: ["Status", "Task", "Group", "Key", "Error", "Ran", "Failed"],
    render: (task, row) => {
      renderTask(task, row);
      // The age counts from the failure.
      setText(row.cells.age, ago(task.finished_at));
    },
    label: "Dead letters",
    empty: (asked) =>
      asked.type || asked.q || asked.queue || asked.key
        ? [h("strong", {}, "Nothing matches"), "Try another filter."]
        : [h("strong", {}, "No dead letters"), "Tasks that have no attempts left are kept here, so that you can look at them and run them again."],
  });
  ending(() => list.end());
  const search = h("input", {
    class: "field",
    type: "search",
    placeholder: "Words of the error, or a task id",
    "aria-label": "Search",
    dataset: { search: "" },
    autocomplete: "off",
  });
  const select = (label, first) => h("select", { class: "field", "aria-label": label }, h("option", { value: "" }, first));
  const type = select("Type", "All types");
  const queue = select("Group", "All groups");
  const taskKey = h("input", { class: "field short", placeholder: "Key", "aria-label": "Key", autocomplete: "off", spellcheck: "false" });
  get("task-types").then(
    ({ task_types: types }) => type.append(...types.map((one) => h("option", {}, one.name))),
    () => {},
  );
  get("groups").then(
    ({ groups }) => queue.append(...groups.map((one) => h("option", {}, one.name))),
    () => {},
  );
  const apply = () => {
    Object.assign(query, { q: search.value.trim(), type: type.value, queue: queue.value, key: taskKey.value.trim() });
    list.load({ ...query, status: "failed" });
  };
  for (const field of [search, taskKey]) field.addEventListener("input", debounce(apply, 250));
  type.addEventListener("change", apply);
  queue.addEventListener("change", apply);

  async function retryAll() {
    const filter = Object.fromEntries(Object.entries({ ...query, status: ["failed"] }).filter(([, value]) => value));
    try {
      const { matched } = await post("bulk", { action: "retry", filter, dry_run: true });
      if (!matched) return note("Nothing matches");
      const chosen = Object.keys(filter).length > 1 ? "that match the filter" : "in all groups";
      if (
        !(await confirm({
          title: `Retry ${number(matched)} ${matched === 1 ? "task" : "tasks"}?`,
          text: `All dead letters ${chosen} go back to their groups with all their attempts.`,
          action: `Retry ${number(matched)}`,
        }))
      )
        return undefined;
      const { task_id: id } = await post("bulk", { action: "retry", filter }, { headers: { "Idempotency-Key": onceKey() } });
      note(h("span", {}, "The retry runs as ", h("a", { href: `#/tasks/${id}` }, "a task")));
      return loadBulk();
    } catch (error) {
      return complain(error);
    }
  }

  // --- bulk operations
  const jobs = h("tbody", {});
  const jobsCard = h(
    "section",
    { class: "card", hidden: true },
    h("header", {}, h("h2", {}, "Bulk operations"), h("a", { class: "small", href: `#/tasks?type=${BULK}` }, "All operations")),
    h("div", { class: "scroll-x" }, h("table", { class: "plain" }, jobs)),
  );
  async function loadBulk() {
    const listed = (await get("tasks", { type: BULK, limit: 4 })).items;
    // The history is slightly behind; the record of a task is not.
    const items = await Promise.all(listed.map((task) => (task.finished_at ? task : get(`tasks/${task.task_id}`))));
    jobsCard.hidden = items.length === 0;
    jobs.replaceChildren(
      ...items.map((task) => {
        const { done, matched, skipped } = task.result ?? {};
        return h(
          "tr",
          {},
          h("td", {}, h("a", { href: `#/tasks/${task.task_id}` }, `${task.payload?.action ?? "bulk"} ${task.payload?.filter?.type ?? ""}`)),
          h("td", {}, statusBadge(task.status)),
          h("td", {}, bar(task.status === "completed" ? 100 : task.progress.percentage, task.status)),
          h(
            "td",
            { class: "muted nowrap" },
            task.result
              ? `${number(done)} of ${number(matched)}${skipped ? `, ${number(skipped)} skipped` : ""}`
              : task.progress.message || task.progress.stage,
          ),
          h("td", { class: "number faint" }, ago(task.created_at)),
        );
      }),
    );
  }
  const bulkSoon = throttle(() => loadBulk().catch(() => {}), 1000);
  ending(live.on("tasks", ({ tasks }) => tasks.some((task) => task.type === BULK) && bulkSoon()));

  root.append(
    h(
      "div",
      { class: "head" },
      h("div", { class: "grow" }, h("h1", {}, "Dead letters"), h("p", {}, "Tasks that failed for good. Open one to edit its payload and run it again.")),
      h("button", { class: "button primary submit-only", type: "button", onclick: retryAll }, "Retry all of these"),
    ),
    h("div", { class: "filters" }, h("div", { class: "search" }, icon("search"), search, h("kbd", { class: "hide-small" }, "/")), type, queue, taskKey),
    jobsCard,
    list.element,
  );
  apply();
  bulkSoon();
}
