// When the tasks of a list were created: bars by status, on which a span of time is chosen by dragging.

import { h, s, setText } from "./dom.js";
import { axisTime, fullTime } from "./format.js";
import { t } from "./text.js";

const STATUSES = ["completed", "cancelled", "pending", "waiting", "scheduled", "processing", "retrying", "failed"];
const HEIGHT = 44;
/** A drag that is shorter chooses nothing (pixels). */
const LEAST = 4;

/** `onbrush(from, to)` gets the chosen span as texts of RFC 3339. */
export class Histogram {
  #found = null;

  constructor(onbrush) {
    this.bars = s("svg", { preserveAspectRatio: "none", role: "img", "aria-label": t("histogram.label") });
    this.chosen = h("i", { class: "brush", hidden: true });
    this.tip = h("div", { class: "tip", hidden: true });
    this.first = h("span", {});
    this.middle = h("span", {});
    this.last = h("span", {});
    this.stage = h("div", { class: "stage-bars", title: t("histogram.hint") }, this.bars, this.chosen, this.tip);
    this.element = h("div", { class: "histogram" }, this.stage, h("div", { class: "axis" }, this.first, this.middle, this.last));
    this.#listen(onbrush);
  }

  /** Show an answer of `task-histogram`. */
  draw(found) {
    this.#found = found;
    const { buckets } = found;
    const sums = buckets.map(({ counts }) => Object.values(counts).reduce((sum, one) => sum + one, 0));
    const highest = Math.max(1, ...sums);
    this.bars.setAttribute("viewBox", `0 0 ${buckets.length} ${HEIGHT}`);
    this.bars.replaceChildren(
      ...buckets.flatMap(({ counts }, place) => {
        let top = HEIGHT;
        return STATUSES.filter((status) => counts[status]).map((status) => {
          // A failed task among many thousands is seen too.
          const height = Math.max(1.5, (counts[status] / highest) * (HEIGHT - 4));
          top -= height;
          return s("rect", { x: place + 0.1, y: Math.max(0, top), width: 0.8, height, "data-status": status });
        });
      }),
    );
    const span = Date.parse(found.to) - Date.parse(found.from);
    setText(this.first, axisTime(found.from, span));
    setText(this.middle, found.more ? t("histogram.more", { n: sums.reduce((sum, one) => sum + one, 0) }) : "");
    setText(this.last, axisTime(found.to, span));
    this.element.classList.toggle("none", !sums.some(Boolean));
  }

  /** Return the moment at a place of the stage (0 to 1) in ms, at the edge of a bucket. */
  #moment(part, up) {
    const { from, bucket_ms: size, buckets } = this.#found;
    const place = part * buckets.length;
    return Date.parse(from) + (up ? Math.ceil(place) : Math.floor(place)) * size;
  }

  #listen(onbrush) {
    let begun = null;
    const part = (event) => {
      const box = this.stage.getBoundingClientRect();
      return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    };
    const width = () => this.stage.getBoundingClientRect().width;
    this.stage.addEventListener("pointerdown", (event) => {
      if (!this.#found || event.button) return;
      begun = part(event);
      this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (!this.#found?.buckets.length) return;
      const here = part(event);
      if (begun !== null) {
        this.chosen.hidden = false;
        this.chosen.style.setProperty("left", `${Math.min(begun, here) * 100}%`);
        this.chosen.style.setProperty("width", `${Math.abs(here - begun) * 100}%`);
      }
      this.#tell(here);
    });
    this.stage.addEventListener("pointerleave", () => (this.tip.hidden = true));
    const stop = () => {
      begun = null;
      this.chosen.hidden = true;
    };
    this.stage.addEventListener("pointercancel", stop);
    this.stage.addEventListener("pointerup", (event) => {
      const [low, high] = [begun, part(event)].sort((a, b) => a - b);
      const long = begun !== null && (high - low) * width() >= LEAST;
      stop();
      if (long) onbrush(new Date(this.#moment(low, false)).toISOString(), new Date(this.#moment(high, true)).toISOString());
    });
  }

  #tell(here) {
    const { buckets } = this.#found;
    const bucket = buckets[Math.min(buckets.length - 1, Math.floor(here * buckets.length))];
    const counts = STATUSES.filter((status) => bucket.counts[status]).reverse();
    this.tip.hidden = !counts.length;
    this.tip.replaceChildren(
      h("b", {}, fullTime(bucket.at)),
      ...counts.map((status) => h("div", {}, h("span", {}, t(`status.${status}`)), h("span", {}, t("histogram.tasks", { n: bucket.counts[status] })))),
    );
    const right = here > 0.6;
    this.tip.style.setProperty("left", right ? "auto" : `calc(${here * 100}% + 12px)`);
    this.tip.style.setProperty("right", right ? `calc(${(1 - here) * 100}% + 12px)` : "auto");
  }
}
