// A list of any length. Only the visible rows exist as elements.

import { h } from "./dom.js";

const SPARE = 8;
/** After `g` the next key names a section of the dashboard, and is not for the list (ms). */
const AFTER_G = 1200;

/**
 * Rows of one height in a scroller. `render(item, row)` fills a link, `key(item)` identifies an item, `href(item)` is
 * the address that Enter and a click open, and `more()` is called near the end. With a `selection` rows can be marked:
 * a click on `.mark`, with Shift a range, or `x`. `onkey(key, item)` gets other keys for the current row.
 */
export class VirtualList {
  items = [];
  selected = null;
  #rows = new Map();
  #frame = null;
  #options;
  #sectionKeyAt = 0;

  constructor({ render, key, href, more, label, selection = null, onkey = null, phoneHeight = 66, height = 46 }) {
    this.#options = { render, key, href, more, selection, onkey, height, phoneHeight };
    this.space = h("div", { class: "space", role: "presentation" });
    this.scroller = h("div", { class: "scroller", tabindex: 0, role: "listbox", "aria-label": label, "aria-multiselectable": selection ? "true" : null }, this.space);
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    if (selection) this.scroller.addEventListener("click", (event) => this.#click(event));
    this.#observer = new ResizeObserver(() => {
      this.#tall = this.scroller.clientHeight;
      this.#top = this.scroller.scrollTop;
      this.draw(true);
    });
    this.#observer.observe(this.scroller);
    this.#onKey = (event) => this.#key(event);
    addEventListener("keydown", this.#onKey);
  }

  #observer;
  #onKey;
  /** What the browser has said of the scroller: to ask for it while rows change would lay the page out. */
  #top = 0;
  #tall = 0;
  #phone = matchMedia("(max-width: 900px)");

  end() {
    this.#observer.disconnect();
    removeEventListener("keydown", this.#onKey);
    cancelAnimationFrame(this.#frame);
  }

  get rowHeight() {
    return this.#phone.matches ? this.#options.phoneHeight : this.#options.height;
  }

  get atTop() {
    return this.#top < 4;
  }

  /** Scroll to the first row. */
  toTop() {
    if (this.#top) this.scroller.scrollTop = this.#top = 0;
  }

  /** The item of the current row, or undefined. */
  get current() {
    return this.items.find((one) => this.#options.key(one) === this.selected);
  }

  set(items) {
    this.items = items;
    this.draw(true);
  }

  /** Draw the rows; if `all`, also those that exist already. */
  draw(all = false) {
    const { key, href, render, more, selection } = this.#options;
    const height = this.rowHeight;
    const first = Math.max(0, Math.floor(this.#top / height) - SPARE);
    const last = Math.min(this.items.length, Math.ceil((this.#top + (this.#tall || 600)) / height) + SPARE);
    this.space.style.setProperty("height", `${this.items.length * height}px`);
    const wanted = new Set();
    for (let i = first; i < last; i++) {
      const item = this.items[i];
      const id = key(item);
      wanted.add(id);
      let row = this.#rows.get(id);
      if (!row) {
        row = h("a", { class: "row", id: `row-${id}`, tabindex: -1, role: "option", dataset: { id } });
        this.#rows.set(id, row);
        this.space.append(row);
        row.href = href(item);
        render(item, row);
      } else if (all) render(item, row);
      row.style.setProperty("transform", `translateY(${i * height}px)`);
      row.toggleAttribute("data-current", id === this.selected);
      row.setAttribute("aria-selected", String(selection ? selection.has(id) : id === this.selected));
      row.setAttribute("aria-posinset", i + 1);
      row.setAttribute("aria-setsize", this.items.length);
    }
    if (wanted.has(this.selected)) this.scroller.setAttribute("aria-activedescendant", `row-${this.selected}`);
    else this.scroller.removeAttribute("aria-activedescendant");
    for (const [id, row] of this.#rows) {
      if (!wanted.has(id)) {
        row.remove();
        this.#rows.delete(id);
      }
    }
    if (more && last > this.items.length - 30) more();
  }

  /** Draw one item again if it is visible. */
  refresh(item) {
    const row = this.#rows.get(this.#options.key(item));
    if (row) this.#options.render(item, row);
  }

  #scrolled() {
    this.#top = this.scroller.scrollTop;
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.draw();
    });
  }

  /** Mark a row, or with Shift all rows from the last one that was marked. */
  #click(event) {
    const row = event.target.closest(".row");
    if (!row || !(event.shiftKey || event.target.closest(".mark"))) return;
    event.preventDefault();
    this.selected = row.dataset.id;
    this.#options.selection.mark(this.items, this.current, event.shiftKey);
  }

  #key(event) {
    if (event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("input:not([type=checkbox]), textarea, select, table")) return;
    const { key, href, selection, onkey } = this.#options;
    if (event.key === "g") this.#sectionKeyAt = Date.now();
    else if (Date.now() - this.#sectionKeyAt < AFTER_G) return void (this.#sectionKeyAt = 0);
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    const item = this.current;
    if (event.key === "Enter" && item && !event.target.closest?.("a, button")) location.href = href(item);
    else if (step && this.items.length) {
      event.preventDefault();
      const now = this.items.indexOf(item);
      const next = now < 0 ? 0 : Math.max(0, Math.min(this.items.length - 1, now + step));
      this.selected = key(this.items[next]);
      const top = next * this.rowHeight;
      if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
      else if (top + this.rowHeight > this.scroller.scrollTop + this.scroller.clientHeight)
        this.scroller.scrollTop = top + this.rowHeight - this.scroller.clientHeight;
      this.#top = this.scroller.scrollTop;
      this.draw();
    } else if (selection && event.key.toLowerCase() === "x" && item) selection.mark(this.items, item, event.shiftKey);
    else if (onkey && onkey(event.key, item)) event.preventDefault();
  }
}
