// A button that opens a short list of actions. The list lies above everything, so that no table cuts it off.

import { h } from "./dom.js";

let made = 0;

/** Return the button; `items` are `{text, act, danger}`, or `{text, about}` for a line that only says something. */
export function menu(label, items) {
  const id = `menu-${++made}`;
  const list = h(
    "div",
    { class: "menu", id, popover: "auto" },
    items.map(({ text, about, act, danger }) =>
      act
        ? h("button", { class: danger ? "danger" : null, type: "button", onclick: () => (list.hidePopover(), act()) }, text)
        : h("p", { class: "small muted" }, text, h("br"), about),
    ),
  );
  const button = h("button", { class: "button small icon", type: "button", "aria-label": label, title: label, popovertarget: id, "aria-haspopup": "true" }, "⋯");
  list.addEventListener("toggle", (event) => {
    if (event.newState !== "open") return;
    const at = button.getBoundingClientRect();
    const { width, height } = list.getBoundingClientRect();
    list.style.setProperty("left", `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`);
    list.style.setProperty("top", `${at.bottom + height + 12 > innerHeight ? Math.max(8, at.top - height - 4) : at.bottom + 4}px`);
    list.querySelector("button")?.focus();
  });
  return h("span", { class: "submit-only" }, button, list);
}
