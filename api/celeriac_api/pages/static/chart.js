// Charts: bars and lines over time, in SVG, with a cursor that shows the figures.

import { h, s } from "./dom.js";
import { axisTime, fullTime } from "./format.js";
import { t } from "./text.js";

const PAD = { left: 46, right: 6, top: 10, bottom: 22 };

/** Return the next round number at or above `value`. If `whole`, half of it is a whole number too. */
function ceiling(value, whole) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return (whole ? [1, 2, 4, 6, 8, 10] : [1, 2, 2.5, 5, 10]).map((step) => step * power).find((step) => step >= value * 0.999);
}

/**
 * Draws into an element and again when its size or data change.
 *
 * `series`: {key, name, kind "bar" | "line", tone, area?}; bars are stacked. `format(value)` writes a figure. `onpick`
 * hears which bucket was clicked: its begin, and its end.
 */
export class Chart {
  #points = [];
  #root;
  #svg = null;
  #observer;
  #tip = null;
  /** Its size. The observer says it when the page has been laid out; to ask for it would lay the page out. */
  #size = { width: 0, height: 0 };
  #drawing = false;

  constructor(root, { series, format, label, whole = false, steps = null, onpick = null }) {
    this.series = series;
    this.format = format;
    this.label = label;
    this.whole = whole;
    this.steps = steps;
    this.#root = root;
    this.#observer = new ResizeObserver(() => {
      this.#size = { width: root.clientWidth, height: root.clientHeight };
      this.#draw();
    });
    this.#observer.observe(root);
    root.addEventListener("pointermove", (event) => this.#point(event));
    root.addEventListener("pointerleave", () => this.#leave());
    if (onpick) {
      root.classList.add("pickable");
      root.addEventListener("click", (event) => {
        const i = this.#place(event);
        if (!this.#points[i]) return;
        const size = Date.parse(this.#points[1].at) - Date.parse(this.#points[0].at);
        onpick(this.#points[i].at, new Date(Date.parse(this.#points[i].at) + size).toISOString());
      });
    }
  }

  /** Show `points`: [{at (moment), KEY: value | null, …}], evenly spaced. */
  set(points) {
    this.#points = points;
    this.#soon();
  }

  /** Draw other series from now on. */
  show(series) {
    this.series = series;
    this.#soon();
  }

  end() {
    this.#observer.disconnect();
  }

  /** Draw once, whatever else is set in this turn. */
  #soon() {
    if (this.#drawing) return;
    this.#drawing = true;
    queueMicrotask(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #draw() {
    const { width, height } = this.#size;
    if (!width || !height) return;
    const points = this.#points;
    const bars = this.series.filter((one) => one.kind === "bar");
    const lines = this.series.filter((one) => one.kind === "line");
    const highest = Math.max(
      0,
      ...points.map((p) =>
        Math.max(
          bars.reduce((sum, one) => sum + (p[one.key] ?? 0), 0),
          ...lines.map((one) => p[one.key] ?? 0),
        ),
      ),
    );
    if (points.length < 2 || (highest === 0 && lines.length && !bars.length)) {
      this.#svg = null;
      this.#root.replaceChildren(h("div", { class: "chart-none" }, points.length ? t("chart.nothing") : t("chart.loading")));
      return;
    }
    const top = this.steps?.find((step) => step >= highest) ?? ceiling(this.whole ? Math.max(highest, 4) : highest, this.whole);
    const inner = { width: width - PAD.left - PAD.right, height: height - PAD.top - PAD.bottom };
    const step = inner.width / points.length;
    const y = (value) => PAD.top + inner.height * (1 - value / top);
    const x = (i) => PAD.left + step * (i + 0.5);
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": this.label });
    for (const part of [0, 0.5, 1]) {
      const at = Math.round(y(top * part)) + 0.5;
      svg.append(s("line", { class: part ? "grid" : "axis", x1: PAD.left, x2: width - PAD.right, y1: at, y2: at }));
      if (part) svg.append(s("text", { x: PAD.left - 8, y: at + 4, "text-anchor": "end" }, this.format(top * part)));
    }
    const span = Date.parse(points.at(-1).at) - Date.parse(points[0].at);
    const labels = Math.max(2, Math.min(7, Math.floor(inner.width / 84)));
    for (let n = 0; n < labels; n++) {
      const i = Math.round(((n + 0.5) / labels) * (points.length - 1));
      svg.append(s("text", { x: x(i), y: height - 5, "text-anchor": "middle" }, axisTime(points[i].at, span)));
    }
    const gap = step > 5 ? Math.min(2, step * 0.22) : 0.4;
    for (const [i, p] of points.entries()) {
      let floor = 0;
      for (const one of bars) {
        const value = p[one.key] ?? 0;
        if (!value) continue;
        const tall = Math.max(1.5, (value / top) * inner.height);
        svg.append(
          s("rect", {
            class: one.tone,
            x: PAD.left + step * i + gap / 2,
            y: y(floor) - tall,
            width: Math.max(0.8, step - gap),
            height: tall,
            rx: step > 6 ? 1.5 : 0,
          }),
        );
        floor += value;
      }
    }
    for (const one of lines) {
      for (const run of runs(points, one.key)) {
        const d = run.map(([i, value], n) => `${n ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("");
        if (one.area) svg.append(s("path", { class: "area", d: `${d}L${x(run.at(-1)[0]).toFixed(1)} ${y(0)}L${x(run[0][0]).toFixed(1)} ${y(0)}Z` }));
        // A single point is drawn as a dot: a line of no length with round ends.
        svg.append(s("path", run.length > 1 ? { class: one.tone, d } : { class: `${one.tone} dot`, d: `${d}h0.01` }));
      }
    }
    const cursor = s("line", { class: "cursor", y1: PAD.top, y2: height - PAD.bottom, visibility: "hidden" });
    svg.prepend(cursor);
    this.#svg = { step, cursor, x, width };
    this.#root.replaceChildren(svg, ...(this.#tip ? [this.#tip] : []));
  }

  #point(event) {
    if (!this.#svg) return;
    const { cursor, x, width } = this.#svg;
    const i = this.#place(event);
    const p = this.#points[i];
    if (!p) return this.#leave();
    cursor.setAttribute("x1", x(i));
    cursor.setAttribute("x2", x(i));
    cursor.setAttribute("visibility", "visible");
    this.#tip ??= this.#root.appendChild(h("div", { class: "tip" }));
    this.#tip.replaceChildren(
      h("b", {}, fullTime(p.at)),
      ...this.series.map((one) =>
        h("div", {}, h("span", {}, one.name), h("span", {}, p[one.key] === null || p[one.key] === undefined ? "–" : this.format(p[one.key]))),
      ),
    );
    const half = this.#tip.offsetWidth;
    this.#tip.style.setProperty("left", `${x(i) + 14 + half > width ? x(i) - half - 14 : x(i) + 14}px`);
    return undefined;
  }

  /** Return which point is below the pointer; there may be none. */
  #place(event) {
    return this.#svg ? Math.floor((event.clientX - this.#root.getBoundingClientRect().left - PAD.left) / this.#svg.step) : -1;
  }

  #leave() {
    this.#tip?.remove();
    this.#tip = null;
    this.#svg?.cursor.setAttribute("visibility", "hidden");
  }
}

/** Return the runs of points that have a value, as [[index, value], …]. */
function runs(points, key) {
  const found = [];
  let run = [];
  for (const [i, p] of points.entries()) {
    const value = p[key];
    if (value === null || value === undefined) {
      if (run.length) found.push(run);
      run = [];
    } else run.push([i, value]);
  }
  if (run.length) found.push(run);
  return found;
}

/** Return a small line without axes for recent values. */
export function sparkline(values, { width = 120, height = 28, tone = "accent" } = {}) {
  const top = Math.max(1, ...values);
  const d = values
    .map((v, i) => `${i ? "L" : "M"}${((i / Math.max(1, values.length - 1)) * width).toFixed(1)} ${(height - 2 - (v / top) * (height - 4)).toFixed(1)}`)
    .join("");
  return s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
    s("path", { d, fill: "none", stroke: `var(--${tone})`, "stroke-width": 1.5 }),
  );
}
