// What a task has stored with `ctx.step`: the steps that do not run again.

import { get } from "./api.js";
import { h, setText } from "./dom.js";
import { clockTime, duration, exactTime, number, preview } from "./format.js";
import { t } from "./text.js";

/** How many steps are read; a task may have more. */
const READ = 200;
/** How many of them are shown at first. */
const SHOWN = 10;

const size = (bytes) => (bytes < 1024 ? `${number(bytes)} B` : `${number(Math.round(bytes / 1024))} KiB`);

/** A card with the steps of the task at `path` (`tasks/ID`). It is hidden if there are none. `retry(name)` runs the task again from a step, `heard(steps)` is called with what was read. */
export class TaskSteps {
  #path;
  #retry;
  #heard;
  #shown = SHOWN;
  #last = [];
  #drawn = null;
  #rows = h("tbody", {});
  #count = h("span", { class: "small muted" });
  #reading = null;

  constructor(path, retry, heard = () => {}) {
    this.#path = path;
    this.#retry = retry;
    this.#heard = heard;
    this.card = h(
      "section",
      { class: "card", hidden: true },
      h("header", {}, h("h2", {}, t("steps.title")), this.#count),
      h("div", { class: "scroll-x" }, h("table", { class: "plain" }, this.#rows)),
    );
  }

  /** Read the steps; `ended` means that the task may run again from one of them. */
  async read(ended) {
    const mine = (this.#reading = {});
    const found = [];
    let cursor = null;
    do {
      const page = await get(`${this.#path}/steps`, { limit: READ, cursor });
      found.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor && found.length < READ);
    if (mine !== this.#reading) return;
    this.#last = [found.slice(0, READ), ended, Boolean(cursor) || found.length > READ];
    this.#show(...this.#last);
    this.#heard(this.#last[0]);
  }

  #show(steps, ended, more) {
    this.card.hidden = !steps.length;
    setText(this.#count, more ? t("steps.first", { n: steps.length }) : t("steps.count", { n: steps.length }));
    // Do not replace a button that a user may be pressing.
    const state = JSON.stringify([steps, ended, this.#shown]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    const left = steps.length - this.#shown;
    const all = () => {
      this.#shown = READ;
      this.#show(...this.#last);
    };
    this.#rows.replaceChildren(
      ...steps.slice(0, this.#shown).map((step) =>
        h(
          "tr",
          {},
          h("td", {}, h("b", {}, step.name), h("div", { class: "small muted mono clip-lines" }, step.result === undefined || step.result === null ? "" : preview(step.result))),
          h("td", { class: "number muted nowrap" }, size(step.size)),
          h("td", { class: "number muted nowrap" }, duration(Date.parse(step.finished_at) - Date.parse(step.started_at))),
          h("td", { class: "number faint nowrap" }, h("time", { datetime: step.finished_at, title: exactTime(step.finished_at) }, clockTime(step.finished_at))),
          h("td", { class: "actions-cell" }, ended ? h("button", { class: "button small submit-only", type: "button", onclick: () => this.#retry(step.name) }, t("steps.retry_from")) : null),
        ),
      ),
      ...(left > 0 ? [h("tr", {}, h("td", { colspan: 5 }, h("button", { class: "button small quiet", type: "button", onclick: all }, t("steps.more", { n: left }))))] : []),
    );
  }
}
