// Tasks that are selected in a list, and what can be done with them.

import { get, onceKey, post, segment } from "./api.js";
import { h, setText } from "./dom.js";
import { t } from "./text.js";
import { complain, confirm, copy, note } from "./ui.js";

/** Tasks that can be marked one by one. For more, there is all that match. */
const MOST = 1000;
/** Calls at once. */
const AT_ONCE = 6;
/** Ids that are copied of all that match, and those of one page. */
const IDS = 10000;
const PAGE = 500;
const RETRYABLE = ["failed", "cancelled"];
const CANCELLABLE = ["waiting", "scheduled", "pending", "processing", "retrying"];

const canRetry = (task) => RETRYABLE.includes(task.status);
const canCancel = (task) => CANCELLABLE.includes(task.status) && !task.cancel_requested;

/** The marked tasks of a list. `onchange` is called after each change. */
export class Selection {
  #marked = new Map();
  #anchor = null;
  /** Whether all tasks that match are meant. */
  all = false;

  constructor(onchange) {
    this.onchange = onchange;
  }

  has(id) {
    return this.all || this.#marked.has(id);
  }

  get empty() {
    return !this.all && !this.#marked.size;
  }

  get tasks() {
    return [...this.#marked.values()];
  }

  /** Mark or unmark a task of the list, or with `range` all from the last one that was marked to it. */
  mark(items, task, range) {
    if (!task) return;
    const from = range ? items.findIndex((one) => one.task_id === this.#anchor) : -1;
    if (this.all) this.clear();
    if (from < 0) {
      if (!this.#marked.delete(task.task_id)) this.#add([task]);
    } else {
      const to = items.indexOf(task);
      this.#add(items.slice(Math.min(from, to), Math.max(from, to) + 1));
    }
    this.#anchor = task.task_id;
    this.onchange();
  }

  markAll(items) {
    this.all = false;
    this.#add(items);
    this.onchange();
  }

  everything() {
    this.all = true;
    this.onchange();
  }

  clear() {
    this.all = false;
    this.#marked.clear();
    this.#anchor = null;
    this.onchange();
  }

  #add(tasks) {
    for (const task of tasks) {
      if (this.#marked.size >= MOST) return void note(t("selection.most", { n: MOST }), "bad");
      this.#marked.set(task.task_id, task);
    }
  }
}

/** Call `work` for each task, some at once; returns the failures. */
async function each(tasks, work) {
  const left = [...tasks];
  const failures = [];
  const turn = async () => {
    for (let task = left.shift(); task; task = left.shift()) await work(task).catch((failure) => failures.push(failure));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, turn));
  return failures;
}

function tell(said, tasks, failures) {
  const done = tasks.length - failures.length;
  if (done) note(said(done));
  if (failures.length) note(t("selection.failures", { n: failures.length, why: failures[0].message }), "bad");
}

/** Run tasks again that failed or were cancelled. */
export async function retryTasks(tasks) {
  const able = tasks.filter(canRetry);
  if (!able.length) return note(t("selection.none_to_retry"), "bad");
  const title = t("selection.retry_title", { n: able.length });
  if (!(await confirm({ title, text: t("selection.retry_text", { n: able.length }), action: t("selection.retry_n", { n: able.length }) }))) return;
  const failures = await each(able, (task) => post(`tasks/${segment(task.task_id)}/retry`, {}, { headers: { "Idempotency-Key": onceKey() } }));
  tell((n) => t("selection.retried", { n }), able, failures);
}

/** Cancel tasks that wait or run. */
export async function cancelTasks(tasks) {
  const able = tasks.filter(canCancel);
  if (!able.length) return note(t("selection.none_to_cancel"), "bad");
  const title = t("selection.cancel_title", { n: able.length });
  if (!(await confirm({ title, text: t("selection.cancel_text", { n: able.length }), action: t("selection.cancel_n", { n: able.length }), danger: true }))) return;
  tell((n) => t("selection.cancelled", { n }), able, await each(able, (task) => post(`tasks/${segment(task.task_id)}/cancel`)));
}

/** Submit tasks like these. */
async function runAgain(tasks) {
  const title = t("selection.again_title", { n: tasks.length });
  if (!(await confirm({ title, text: t("selection.again_text", { n: tasks.length }), action: t("selection.again_n", { n: tasks.length }) }))) return;
  const { hasMask, submissionOf } = await import("./copy-as.js");
  const failures = await each(tasks, async (task) => {
    // Lists have no payloads.
    const submission = submissionOf(await get(`tasks/${segment(task.task_id)}`));
    if (hasMask(submission.payload)) throw new Error(t("selection.secret"));
    await post("tasks", submission, { headers: { "Idempotency-Key": onceKey() } });
  });
  tell((n) => t("selection.submitted", { n }), tasks, failures);
}

export function copyIds(tasks) {
  return copy(tasks.map((task) => task.task_id).join("\n"), t("selection.copied", { n: tasks.length }));
}

/** Copy the ids of all tasks that match. */
async function copyAllIds(query) {
  const ids = [];
  let cursor = null;
  do {
    const page = await get("tasks", { ...query, limit: PAGE, cursor, fields: "task_id" });
    ids.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && ids.length < IDS);
  await copyIds(ids.slice(0, IDS));
  if (cursor) note(t("selection.ids_left_out", { n: IDS }), "bad");
}

/** Return the filter of a bulk operation for the parameters of a list. */
function filterOf(query, statuses) {
  const words = (value) => (Array.isArray(value) ? value : String(value).split(",")).filter(Boolean);
  const filter = Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined && value !== ""));
  for (const name of ["status", "tag"]) if (filter[name]) filter[name] = words(filter[name]);
  const chosen = filter.status?.filter((one) => statuses.includes(one));
  // Without any condition, the status is one. Cancelled tasks run again only if the filter asks for them.
  if (chosen?.length) filter.status = chosen;
  else if (!filter.status) filter.status = statuses === RETRYABLE ? ["failed"] : statuses;
  return filter;
}

/** Retry or cancel all tasks that match, after a question with their exact number. */
async function bulk(action, query) {
  const filter = filterOf(query, action === "retry" ? RETRYABLE : CANCELLABLE);
  const { matched: n } = await post("bulk", { action, filter, dry_run: true });
  if (!n) return note(action === "retry" ? t("selection.none_to_retry") : t("selection.none_to_cancel"), "bad");
  const [title, text, button] =
    action === "retry"
      ? [t("selection.retry_title", { n }), t("selection.retry_text", { n }), t("selection.retry_n", { n })]
      : [t("selection.cancel_title", { n }), t("selection.cancel_text", { n }), t("selection.cancel_n", { n })];
  if (!(await confirm({ title, text, action: button, danger: action === "cancel" }))) return;
  const { task_id: id } = await post("bulk", { action, filter }, { headers: { "Idempotency-Key": onceKey() } });
  note(h("span", {}, t("selection.bulk_begun"), " ", h("a", { href: `#/tasks/${segment(id)}` }, t("selection.bulk_watch"))));
}

/**
 * Return the bar of a selection. `query()` returns the parameters of the list, and `total()` the text for how many match.
 */
export function selectionBar(selection, { query, total }) {
  const count = h("span", { class: "grow", role: "status" });
  const act = (work, all) => async () => {
    try {
      if (selection.all) await all(query());
      else await work(selection.tasks);
    } catch (failure) {
      complain(failure);
    }
  };
  const button = (text, work, all, kind = "") => h("button", { class: `button small ${kind}`, type: "button", onclick: act(work, all) }, text);
  const everything = h("button", { class: "button small quiet", type: "button", onclick: () => selection.everything() });
  const retry = button(t("selection.retry"), retryTasks, (asked) => bulk("retry", asked), "submit-only");
  const cancel = button(t("selection.cancel"), cancelTasks, (asked) => bulk("cancel", asked), "danger submit-only");
  const again = button(t("selection.again"), runAgain, null, "submit-only");
  const ids = button(t("selection.copy_ids"), copyIds, copyAllIds);
  const clear = h("button", { class: "button small quiet", type: "button", onclick: () => selection.clear() }, t("selection.clear"));
  const element = h("div", { class: "selection", role: "group", "aria-label": t("selection.label"), hidden: true }, count, everything, retry, cancel, again, ids, clear);
  const keys = { r: retry, c: cancel, y: ids };
  return Object.assign(element, {
    /** Do what a key means. */
    press(key) {
      keys[key].click();
    },
    draw() {
      const { all, tasks, empty } = selection;
      element.hidden = empty;
      if (empty) return;
      setText(count, all ? t("selection.all_chosen", { total: total() }) : t("selection.chosen", { n: tasks.length }));
      everything.hidden = all || !total();
      setText(everything, t("selection.everything", { total: total() }));
      retry.disabled = !all && !tasks.some(canRetry);
      cancel.disabled = !all && !tasks.some(canCancel);
      again.hidden = all;
    },
  });
}
