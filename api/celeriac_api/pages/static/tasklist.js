// A list of tasks. It loads page by page and follows the live stream.

import { get } from "./api.js";
import { h, setText } from "./dom.js";
import { number } from "./format.js";
import { live } from "./live.js";
import { VirtualList } from "./table.js";
import { complain, throttle } from "./ui.js";

const PAGE = 200;
/**
 * When a list is read once more (ms). The history follows the live stream with a short delay, so a list that was read
 * in between lacks the latest changes.
 */
const LATER = [1500, 6000];
/** One list keeps at most this many tasks. To find others, use a filter. */
const MOST = 50000;

/** Return whether a record of the live stream belongs into a list with this query. */
export function matches(task, query) {
  const words = (value) => (Array.isArray(value) ? value : String(value).split(",")).filter(Boolean);
  if (query.status && !words(query.status).includes(task.status)) return false;
  if (query.type && task.type !== query.type) return false;
  if (query.queue && task.queue !== query.queue) return false;
  if (query.workflow_id && task.workflow_id !== query.workflow_id) return false;
  if (query.key && task.key !== query.key) return false;
  if (query.user_id && task.user_id !== query.user_id) return false;
  if (query.tag && !words(query.tag).every((tag) => task.tags.includes(tag))) return false;
  if (query.created_after && task.created_at < query.created_after) return false;
  if (query.created_before && task.created_at >= query.created_before) return false;
  if (query.q && !task.task_id.startsWith(query.q) && !(task.error?.message ?? "").toLowerCase().includes(query.q.toLowerCase())) return false;
  return true;
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
  #later = [];

  /** `columns` are the names in the head ("Key" is shown if a task has one), `render(task, row)` fills a row, and `path` is the route that lists. */
  constructor({ path = "tasks", columns, render, label, empty, onchange, className = "", nouns = ["task", "tasks"] }) {
    this.path = path;
    this.empty = empty;
    this.onchange = onchange;
    this.nouns = nouns;
    this.list = new VirtualList({
      render,
      label,
      key: (task) => task.task_id,
      href: (task) => `#/tasks/${encodeURIComponent(task.task_id)}`,
      more: () => this.#more(),
    });
    this.arrivals = h("button", { class: "button small primary arrivals", type: "button", hidden: true, onclick: () => this.#takeFresh(true) });
    this.none = h("div", { class: "empty", hidden: true });
    this.count = h("span", { class: "grow" });
    this.lag = h("span", {});
    this.element = h(
      "section",
      { class: `card list ${className}` },
      h("div", { class: "columns", "aria-hidden": "true" }, columns.map((name, i) => h("span", { class: i >= columns.length - 2 ? "number" : name === "Key" ? "key" : "" }, name))),
      h("div", { class: "stage" }, this.arrivals, this.none, this.list.scroller),
      h("div", { class: "foot" }, this.count, this.lag),
    );
    this.stop = [live.on("tasks", (change) => this.#hear(change)), () => this.list.end()];
    const timer = setInterval(() => document.hidden || this.list.draw(true), 1000);
    this.stop.push(() => clearInterval(timer));
  }

  end() {
    this.#loading?.abort();
    this.#later.forEach(clearTimeout);
    this.stop.forEach((end) => end());
  }

  get items() {
    return this.list.items;
  }

  /** List what matches; what was there stays in sight until the answer comes. */
  async load(query) {
    this.#query = query;
    this.#loading?.abort();
    const loading = (this.#loading = new AbortController());
    const heard = (this.#heard = new Map());
    this.#later.forEach(clearTimeout);
    this.#fresh.clear();
    this.arrivals.hidden = true;
    try {
      const page = await get(this.path, { ...query, limit: PAGE }, { signal: loading.signal });
      if (loading.signal.aborted) return;
      this.#cursor = page.next_cursor;
      this.#done = !page.next_cursor;
      this.#known = new Map(page.items.map((task) => [task.task_id, task]));
      this.list.scroller.scrollTop = 0;
      if (!this.#known.has(this.list.selected)) this.list.selected = null;
      this.#set([...this.#known.values()]);
      this.#hear({ tasks: [...heard.values()], left_out: 0 });
      this.#later = LATER.map((ms) => setTimeout(() => this.#catchUp(query), ms));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#done = true;
      this.#set([]);
      this.none.replaceChildren(h("strong", {}, "The list cannot be read"), error.message);
      this.none.dataset.broken = "";
    } finally {
      if (this.#loading === loading) this.#loading = null;
      if (this.#heard === heard) this.#heard = null;
    }
  }

  /** Add what the history has by now and the live stream did not have. */
  async #catchUp(query) {
    const page = await get(this.path, { ...query, limit: PAGE }).catch(() => null);
    if (!page || query !== this.#query || this.#loading) return;
    const news = page.items.filter((task) => {
      const held = this.#known.get(task.task_id);
      return !held || held.updated_at < task.updated_at;
    });
    if (news.length) this.#hear({ tasks: news, left_out: 0 });
  }

  async #more() {
    if (this.#loading || this.#done || this.items.length >= MOST) return;
    const loading = (this.#loading = new AbortController());
    try {
      const page = await get(this.path, { ...this.#query, limit: PAGE, cursor: this.#cursor }, { signal: loading.signal });
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

  #hear({ tasks, left_out: leftOut }) {
    let changed = false;
    for (const task of tasks) {
      this.#heard?.set(task.task_id, task);
      const held = this.#known.get(task.task_id);
      if (held) {
        // Records of the live stream have no payload: keep the known one.
        Object.assign(held, task);
        if (!matches(held, this.#query)) {
          this.#known.delete(task.task_id);
          changed = true;
        } else this.list.refresh(held);
        this.onchange?.(held);
      } else if (matches(task, this.#query)) this.#fresh.set(task.task_id, task);
      else this.#fresh.delete(task.task_id);
    }
    setText(this.lag, leftOut ? `${number(leftOut)} more changes, too many to show` : "");
    // Read the changes that the stream left out, if the newest tasks are visible.
    if (leftOut && this.list.atTop) this.#readAgain();
    if (changed) this.#set(this.items.filter((task) => this.#known.has(task.task_id)));
    if (this.#fresh.size) {
      if (this.list.atTop && this.#fresh.size < 2000) this.#takeFresh(false);
      else {
        this.arrivals.hidden = false;
        setText(this.arrivals, `${number(this.#fresh.size)} new`);
      }
    }
  }

  #readAgain = throttle(() => this.#loading || !this.list.atTop || this.load(this.#query), 3000);

  #takeFresh(toTop) {
    const fresh = [...this.#fresh.values()].filter((task) => !this.#known.has(task.task_id));
    this.#fresh.clear();
    this.arrivals.hidden = true;
    if (toTop) this.list.scroller.scrollTop = 0;
    if (!fresh.length) return;
    for (const task of fresh) this.#known.set(task.task_id, task);
    const by = this.path === "dead" ? "finished_at" : "created_at";
    // Newest first. The live stream may deliver tasks in any order.
    const merged = fresh.concat(this.items).sort((a, b) => (a[by] < b[by] ? 1 : a[by] > b[by] ? -1 : 0));
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
    this.list.set(items);
    setText(this.count, items.length ? `${number(items.length)} ${this.nouns[items.length === 1 ? 0 : 1]}${this.#done ? "" : ", more as you scroll"}` : "");
  }
}
