// Builds elements. Text is always text: no function here accepts HTML.

import { t } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    // Through the object model, because the page's policy forbids style attributes.
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(2)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Return an HTML element: h("a", {href: "#", onclick}, "text", child). */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Return an SVG element. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Set the text of an element if it changed. */
export function setText(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Set a progress bar, in percent. */
export function setBar(bar, percentage, status) {
  const shown = Math.max(0, Math.min(100, percentage));
  bar.firstElementChild.style.setProperty("width", `${shown}%`);
  bar.setAttribute("aria-valuenow", Math.round(shown));
  if (status) bar.dataset.status = status;
}

export function bar(percentage, status, label) {
  const element = h("div", { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": label ?? t("common.progress") }, h("i"));
  setBar(element, percentage, status);
  return element;
}

export function statusBadge(status) {
  return h("span", { class: "status", dataset: { status } }, t(`status.${status}`));
}

const MARK = [
  "M9 15.5c0 5 3.2 8.5 7 8.5s7-3.500 7-8.500c0-2.200-1.600-3.500-3.600-3.500h-6.800C10.600 12 9 13.300 9 15.500Z",
  "M16 12V7M16 9.500c1.200-2 2.700-2.800 4.500-2.800M16 9.500c-1.200-2-2.700-2.800-4.500-2.800",
];

const PATHS = {
  overview: "M2.500 9h4v5h-4zM9.500 2.500h4V14h-4zM2.500 2.500h4v3.500h-4z",
  tasks: "M2.500 4h11M2.500 8h11M2.500 12h7",
  workflows: "M1.500 6h4v4h-4zM10.500 1.500h4v4h-4zM10.500 10.500h4v4h-4zM5.500 8H8M8 3.500v9M8 3.500h2.500M8 12.500h2.500",
  waits: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 4.500V8l2.500 1.500",
  groups: "M8 2 14 5 8 8 2 5zM2 8l6 3 6-3M2 11l6 3 6-3",
  limits: "M2.500 11.500a5.500 5.500 0 1 1 11 0M8 11.500l2.800-4M1.500 13.500h13",
  workers: "M3.500 3.500h9v9h-9zM6.500 6.500h3v3h-3zM6 1.500v2M10 1.500v2M6 12.500v2M10 12.500v2M1.500 6h2M1.500 10h2M12.500 6h2M12.500 10h2",
  requests: "M2 5.500h11M10.500 3 13 5.500 10.500 8M14 10.500H3M5.500 8 3 10.500 5.500 13",
  types: "M2.500 5.500 8 2.500l5.500 3v5L8 13.500l-5.500-3zM2.500 5.500 8 8.500l5.500-3M8 8.500v5",
  errors: "M8 5v3.500M8 11.200v.1M7 2.300 1.600 11.800A1.200 1.200 0 0 0 2.600 13.500h10.800a1.200 1.200 0 0 0 1-1.700L9 2.300a1.150 1.150 0 0 0-2 0z",
  definitions: "M2.500 3.500h11v10h-11zM2.500 6.500h11M5.500 2v3M10.500 2v3M5.500 9.500h2.500",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.700 10.700 14 14",
  theme:
    "M8 2.500v-1M8 14.500v-1M2.500 8h-1M14.500 8h-1M4.100 4.100l-.7-.7M12.600 12.600l-.7-.7M4.100 11.900l-.7.7M12.600 3.400l-.7.700" +
    "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  help: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM6.300 6.300A1.750 1.750 0 0 1 9.700 7c0 1.200-1.700 1.500-1.700 2.400M8 11.300v.1",
  docs: "M3 2.500h7l3 3v8H3zM10 2.500v3h3M5.500 8.500h5M5.500 11h5",
  fit: "M2.500 6v-3.500H6M10 2.500h3.500V6M13.500 10v3.500H10M6 13.500H2.500V10",
  copy: "M5.500 5.500h8v8h-8zM3.500 10.500h-1v-8h8v1",
  link: "M6.500 9.500l3-3M7.500 4.500l1-1a2.800 2.800 0 0 1 4 4l-1 1M8.500 11.500l-1 1a2.800 2.800 0 0 1-4-4l1-1",
  out: "M6.500 2.500h-4v11h4M10.500 11l3-3-3-3M13.500 8h-7",
  plug: "M5.500 2v3.500M10.500 2v3.500M3.500 5.500h9v2a4.500 4.500 0 0 1-9 0zM8 12v2.500",
};

/** Return the mark of the product: `mark.svg`, which a page so does not fetch a second time, besides its icon. */
export function mark() {
  const line = { fill: "none", stroke: "#fff", "stroke-width": 2, "stroke-linejoin": "round", "stroke-linecap": "round" };
  return s(
    "svg",
    { viewBox: "0 0 32 32", "aria-hidden": "true" },
    s("rect", { width: 32, height: 32, rx: 8, fill: "#5147d9" }),
    MARK.map((d) => s("path", { d, ...line })),
  );
}

export function icon(name) {
  return s(
    "svg",
    {
      viewBox: "0 0 16 16",
      "aria-hidden": "true",
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.5,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
    },
    s("path", { d: PATHS[name] }),
  );
}
