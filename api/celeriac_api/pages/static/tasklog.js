// The log of a task. It is read page by page, and again for new lines while the task goes on. A few lines are drawn at a time.

import { get } from "./api.js";
import { h, icon, setText } from "./dom.js";
import { clockTime, exactTime, number } from "./format.js";
import { t } from "./text.js";
import { copy, debounce, note } from "./ui.js";

/** How many lines are kept, the last ones. The log itself may have more. */
const KEPT = 10000;
const PAGE = 1000;
const AGAIN_MS = 1500;
/** How many lines are drawn, and by how many that part moves. */
const DRAWN = 60;
const MOVED = 20;
/** This near to its edge (px), the part moves. */
const NEAR = 120;
const LEVELS = ["debug", "info", "warning", "error"];

const value = (one) => (typeof one === "string" ? one : JSON.stringify(one));
/** Return the level of a line, of the four that the page knows. */
const levelOf = (line) => (line.level === "critical" ? "error" : line.level);

/** Return the name of a line's level, as people read it. */
export const levelName = (line) => t(`log.level.${levelOf(line)}`);
const millis = (at) => `${clockTime(at)}.${String(new Date(at).getUTCMilliseconds()).padStart(3, "0")}`;

function dataText(line) {
  const { traceback, ...data } = line.data;
  return Object.entries(data)
    .map(([name, one]) => `${name}=${value(one)}`)
    .join(" ");
}

const plain = (line) => [line.at, `#${line.attempt}`, line.level, line.message, dataText(line)].filter(Boolean).join(" ") + (line.data.traceback ? `\n${line.data.traceback}` : "");

/** A card with the log of the task at `path` (`tasks/ID`). It is hidden while the log is empty. `heard()` is called for new lines. */
export class TaskLog {
  #path;
  #id;
  #heard;
  #lines = [];
  /** What the filters leave of the lines. */
  #chosen = [];
  /** Where the drawn part begins. */
  #from = 0;
  /** Whether new lines come into view. */
  #following = true;
  #hidden = new Set();
  #wanted = "";
  #marked = null;
  /** The attempt in which each traceback was seen first. */
  #seen = new Map();
  #left = 0;
  #list = h("ol", { class: "task-log", tabindex: 0, "aria-label": t("log.title") });
  #count = h("span", { class: "small muted", role: "status" });
  #none = h("p", { class: "muted small log-none", hidden: true }, t("log.none"));
  #chips = new Map();
  #reading = null;
  #timer = null;
  #ended = false;

  constructor(id, { marked = null, heard = () => {} } = {}) {
    this.#id = id;
    this.#path = `tasks/${encodeURIComponent(id)}`;
    this.#heard = heard;
    this.#marked = marked;
    this.#list.addEventListener("scroll", () => this.#scrolled());
    this.#list.addEventListener("keydown", (event) => this.#keyed(event));
    const field = h("input", { class: "field small", type: "search", placeholder: t("log.search"), "aria-label": t("log.search"), spellcheck: "false" });
    const look = () => {
      this.#wanted = field.value.trim().toLowerCase();
      this.#choose();
    };
    field.addEventListener("input", debounce(look, 150));
    for (const level of LEVELS) {
      const chip = h("button", { class: "chip level-chip", type: "button", "aria-pressed": "true", dataset: { level }, hidden: true, onclick: () => this.#toggle(level) });
      this.#chips.set(level, chip);
    }
    const wrap = h("button", { class: "button small quiet", type: "button", "aria-pressed": "true", onclick: () => wrap.setAttribute("aria-pressed", String(!this.#list.classList.toggle("unwrapped"))) }, t("log.wrap"));
    this.card = h(
      "section",
      { class: "card log-card", hidden: true },
      h(
        "header",
        {},
        h("h2", {}, t("log.title")),
        this.#count,
        h(
          "span",
          { class: "actions" },
          wrap,
          h("button", { class: "button small quiet", type: "button", onclick: () => copy(this.#text(), t("log.copied")) }, icon("copy"), t("common.copy")),
          h("button", { class: "button small quiet", type: "button", onclick: () => this.#download() }, t("log.download")),
        ),
      ),
      h("div", { class: "log-tools" }, field, ...this.#chips.values()),
      this.#list,
      this.#none,
    );
  }

  /** The lines that tell of trouble. */
  get marks() {
    return this.#lines.filter((line) => ["warning", "error"].includes(levelOf(line)));
  }

  /** The first line with a traceback, or null. */
  get firstTrace() {
    return this.#lines.find((line) => line.data.traceback) ?? null;
  }

  /** Return the address of a line. */
  link(line) {
    return `#/tasks/${encodeURIComponent(this.#id)}?line=${encodeURIComponent(line)}`;
  }

  /** Show a line, whatever the filters are. */
  mark(line) {
    this.#marked = line;
    this.#hidden.clear();
    this.#wanted = this.card.querySelector("input").value = "";
    this.#choose();
  }

  /** Read new lines, and go on until `follow(false)`. */
  follow(wanted) {
    clearTimeout(this.#timer);
    if (this.#ended) return;
    this.#reading = (this.#reading ?? Promise.resolve()).then(() => this.#read()).catch(() => {});
    if (wanted) this.#later();
  }

  end() {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  #later() {
    this.#timer = setTimeout(() => (document.hidden ? this.#later() : this.follow(true)), AGAIN_MS);
  }

  async #read() {
    let cursor = this.#lines.at(-1)?.id ?? null;
    for (;;) {
      const page = await get(`${this.#path}/log`, { limit: PAGE, cursor });
      if (this.#ended) return;
      this.#take(page.items);
      if (!page.next_cursor) return;
      cursor = page.next_cursor;
    }
  }

  #take(lines) {
    if (!lines.length) return;
    for (const line of lines) {
      const { traceback } = line.data;
      if (!traceback) continue;
      if (this.#seen.has(traceback)) line.same = this.#seen.get(traceback);
      else this.#seen.set(traceback, line.attempt);
    }
    const all = [...this.#lines, ...lines];
    this.#left += Math.max(0, all.length - KEPT);
    this.#lines = all.slice(-KEPT);
    this.card.hidden = false;
    this.#choose();
    this.#heard();
  }

  #toggle(level) {
    if (!this.#hidden.delete(level)) this.#hidden.add(level);
    this.#choose();
  }

  /** Apply the filters. */
  #choose() {
    const counts = new Map();
    for (const line of this.#lines) counts.set(levelOf(line), (counts.get(levelOf(line)) ?? 0) + 1);
    for (const [level, chip] of this.#chips) {
      chip.hidden = !counts.has(level);
      chip.setAttribute("aria-pressed", String(!this.#hidden.has(level)));
      setText(chip, `${t(`log.level.${level}`)} ${number(counts.get(level) ?? 0)}`);
    }
    const fits = (line) => !this.#hidden.has(levelOf(line)) && (!this.#wanted || plain(line).toLowerCase().includes(this.#wanted));
    const all = !this.#hidden.size && !this.#wanted;
    this.#chosen = all ? this.#lines : this.#lines.filter(fits);
    this.#none.hidden = this.#chosen.length > 0;
    const place = this.#marked === null ? -1 : this.#chosen.findIndex((line) => line.id === this.#marked);
    if (place >= 0) {
      this.#following = false;
      this.#from = place - MOVED;
    } else if (this.#following) this.#from = this.#chosen.length;
    this.#draw();
    if (place >= 0) {
      const row = this.#list.querySelector("[aria-current]");
      this.#list.scrollTop = row.offsetTop - this.#list.offsetTop - this.#list.clientHeight / 2;
      // It was led to once; from now on the reader scrolls.
      this.#shown = this.#marked;
      this.#marked = null;
    } else if (this.#following) this.#list.scrollTop = this.#list.scrollHeight;
  }
  /** The line that a link led to. */
  #shown = null;

  #draw() {
    const most = Math.max(0, this.#chosen.length - DRAWN);
    this.#from = Math.max(0, Math.min(this.#from, most));
    const drawn = this.#chosen.slice(this.#from, this.#from + DRAWN);
    let attempt = this.#chosen[this.#from - 1]?.attempt ?? (this.#from === 0 ? 1 : 0);
    this.#list.replaceChildren(
      ...drawn.map((line) => {
        const begins = line.attempt !== attempt;
        attempt = line.attempt;
        return this.#row(line, begins);
      }),
    );
    this.#say();
  }

  #say() {
    const total = this.#chosen.length;
    const part = total > DRAWN ? t("log.part", { from: this.#from + 1, to: this.#from + this.#list.childElementCount, n: total }) : t("log.lines", { n: total });
    setText(this.#count, this.#left ? `${part} ${t("log.left", { n: this.#left })}` : part);
  }

  /** Return a line; `begins` means that the previous line belongs to another attempt. */
  #row(line, begins) {
    const data = dataText(line);
    const { traceback } = line.data;
    const here = line.id === this.#marked || line.id === this.#shown;
    return h(
      "li",
      { dataset: { level: line.level, line: line.id }, "aria-current": here ? "true" : null },
      begins ? h("div", { class: "attempt small muted" }, t("log.attempt", { n: line.attempt })) : null,
      h("a", { class: "at", href: this.link(line.id), title: `${exactTime(line.at)}\n${t("log.copy_line")}`, onclick: (event) => this.#copyLink(event, line) }, millis(line.at)),
      h("span", { class: "level" }, levelName(line)),
      h("div", { class: "said" }, line.message, data ? h("span", { class: "data" }, ` ${data}`) : null, traceback ? trace(line, traceback) : null),
    );
  }

  #copyLink(event, line) {
    event.preventDefault();
    copy(new URL(this.link(line.id), location.href).href, t("log.line_copied"));
    this.#list.querySelector("[aria-current]")?.removeAttribute("aria-current");
    event.currentTarget.closest("li").setAttribute("aria-current", "true");
    this.#shown = line.id;
  }

  #scrolled() {
    const list = this.#list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    this.#following = atEnd && this.#from + DRAWN >= this.#chosen.length;
    if (list.scrollTop < NEAR && this.#from > 0) this.#move(-MOVED);
    else if (list.scrollHeight - list.scrollTop - list.clientHeight < NEAR && this.#from + DRAWN < this.#chosen.length) this.#move(MOVED);
  }

  /** Draw earlier or later lines; those in view stay where they are. */
  #move(by) {
    const list = this.#list;
    const kept = by < 0 ? list.children[0] : list.children[MOVED];
    const { line } = kept.dataset;
    const before = kept.offsetTop - list.scrollTop;
    this.#from += by;
    this.#draw();
    const again = [...list.children].find((one) => one.dataset.line === line);
    if (again) list.scrollTop = again.offsetTop - before;
  }

  #keyed(event) {
    if (event.target !== this.#list || !["Home", "End"].includes(event.key)) return;
    event.preventDefault();
    this.#following = event.key === "End";
    this.#from = this.#following ? this.#chosen.length : 0;
    this.#draw();
    this.#list.scrollTop = this.#following ? this.#list.scrollHeight : 0;
  }

  #text() {
    return this.#chosen.map(plain).join("\n");
  }

  #download() {
    if (!this.#chosen.length) return note(t("log.none"));
    const source = URL.createObjectURL(new Blob([`${this.#text()}\n`], { type: "text/plain" }));
    const link = h("a", { href: source, download: `${this.#id}.log` });
    link.click();
    return setTimeout(() => URL.revokeObjectURL(source), 10000);
  }
}

/** Return a traceback; one that an earlier attempt had too is folded. */
function trace(line, text) {
  if (line.same === undefined) return h("pre", { class: "trace", tabindex: 0 }, text);
  const block = h("pre", { class: "trace", tabindex: 0 });
  const details = h("details", { class: "same-trace" }, h("summary", { class: "small muted" }, t("log.same", { n: line.same })), block);
  details.addEventListener("toggle", () => details.open && (block.textContent = text));
  return details;
}
