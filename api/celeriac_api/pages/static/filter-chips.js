// What a list is filtered by that no other control shows: fields of the search, and conditions of the address. A click removes one.

import { h } from "./dom.js";
import { shortId } from "./format.js";
import { parseQuery, writeQuery } from "./query.js";
import { t } from "./text.js";

/** Conditions of the address without a control of their own. */
const BARE = ["definition_id", "workflow_id", "error_group"];

export class FilterChips {
  element = h("ul", { class: "filter-chips", "aria-label": t("tasks.conditions"), hidden: true });
  #onremove;
  #drawn = "";

  /** `onremove(change)` is called with the new values of what changes: `{q: "…"}`. */
  constructor(onremove) {
    this.#onremove = onremove;
  }

  /** Show the conditions of a query, `{q, error_group, …}`. */
  draw(query) {
    const terms = parseQuery(query.q ?? "") ?? [];
    const chips = [
      ...BARE.filter((name) => query[name]).map((name) => ({ text: t(`tasks.only_${name}`, { id: shortId(query[name]) }), change: { [name]: "" } })),
      ...terms.filter((term) => term.field).map((term) => ({ text: writeQuery([term]), mono: true, change: { q: writeQuery(terms.filter((other) => other !== term)) } })),
    ];
    const key = JSON.stringify(chips);
    if (key === this.#drawn) return;
    this.#drawn = key;
    this.element.hidden = !chips.length;
    this.element.replaceChildren(
      ...chips.map(({ text, mono, change }) =>
        h(
          "li",
          {},
          h(
            "button",
            { class: "chip", type: "button", title: t("tasks.remove_condition"), "aria-label": t("tasks.remove", { text }), onclick: () => this.#onremove(change) },
            h("span", { class: mono ? "clip mono" : "clip" }, text),
            h("span", { "aria-hidden": "true" }, "×"),
          ),
        ),
      ),
    );
  }
}
