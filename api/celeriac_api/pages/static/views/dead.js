// Dead letters: what failed for good, one by one or many at once; and how far the work on many is.

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
    columns: ["Status", "Task", "Group", "Error", "Ran", "Failed"],
    render: (task, row) => {
      renderTask(task, row);
      // Here it counts when it failed.
      setText(row.cells.age, ago(task.finished_at));
    },
    label: "Dead letters",
    empty: (asked) => (asked.type || asked.q || asked.queue ? [h("strong", {}, "Nothing matches"), "Another filter may find more."] : [h("strong", {}, "No dead letters"), "What used up its attempts is kept here, to be looked at and run again."]),
  });
  ending(() => list.end());
  const search = h("input", { class: "field", type: "search", placeholder: "Words of the error, or an id", "aria-label": "Search", dataset: { search: "" }, autocomplete: "off" });
  const select = (label, first) => h("select", { class: "field", "aria-label": label }, h("option", { value: "" }, first));
  const type = select("Type", "All types");
  const queue = select("Group", "All groups");
  get("task-types").then(({ task_types: types }) => type.append(...types.map((one) => h("option", {}, one.name))), () => {});
  get("groups").then(({ groups }) => queue.append(...groups.map((one) => h("option", {}, one.name))), () => {});
  const apply = () => {
    Object.assign(query, { q: search.value.trim(), type: type.value, queue: queue.value });
    list.load({ ...query, status: "failed" });
  };
  search.addEventListener("input", debounce(apply, 250));
  type.addEventListener("change", apply);
  queue.addEventListener("change", apply);

  async function retryAll() {
    const filter = Object.fromEntries(Object.entries({ ...query, status: ["failed"] }).filter(([, value]) => value));
    try {
      const { matched } = await post("bulk", { action: "retry", filter, dry_run: true });
      if (!matched) return note("Nothing matches");
      const chosen = Object.keys(filter).length > 1 ? "that match the filter" : "in all groups";
      if (!(await confirm({ title: `Retry ${number(matched)} ${matched === 1 ? "task" : "tasks"}?`, text: `All dead letters ${chosen} go back to their groups with all their attempts.`, action: `Retry ${number(matched)}` }))) return undefined;
      const { task_id: id } = await post("bulk", { action: "retry", filter }, { headers: { "Idempotency-Key": onceKey() } });
      note(h("span", {}, "Retrying, as ", h("a", { href: `#/tasks/${id}` }, "a task of its own")));
      return loadBulk();
    } catch (error) {
      return complain(error);
    }
  }

  // --- work on many tasks
  const jobs = h("tbody", {});
  const jobsCard = h("section", { class: "card", hidden: true }, h("header", {}, h("h2", {}, "Work on many tasks"), h("a", { class: "small", href: `#/tasks?type=${BULK}` }, "All of it")), h("div", { class: "scroll-x" }, h("table", { class: "plain" }, jobs)));
  async function loadBulk() {
    const listed = (await get("tasks", { type: BULK, limit: 4 })).items;
    // The history is a moment behind; a task itself never is.
    const items = await Promise.all(listed.map((task) => (task.finished_at ? task : get(`tasks/${task.task_id}`))));
    jobsCard.hidden = items.length === 0;
    jobs.replaceChildren(...items.map((task) => {
      const { done, matched, skipped } = task.result ?? {};
      return h("tr", {},
        h("td", {}, h("a", { href: `#/tasks/${task.task_id}` }, `${task.payload?.action ?? "bulk"} ${task.payload?.filter?.type ?? ""}`)),
        h("td", {}, statusBadge(task.status)),
        h("td", {}, bar(task.status === "completed" ? 100 : task.progress.percentage, task.status)),
        h("td", { class: "muted nowrap" }, task.result ? `${number(done)} of ${number(matched)}${skipped ? `, ${number(skipped)} skipped` : ""}` : task.progress.message || task.progress.stage),
        h("td", { class: "number faint" }, ago(task.created_at)));
    }));
  }
  const bulkSoon = throttle(() => loadBulk().catch(() => {}), 1000);
  ending(live.on("tasks", ({ tasks }) => tasks.some((task) => task.type === BULK) && bulkSoon()));

  root.append(
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, "Dead letters"), h("p", {}, "What failed for good. Open one to edit its payload and run it again.")), h("button", { class: "button primary submit-only", type: "button", onclick: retryAll }, "Retry all of these")),
    h("div", { class: "filters" }, h("div", { class: "search" }, icon("search"), search, h("kbd", { class: "hide-small" }, "/")), type, queue),
    jobsCard,
    list.element,
  );
  apply();
  bulkSoon();
}
