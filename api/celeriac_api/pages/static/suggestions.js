// Suggestions for the search field: names of fields, and the values of those that are known.

import { h } from "./dom.js";
import { FIELDS, STATUSES } from "./query.js";
import { t } from "./text.js";

const MOST = 12;

/** Fields in the order of their use, with their hint. */
const HINTED = ["status", "type", "title", "key", "user", "tag", "group", "error", "after", "before"];

/** `values` maps a field to a function that returns its values. */
export class Suggestions {
  #found = [];
  #at = -1;

  constructor(input, values) {
    this.input = input;
    this.values = { status: () => STATUSES, ...values };
    this.list = h("ul", { class: "suggestions", id: "search-suggestions", role: "listbox", "aria-label": t("search.suggestions"), hidden: true });
    for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": this.list.id, "aria-expanded": "false" })) input.setAttribute(name, value);
    input.addEventListener("input", () => this.#show());
    input.addEventListener("focus", () => this.#show());
    input.addEventListener("click", () => this.#show());
    input.addEventListener("blur", () => this.#hide());
    input.addEventListener("keydown", (event) => this.#key(event));
    // Before the field loses the focus.
    this.list.addEventListener("mousedown", (event) => {
      event.preventDefault();
      const row = event.target.closest("li");
      if (row) this.#take(Number(row.dataset.place));
    });
  }

  end() {
    this.#hide();
  }

  /** Return the word before the caret, and where it begins. */
  #word() {
    const before = this.input.value.slice(0, this.input.selectionStart ?? 0);
    const word = /[^\s]*$/.exec(before)[0];
    return { word, start: before.length - word.length };
  }

  #suggest(word) {
    const sign = word.startsWith("-") ? "-" : "";
    const [name, rest] = word.slice(sign.length).split(/:(.*)/s);
    if (rest === undefined) {
      const wanted = name.toLowerCase();
      if (/["']/.test(wanted)) return [];
      return HINTED.filter((field) => field in FIELDS && field.startsWith(wanted)).map((field) => ({ text: `${sign}${field}:`, hint: t(`search.field_${field}`), open: true }));
    }
    const field = Object.keys(FIELDS).find((one) => one === name.toLowerCase() || FIELDS[one].includes(name.toLowerCase()));
    const given = rest.split(",");
    const last = given.pop();
    const known = (this.values[field]?.() ?? []).filter((value) => value.toLowerCase().startsWith(last.toLowerCase()) && value !== last && !given.includes(value));
    return known.map((value) => ({ text: `${sign}${name}:${[...given, /[\s,"]/.test(value) ? JSON.stringify(value) : value].join(",")}`, label: value }));
  }

  #show() {
    if (document.activeElement !== this.input) return;
    this.#found = this.#suggest(this.#word().word).slice(0, MOST);
    this.#at = -1;
    this.list.replaceChildren(
      ...this.#found.map(({ text, label, hint }, place) =>
        h("li", { id: `suggestion-${place}`, role: "option", "aria-selected": "false", dataset: { place } }, h("span", {}, label ?? text), hint ? h("span", { class: "muted" }, hint) : null),
      ),
    );
    this.#open(this.#found.length > 0);
  }

  #hide() {
    this.#found = [];
    this.#open(false);
  }

  #open(open) {
    this.list.hidden = !open;
    this.input.setAttribute("aria-expanded", String(open));
    this.input.removeAttribute("aria-activedescendant");
  }

  #key(event) {
    if (this.list.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      this.#at = (this.#at + step + this.#found.length + (this.#at < 0 && step < 0 ? 1 : 0)) % this.#found.length;
      [...this.list.children].forEach((row, place) => row.setAttribute("aria-selected", String(place === this.#at)));
      this.list.children[this.#at].scrollIntoView({ block: "nearest" });
      this.input.setAttribute("aria-activedescendant", `suggestion-${this.#at}`);
    } else if ((event.key === "Enter" || event.key === "Tab") && this.#at >= 0) {
      event.preventDefault();
      this.#take(this.#at);
    } else if (event.key === "Escape") {
      event.stopPropagation();
      this.#hide();
    }
  }

  #take(place) {
    const { text, open } = this.#found[place];
    const { word, start } = this.#word();
    const after = this.input.value.slice(start + word.length);
    const inserted = open ? text : `${text} `;
    this.input.value = this.input.value.slice(0, start) + inserted + after.trimStart();
    const caret = start + inserted.length;
    this.input.setSelectionRange(caret, caret);
    this.input.dispatchEvent(new Event("input", { bubbles: true }));
  }
}
