// What a task has stored with `ctx.step`: the steps that do not run again.

import { get } from "./api.js";
import { h, setText } from "./dom.js";
import { clockTime, duration, fullTime, number, preview } from "./format.js";

/** How many steps are shown; a task may have more. */
const SHOWN = 200;

const size = (bytes) => (bytes < 1024 ? `${number(bytes)} B` : `${number(Math.round(bytes / 1024))} KiB`);

/** A card with the steps of the task at `path` (`tasks/ID`). It is hidden if there are none. `retry(name)` runs the task again from a step. */
export class TaskSteps {
  #path;
  #retry;
  #drawn = null;
  #rows = h("tbody", {});
  #count = h("span", { class: "small muted" });
  #reading = null;

  constructor(path, retry) {
    this.#path = path;
    this.#retry = retry;
    this.card = h(
      "section",
      { class: "card", hidden: true },
      h("header", {}, h("h2", {}, "Steps"), this.#count),
      h("div", { class: "scroll-x" }, h("table", { class: "plain" }, this.#rows)),
    );
  }

  /** Read the steps; `ended` means that the task may run again from one of them. */
  async read(ended) {
    const mine = (this.#reading = {});
    const found = [];
    let cursor = null;
    do {
      const page = await get(`${this.#path}/steps`, { limit: SHOWN, cursor });
      found.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor && found.length < SHOWN);
    if (mine === this.#reading) this.#show(found.slice(0, SHOWN), ended, Boolean(cursor) || found.length > SHOWN);
  }

  #show(steps, ended, more) {
    this.card.hidden = !steps.length;
    setText(this.#count, more ? `the first ${number(steps.length)}` : `${number(steps.length)} ${steps.length === 1 ? "step" : "steps"}`);
    // Do not replace a button that a user may be pressing.
    const state = JSON.stringify([steps, ended]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.#rows.replaceChildren(
      ...steps.map((step) =>
        h(
          "tr",
          {},
          h("td", {}, h("b", {}, step.name), h("div", { class: "small muted mono clip-lines" }, step.result === undefined || step.result === null ? "" : preview(step.result))),
          h("td", { class: "number muted nowrap" }, size(step.size)),
          h("td", { class: "number muted nowrap" }, duration(Date.parse(step.finished_at) - Date.parse(step.started_at))),
          h("td", { class: "number faint nowrap" }, h("time", { datetime: step.finished_at, title: fullTime(step.finished_at) }, clockTime(step.finished_at))),
          h("td", { class: "actions-cell" }, ended ? h("button", { class: "button small submit-only", type: "button", onclick: () => this.#retry(step.name) }, "Retry from here") : null),
        ),
      ),
    );
  }
}
