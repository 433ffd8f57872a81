// The log of a task. It is read page by page, and again for new lines while the task goes on.

import { get } from "./api.js";
import { h, icon } from "./dom.js";
import { clockTime, fullTime } from "./format.js";
import { copy } from "./ui.js";

/** How many lines are shown. The log itself may have more. */
const SHOWN = 1000;
const PAGE = 1000;
const AGAIN_MS = 1500;

const value = (one) => (typeof one === "string" ? one : JSON.stringify(one));

/** Return a line; `begins` means that the previous line belongs to another attempt. */
function row(line, begins) {
  const { traceback, ...data } = line.data;
  const more = Object.entries(data).map(([name, one]) => [h("span", { class: "key" }, `${name}=`), value(one), " "]);
  return h(
    "li",
    { dataset: { level: line.level } },
    begins ? h("div", { class: "attempt small muted" }, `attempt ${line.attempt}`) : null,
    h("time", { datetime: line.at, title: `${fullTime(line.at)}, attempt ${line.attempt}` }, clockTime(line.at)),
    h("span", { class: "level" }, line.level),
    h(
      "div",
      { class: "said" },
      h("span", {}, line.message),
      more.length ? [" ", h("span", { class: "data" }, more)] : null,
      traceback ? h("pre", { class: "trace", tabindex: 0 }, traceback) : null,
    ),
  );
}

const plain = (line) => {
  const { traceback, ...data } = line.data;
  return (
    [line.at, `#${line.attempt}`, line.level, line.message, ...Object.entries(data).map(([name, one]) => `${name}=${value(one)}`)].join(" ") +
    (traceback ? `\n${traceback}` : "")
  );
};

/** A card with the log of the task at `path` (`tasks/ID`). It is hidden while the log is empty. */
export class TaskLog {
  #path;
  #lines = [];
  #list = h("ol", { class: "task-log", tabindex: 0, "aria-label": "Log" });
  #count = h("span", { class: "small muted" });
  #reading = null;
  #timer = null;
  #ended = false;

  constructor(path) {
    this.#path = path;
    this.card = h(
      "section",
      { class: "card", hidden: true },
      h(
        "header",
        {},
        h("h2", {}, "Log"),
        this.#count,
        h(
          "button",
          { class: "button small quiet", type: "button", onclick: () => copy(this.#lines.map(plain).join("\n"), "Log copied") },
          icon("copy"),
          "Copy",
        ),
      ),
      this.#list,
    );
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
      this.#show(page.items);
      if (!page.next_cursor) return;
      cursor = page.next_cursor;
    }
  }

  #show(lines) {
    if (!lines.length) return;
    const list = this.#list;
    this.card.hidden = false;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    let attempt = this.#lines.at(-1)?.attempt ?? 1;
    this.#lines = [...this.#lines, ...lines].slice(-SHOWN);
    for (const line of lines) {
      list.append(row(line, line.attempt !== attempt));
      attempt = line.attempt;
    }
    while (list.childElementCount > SHOWN) list.firstElementChild.remove();
    this.#count.textContent = `${this.#lines.length === SHOWN ? "the last " : ""}${this.#lines.length} ${this.#lines.length === 1 ? "line" : "lines"}`;
    if (atEnd) list.scrollTop = list.scrollHeight;
  }
}
