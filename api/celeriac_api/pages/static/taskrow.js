// One task as a row of a list: what it is, how it does, and for whom it is.

import { bar, h, setBar, setText, statusBadge } from "./dom.js";
import { ago, duration, exactTime, ranFor, shortId, when } from "./format.js";
import { t } from "./text.js";

/** The columns of such rows, as `TaskList` takes them: the text and the class of each. */
export const taskColumns = () => [
  [t("tasks.status"), "c-status"],
  [t("tasks.task"), "c-task"],
  ["", "c-about"],
  [t("tasks.key"), "c-key key"],
  [t("tasks.user"), "c-user user"],
  [t("tasks.group"), "c-group"],
  [t("tasks.ran"), "c-ran number"],
  [t("tasks.age"), "c-age number"],
];

/** The fields that such rows show. */
export const ROW_FIELDS = [
  ...["type", "queue", "status", "title", "progress", "error", "attempt", "user_id", "worker", "created_at", "started_at", "finished_at", "updated_at"],
  ...["tags", "run_at", "cancel_requested", "workflow_id", "key"],
].join(",");

/** How many tags a row shows. */
const TAGS = 3;

/** Fill a row, or update the elements that it has already. */
export function renderTask(task, row) {
  const cells = (row.cells ??= build(task, row));
  if (cells.status.dataset.status !== task.status) {
    cells.status.dataset.status = task.status;
    setText(cells.status, t(`status.${task.status}`));
  }
  setText(cells.type, task.type);
  setText(cells.title, task.title ?? shortId(task.task_id));
  cells.title.classList.toggle("id", !task.title);
  cells.title.title = task.title ?? task.task_id;
  cells.attempt.hidden = !(task.attempt > 1);
  setText(cells.attempt, t("tasks.attempt", { n: task.attempt ?? 0 }));
  const tags = task.tags ?? [];
  if (cells.tagged !== tags.join()) {
    cells.tagged = tags.join();
    cells.tags.replaceChildren(...tags.slice(0, TAGS).map((tag) => h("span", { class: "tag clip", title: tag }, tag)));
  }
  about(task, cells);
  for (const [name, value] of [["key", task.key], ["user", task.user_id], ["group", task.queue]]) {
    setText(cells[name], value ?? "");
    cells[name].title = value ?? "";
  }
  setText(cells.ran, task.started_at ? duration(ranFor(task)) : "");
  setText(cells.age, ago(task.created_at));
}

function build(task, row) {
  const cells = {
    status: statusBadge(task.status),
    type: h("b", { class: "clip" }),
    title: h("span", { class: "title clip" }),
    attempt: h("span", { class: "tag warn", hidden: true }),
    tags: h("span", { class: "tags" }),
    about: h("span", { class: "about clip" }),
    meter: bar(0, null, t("tasks.progress")),
    percent: h("span", {}),
    slot: h("span", { class: "c-about clip" }),
    key: h("span", { class: "c-key key clip" }),
    user: h("span", { class: "c-user user clip" }),
    group: h("span", { class: "c-group clip" }),
    ran: h("span", { class: "c-ran time" }),
    age: h("span", { class: "c-age time", title: exactTime(task.created_at) }),
  };
  cells.meterBox = h("span", { class: "meter" }, cells.meter, cells.percent);
  row.append(
    h("span", { class: "mark", "aria-hidden": "true" }, h("i", {})),
    h("span", { class: "c-status" }, cells.status),
    h("span", { class: "c-task" }, cells.type, cells.title, cells.attempt, cells.tags),
    cells.slot,
    cells.key,
    cells.user,
    cells.group,
    cells.ran,
    cells.age,
  );
  return cells;
}

/** Say how far the task is, why it failed, or when it runs. */
function about(task, cells) {
  const { slot, meterBox, meter, percent } = cells;
  const wanted = task.status === "processing" && !task.damaged && task.progress?.percentage > 0 ? meterBox : cells.about;
  if (slot.firstChild !== wanted) slot.replaceChildren(wanted);
  if (wanted === meterBox) {
    setBar(meter, task.progress.percentage);
    setText(percent, `${Math.round(task.progress.percentage)} % ${task.progress.message || task.progress.stage}`);
    return;
  }
  const failed = Boolean(task.error) && ["failed", "retrying"].includes(task.status);
  cells.about.classList.toggle("bad", failed);
  setText(cells.about, said(task, failed));
  cells.about.title = failed ? task.error.message : "";
}

function said(task, failed) {
  if (task.damaged) return t("tasks.damaged", { why: task.damaged });
  if (failed) return task.error.message;
  if (task.status === "scheduled" && task.run_at) return t("tasks.runs", { when: when(task.run_at) });
  // What a task reported last says nothing any more when it has ended.
  return ["processing", "retrying"].includes(task.status) ? task.progress?.message || task.progress?.stage || "" : "";
}
