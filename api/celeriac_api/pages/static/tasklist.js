// A list of tasks. It loads page by page and follows the live stream.

import { get } from "./api.js";
import { h, setText } from "./dom.js";
import { duration, number } from "./format.js";
import { live } from "./live.js";
import { matchesTerms, parseQuery } from "./query.js";
import { Selection, selectionBar } from "./selection.js";
import { VirtualList } from "./table.js";
import { t } from "./text.js";
import { complain, throttle } from "./ui.js";

const PAGE = 200;
/** A list is read again after this time while the history lacks more than the live stream has repeated (ms). */
const BEHIND_MS = 5000;
/** One list keeps at most this many tasks. To find others, use a filter. */
const MOST = 50000;
/** Rows that are marked at once by the box in the head. */
const MARKED = 1000;

/** Return whether a record of the live stream belongs into a list with this query; `held`: it is listed now. */
export function matches(task, query, held = false) {
  const words = (value) => (Array.isArray(value) ? value : String(value).split(",")).filter(Boolean);
  if (query.status && !words(query.status).includes(task.status)) return false;
  // Which group of errors a task belongs to is in the history only.
  if (query.error_group && !held) return false;
  if (query.type && task.type !== query.type) return false;
  if (query.queue && task.queue !== query.queue) return false;
  if (query.workflow_id && task.workflow_id !== query.workflow_id) return false;
  if (query.key && task.key !== query.key) return false;
  if (query.user_id && task.user_id !== query.user_id) return false;
  if (query.tag && !words(query.tag).every((tag) => task.tags.includes(tag))) return false;
  if (query.created_after && task.created_at < query.created_after) return false;
  if (query.created_before && task.created_at >= query.created_before) return false;
  if (!query.q) return true;
  // What only the server can say is listed when the list is read again, and stays if it is listed.
  const terms = parseQuery(query.q);
  const found = terms && matchesTerms(task, terms);
  return found === true || (held && found === null);
}

export class TaskList {
  #query = {};
  #cursor = null;
  #loading = null;
  #done = false;
  #fresh = new Map();
  #known = new Map();
  /** The changes that arrived while a list was being read: the answer may be older. */
  #heard = null;
  #later = null;
  #total = null;

  /**
   * `columns` are the texts in the head, or pairs of text and class; `render(task, row)` fills a row, and `path` is the
   * route that lists. With `selects`, rows can be marked; `onkey` is as in `VirtualList`.
   * `onchange()` is called when rows have come or changed. `onread(error)` is called after each first page, with null or an error; true means that it has told people. `fields` are those that `render`
   * needs, all if it is left out.
   */
  constructor({ path = "tasks", columns, render, label, empty, onchange, className = "", height, phoneHeight, selects = false, onkey, onread, fields }) {
    this.path = path;
    this.empty = empty;
    this.onchange = onchange;
    this.onread = onread;
    this.fields = fields;
    this.selection = selects ? new Selection(() => (this.list.draw(), this.#drawSelection())) : null;
    this.list = new VirtualList({
      render,
      label,
      key: (task) => task.task_id,
      href: (task) => `#/tasks/${encodeURIComponent(task.task_id)}`,
      more: () => this.#more(),
      selection: this.selection,
      onkey,
      ...(height ? { height, phoneHeight } : {}),
    });
    this.arrivals = h("button", { class: "button small primary arrivals", type: "button", hidden: true, onclick: () => this.#takeFresh(true) });
    this.none = h("div", { class: "empty", hidden: true });
    this.count = h("span", { class: "grow" });
    this.lag = h("span", { role: "status" });
    const head = columns.map((one, i) => {
      const [name, kind] = Array.isArray(one) ? one : [one, i >= columns.length - 2 ? "number" : one === "Key" ? "key" : ""];
      return h("span", { class: kind, "aria-hidden": "true" }, name);
    });
    if (selects) {
      this.markAll = h("input", { type: "checkbox", class: "mark-all", "aria-label": t("selection.mark_all"), onchange: () => this.#markAll() });
      head.unshift(this.markAll);
      this.bar = selectionBar(this.selection, { query: () => this.#query, total: () => this.total });
    }
    this.element = h(
      "section",
      { class: `card list ${className}` },
      h("div", { class: "columns" }, head),
      h("div", { class: "stage" }, this.arrivals, this.none, this.list.scroller),
      h("div", { class: "foot" }, this.count, this.lag, this.bar ?? null),
    );
    this.stop = [live.on("tasks", (change) => this.#hear(change)), () => this.list.end()];
    const timer = setInterval(() => document.hidden || this.list.draw(true), 1000);
    this.stop.push(() => clearInterval(timer));
    if (selects) {
      const leave = (event) => {
        if (event.key !== "Escape" || this.selection.empty || document.querySelector("dialog[open]") || event.target.closest?.("input, textarea, select")) return;
        this.selection.clear();
      };
      addEventListener("keydown", leave);
      this.stop.push(() => removeEventListener("keydown", leave));
    }
  }

  end() {
    this.#loading?.abort();
    clearTimeout(this.#later);
    this.stop.forEach((end) => end());
  }

  get items() {
    return this.list.items;
  }

  /** How many tasks match, as a text; "" if that is not known. */
  get total() {
    if (!this.#total) return this.#done ? number(this.items.length) : "";
    return `${number(this.#total.n)}${this.#total.more ? "+" : ""}`;
  }

  /** Show how many tasks match: `n`, and whether there are `more`. */
  setTotal(total) {
    this.#total = total;
    this.#foot();
    this.bar?.draw();
  }

  /** List what matches; what was there stays in sight until the answer comes. */
  async load(query) {
    const other = JSON.stringify(query) !== JSON.stringify(this.#query);
    this.#query = query;
    this.#loading?.abort();
    const loading = (this.#loading = new AbortController());
    const heard = (this.#heard = new Map());
    clearTimeout(this.#later);
    this.#fresh.clear();
    this.arrivals.hidden = true;
    if (other && this.selection && !this.selection.empty) this.selection.clear();
    try {
      const page = await get(this.path, { ...query, limit: PAGE, fields: this.fields }, { signal: loading.signal });
      if (loading.signal.aborted) return;
      this.onread?.(null);
      this.#cursor = page.next_cursor;
      this.#done = !page.next_cursor;
      this.#known = new Map(page.items.map((task) => [task.task_id, task]));
      this.list.toTop();
      if (!this.#known.has(this.list.selected)) this.list.selected = null;
      this.#set([...this.#known.values()]);
      // The history is behind the live stream. What the stream said of late closes the gap.
      this.#heard = null;
      this.#hear({ tasks: live.recent(), left_out: 0 });
      this.#hear({ tasks: [...heard.values()], left_out: 0 });
      this.#mind(page.behind_ms ?? 0);
    } catch (error) {
      if (error.name === "AbortError" || this.onread?.(error)) return;
      this.#done = true;
      this.#set([]);
      this.none.replaceChildren(h("strong", {}, t("tasks.broken")), error.message);
      this.none.dataset.broken = "";
    } finally {
      if (this.#loading === loading) this.#loading = null;
      if (this.#heard === heard) this.#heard = null;
    }
  }

  /** While the history is further behind than the live stream reaches back, say so and read again. */
  #mind(behindMs) {
    const far = behindMs > live.recentMs;
    setText(this.lag, far ? t("tasks.behind", { time: duration(behindMs) }) : "");
    if (far) this.#later = setTimeout(() => this.list.atTop && this.load(this.#query), BEHIND_MS);
  }

  async #more() {
    if (this.#loading || this.#done || this.items.length >= MOST) return;
    const loading = (this.#loading = new AbortController());
    try {
      const page = await get(this.path, { ...this.#query, limit: PAGE, fields: this.fields, cursor: this.#cursor }, { signal: loading.signal });
      if (loading.signal.aborted) return;
      this.#cursor = page.next_cursor;
      this.#done = !page.next_cursor;
      const added = page.items.filter((task) => !this.#known.has(task.task_id));
      for (const task of added) this.#known.set(task.task_id, task);
      this.#loading = null;
      this.#set(this.items.concat(added));
    } catch (error) {
      if (error.name !== "AbortError") {
        this.#done = true;
        complain(error);
      }
    } finally {
      if (this.#loading === loading) this.#loading = null;
    }
  }

  #hear({ tasks, left_out: leftOut, repeated = false }) {
    let changed = false;
    for (const task of tasks) {
      this.#heard?.set(task.task_id, task);
      const held = this.#known.get(task.task_id);
      if (held) {
        if (held.updated_at > task.updated_at) continue;
        // Records of the live stream have no payload: keep the known one.
        Object.assign(held, task);
        if (!matches(held, this.#query, true)) {
          this.#known.delete(task.task_id);
          changed = true;
        } else this.list.refresh(held);
        this.onchange?.();
      } else if (matches(task, this.#query)) this.#fresh.set(task.task_id, task);
      else this.#fresh.delete(task.task_id);
    }
    if (this.#heard) return;
    if (leftOut && !repeated) {
      setText(this.lag, t("tasks.left_out", { n: leftOut }));
      // Read the changes that the stream left out, if the newest tasks are visible.
      if (this.list.atTop) this.#readAgain();
    }
    if (changed) this.#set(this.items.filter((task) => this.#known.has(task.task_id)));
    if (this.#fresh.size) {
      if (this.list.atTop && this.#fresh.size < 2000) this.#takeFresh(false);
      else {
        this.arrivals.hidden = false;
        setText(this.arrivals, t("tasks.arrived", { n: this.#fresh.size }));
      }
    }
    if (!this.selection?.empty) this.bar?.draw();
  }

  #readAgain = throttle(() => this.#loading || !this.list.atTop || this.load(this.#query), 3000);

  #takeFresh(toTop) {
    const fresh = [...this.#fresh.values()].filter((task) => !this.#known.has(task.task_id));
    this.#fresh.clear();
    this.arrivals.hidden = true;
    if (toTop) this.list.toTop();
    if (!fresh.length) return;
    const by = this.path === "dead" ? "finished_at" : "created_at";
    // What is older than the last row belongs to a page that has not been read.
    const last = this.#done ? null : this.items.at(-1)?.[by];
    const newer = last ? fresh.filter((task) => task[by] >= last) : fresh;
    for (const task of newer) this.#known.set(task.task_id, task);
    // Newest first. The live stream may deliver tasks in any order.
    const merged = newer.concat(this.items).sort((a, b) => (a[by] < b[by] ? 1 : a[by] > b[by] ? -1 : 0));
    const kept = merged.slice(0, MOST);
    for (const task of merged.slice(MOST)) this.#known.delete(task.task_id);
    this.#set(kept);
  }

  #set(items) {
    this.none.hidden = items.length > 0;
    this.list.scroller.hidden = items.length === 0;
    delete this.none.dataset.broken;
    if (!items.length) this.none.replaceChildren(...this.empty(this.#query));
    this.element.classList.toggle("keyed", items.some((task) => task.key));
    this.element.classList.toggle("used", items.some((task) => task.user_id));
    this.list.set(items);
    this.onchange?.();
    this.#foot();
    this.#drawSelection();
  }

  #foot() {
    const n = this.items.length;
    const found = this.#total ?? { n, more: !this.#done };
    setText(this.count, n ? t("tasks.total", { n: found.n, total: `${number(found.n)}${found.more ? "+" : ""}` }) : "");
  }

  #markAll() {
    if (this.markAll.checked) this.selection.markAll(this.items.slice(0, MARKED));
    else this.selection.clear();
  }

  #drawSelection() {
    if (!this.selection) return;
    this.bar.draw();
    this.element.classList.toggle("selecting", !this.selection.empty);
    this.markAll.checked = this.selection.all || (this.items.length > 0 && this.selection.tasks.length >= Math.min(this.items.length, MARKED));
    this.markAll.indeterminate = !this.selection.empty && !this.markAll.checked;
  }
}
