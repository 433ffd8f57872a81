// Draws the graph of a workflow: boxes and lines in SVG that are moved, enlarged and unfolded, and follow each status.

import { h, icon, s, setText } from "../dom.js";
import { number } from "../format.js";
import { t } from "../text.js";
import { fold, graphOf } from "./graph.js";
import { BOX, layOut } from "./layers.js";

/** What a box of several nodes is coloured by: the first of these that one of them has. */
const URGENT = ["failed", "processing", "retrying", "pending", "scheduled", "waiting", "cancelled", "completed"];
/** From this scale on boxes have texts. A smaller graph, and one with more boxes in sight than this, is only colours: one path for each. */
const READABLE = 0.5;
/** The scale at which a graph is shown first that is not readable as a whole. */
const FIRST = 0.8;
const BOXES = 300;
/** If there are more lines than this, only those of the chosen box are drawn. */
const LINES = 6000;
const SCALES = [0.01, 2];
/** The room around the graph (px), how far a pointer moves at least to drag (px), and a step of the keyboard (px). */
const MARGIN = 24;
const DRAG = 5;
const STEP = 80;
/** A narrower stage has the layers from top to bottom (px). */
const NARROW = 620;
const CONDITIONS = ["completed", "ended", "failed", "spawned"];

let made = 0;

/** Return counts in words: "3 failed, 12 completed". */
export const countsText = (counts) =>
  URGENT.filter((status) => counts[status])
    .map((status) => t("workflow.n_of", { n: counts[status], status: t(`status.${status}`) }))
    .join(t("common.and"));

/** Return how often each status occurs. */
export function countStatuses(nodes) {
  const counts = {};
  for (const { status } of nodes) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

/**
 * The element of a graph. `onchoose(item)` hears which item is chosen: `{key, kind, names}`, or null. `onopen(item)` hears of the key
 * Enter, and with `direct` of each click.
 */
export class Graph {
  #nodes = {};
  #graph = null;
  #opened = new Set();
  #items = [];
  /** The item of each node. */
  #holders = new Map();
  #edges = [];
  #layout = null;
  #boxes = new Map();
  #chosen = null;
  /** What the window shows: the point of the graph in its corner, in scaled px, and the scale. */
  #x = 0;
  #y = 0;
  #scale = 1;
  #moved = false;
  #frame = null;
  #pointers = new Map();
  #onchoose;
  #onopen;
  #direct;
  #clip = `graph-box-${++made}`;

  constructor({ label, onchoose = () => {}, onopen, direct = false }) {
    this.#onchoose = onchoose;
    this.#onopen = onopen;
    this.#direct = direct;
    this.#lines = Object.fromEntries(CONDITIONS.map((when) => [when, s("path", { class: `line ${when}` })]));
    this.#heads = s("path", { class: "heads" });
    this.#blocks = s("g", { class: "blocks" });
    this.#near = s("path", { class: "line chosen" });
    this.#far = Object.fromEntries(URGENT.map((status) => [status, s("path", { class: "far", "data-status": status })]));
    this.#ring = s("rect", { class: "ring", rx: 9, visibility: "hidden" });
    this.#group = s("g", {});
    this.#moving = s("g", {}, this.#blocks, ...Object.values(this.#lines), this.#heads, this.#near, ...Object.values(this.#far), this.#group, this.#ring);
    this.#svg = s(
      "svg",
      { role: "presentation" },
      s(
        "defs",
        {},
        s("clipPath", { id: this.#clip }, s("rect", { width: BOX.width - 2, height: BOX.height })),
        s("linearGradient", { id: `${this.#clip}-fade` }, s("stop", { "stop-opacity": 0 }), s("stop", { offset: 1 })),
      ),
      this.#moving,
    );
    this.#tip = h("div", { class: "tip", hidden: true });
    this.stage = h("div", { class: "graph-stage", tabindex: 0, role: "listbox", "aria-label": label }, this.#svg, this.#tip);
    const tool = (text, name, act) => h("button", { class: "button small", type: "button", onclick: act, "aria-label": text, title: text }, name);
    this.#smaller = tool(t("workflow.smaller"), "−", () => this.#zoom(1 / 1.4));
    this.#larger = tool(t("workflow.larger"), "+", () => this.#zoom(1.4));
    this.#unfold = h("button", { class: "button small", type: "button", hidden: true, onclick: () => this.#openAll() });
    this.#hint = h("span", { class: "small muted" });
    this.tools = h(
      "div",
      { class: "graph-tools" },
      this.#hint,
      this.#unfold,
      this.#smaller,
      this.#larger,
      tool(t("workflow.fit"), icon("fit"), () => this.fit()),
    );
    this.element = h("div", { class: "graph" }, this.stage);
    this.#listen();
  }

  #smaller;
  #larger;
  #lines;
  #heads;
  #blocks;
  #near;
  #far;
  #ring;
  #group;
  #moving;
  #svg;
  #tip;
  #unfold;
  #hint;
  #observer;

  end() {
    this.#observer.disconnect();
    cancelAnimationFrame(this.#frame);
  }

  /** Show `nodes`: `{NAME: {type, status, after}}`. What is opened, chosen and in sight stays so. */
  set(nodes) {
    const same = this.#graph && Object.keys(nodes).length === this.#graph.names.length && this.#graph.names.every((name) => nodes[name]);
    this.#nodes = nodes;
    if (same) {
      for (const item of this.#items) this.#count(item);
      this.#soon();
      return;
    }
    this.#graph = graphOf(nodes);
    this.#arrange();
  }

  /** The status of a node has changed. */
  update(name) {
    const item = this.#holders.get(name);
    if (!item) return;
    this.#count(item);
    this.#soon();
  }

  /** Choose the item that has the node, and bring it into sight. */
  show(name) {
    const place = this.#items.indexOf(this.#holders.get(name));
    if (place < 0) return;
    this.#choose(place);
    this.#reveal(place);
  }

  /** Show the nodes of an item that was folded. */
  open(key) {
    this.#opened.add(key);
    const first = this.#items.find((one) => one.key === key)?.names[0];
    this.#arrange();
    this.#scale = Math.max(this.#scale, READABLE);
    if (first) this.show(first);
  }

  /** Show the whole graph, however small. */
  fit() {
    this.#moved = false;
    this.#scale = this.#smallest();
    this.#centre(this.#layout.width / 2, this.#layout.height / 2);
  }

  // --- what is shown

  #arrange() {
    const { items, edges } = fold(this.#graph, this.#opened);
    const held = this.#chosen;
    this.#items = items;
    this.#edges = edges;
    this.#holders = new Map(items.flatMap((item) => item.names.map((name) => [name, item])));
    this.#chosen = null;
    for (const item of items) this.#count(item);
    this.#place();
    const again = held ? items.findIndex((one) => one.key === held) : -1;
    if (again >= 0) this.#choose(again);
    else if (held) this.#onchoose(null);
    const folded = items.some((one) => one.kind !== "node");
    this.#unfold.hidden = !folded && !this.#opened.size;
    setText(this.#unfold, folded ? t("workflow.unfold") : t("workflow.fold"));
  }

  #openAll() {
    const folded = this.#items.filter((one) => one.kind !== "node");
    if (!folded.length) this.#opened.clear();
    // What was folded may have folds of its own.
    for (let left = folded; left.length; left = fold(this.#graph, this.#opened).items.filter((one) => one.kind !== "node")) {
      for (const item of left) this.#opened.add(item.key);
    }
    this.#moved = false;
    this.#arrange();
  }

  #count(item) {
    item.counts = countStatuses(item.names.map((name) => this.#nodes[name]));
    item.status = URGENT.find((status) => item.counts[status]) ?? "waiting";
  }

  #place() {
    const vertical = this.stage.clientWidth > 0 && this.stage.clientWidth < NARROW;
    this.vertical = vertical;
    this.#layout = layOut({ items: this.#items, edges: this.#edges }, { vertical });
    for (const { element } of this.#boxes.values()) element.remove();
    this.#boxes.clear();
    const { width, height } = this.#layout;
    const fitting = Math.min(1, (this.stage.clientWidth - 2 * MARGIN) / Math.max(1, width));
    const scale = fitting < READABLE ? FIRST : fitting;
    this.stage.style.setProperty("--wanted", `${Math.ceil(height * scale + 2 * MARGIN)}px`);
    const all = this.#edges.length <= LINES;
    setText(this.#hint, all ? "" : t("workflow.n_lines", { n: this.#edges.length }));
    this.#blocks.replaceChildren(...this.#layout.blocks.map((block) => s("rect", { ...block, rx: 12 })));
    const paths = Object.fromEntries(CONDITIONS.map((when) => [when, []]));
    const heads = [];
    if (all) {
      for (const [n, { when }] of this.#edges.entries()) {
        (paths[when] ?? paths.completed).push(this.#curve(this.#layout.lines[n]));
        heads.push(this.#head(this.#layout.lines[n]));
      }
    }
    for (const when of CONDITIONS) this.#lines[when].setAttribute("d", paths[when].join(""));
    this.#heads.setAttribute("d", heads.join(""));
    this.#mark();
    if (!this.#moved) this.#begin();
    this.#soon();
  }

  /** The first sight: the whole graph if it can be read, otherwise what runs or has failed, or the beginning. */
  #begin() {
    const fitting = this.#fitting();
    this.#scale = fitting < READABLE ? FIRST : Math.min(1, fitting);
    if (fitting >= READABLE) {
      this.#centre(this.#layout.width / 2, this.#layout.height / 2);
      return;
    }
    const place = ["failed", "processing", "retrying"].map((status) => this.#items.findIndex((one) => one.status === status)).find((found) => found >= 0);
    if (place !== undefined) {
      const box = this.#layout.places[place];
      this.#centre(box.x + box.width / 2, box.y + box.height / 2);
    } else {
      const first = this.#layout.places.reduce((a, b) => (b.layer < a.layer ? b : a), this.#layout.places[0]);
      if (this.vertical) this.#centre(first.x + first.width / 2, 0);
      else this.#centre(0, first.y + first.height / 2);
    }
  }

  #fitting() {
    const { width, height } = this.#layout;
    return Math.min((this.stage.clientWidth - 2 * MARGIN) / Math.max(1, width), (this.stage.clientHeight - 2 * MARGIN) / Math.max(1, height));
  }

  /** A graph becomes no smaller than the window that shows all of it. */
  #smallest() {
    return Math.max(SCALES[0], Math.min(this.#fitting(), 1));
  }

  // --- drawing

  #soon() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  #draw() {
    const { clientWidth: wide, clientHeight: high } = this.stage;
    if (!wide || !this.#layout) return;
    this.#moving.setAttribute("transform", `translate(${-this.#x.toFixed(1)} ${-this.#y.toFixed(1)}) scale(${this.#scale.toFixed(4)})`);
    // Not `disabled`, which would take the keyboard's focus away.
    this.#smaller.setAttribute("aria-disabled", String(this.#scale <= this.#smallest()));
    this.#larger.setAttribute("aria-disabled", String(this.#scale >= SCALES[1]));
    const [left, top, right, bottom] = [this.#x, this.#y, this.#x + wide, this.#y + high].map((edge) => edge / this.#scale);
    let visible = [];
    for (const [i, box] of this.#layout.places.entries()) {
      if (box.x < right && box.x + box.width > left && box.y < bottom && box.y + box.height > top) visible.push(i);
    }
    const far = Object.fromEntries(URGENT.map((status) => [status, []]));
    if (this.#scale < READABLE || visible.length > BOXES) {
      for (const i of visible) {
        const { x, y, width, height } = this.#layout.places[i];
        far[this.#items[i].status]?.push(`M${x.toFixed(0)} ${y.toFixed(0)}h${width}v${height}h${-width}z`);
      }
      visible = [];
    }
    for (const status of URGENT) this.#far[status].setAttribute("d", far[status].join(""));
    const wanted = new Set(visible);
    for (const [i, { element }] of this.#boxes) {
      if (wanted.has(i)) continue;
      element.remove();
      this.#boxes.delete(i);
    }
    for (const i of visible) {
      if (!this.#boxes.has(i)) this.#boxes.set(i, this.#box(i));
      this.#fill(i);
    }
    const chosen = this.#chosenPlace();
    if (wanted.has(chosen)) this.stage.setAttribute("aria-activedescendant", this.#id(chosen));
    else this.stage.removeAttribute("aria-activedescendant");
  }

  #id(place) {
    return `${this.#clip}-${place}`;
  }

  #box(i) {
    const { x, y, width, height } = this.#layout.places[i];
    const item = this.#items[i];
    const several = item.kind !== "node";
    const box = { about: s("text", { class: "about", x: 24, y: 36 }), parts: s("g", { class: "parts" }) };
    const [first] = item.names;
    const types = new Set(item.names.map((name) => this.#nodes[name].type));
    const name = !several ? first : types.size === 1 ? [...types][0] : item.kind === "run" ? t("workflow.in_a_row") : t("workflow.n_types", { n: types.size });
    box.element = s(
      "g",
      { class: `box ${item.kind}`, transform: `translate(${x} ${y})`, role: "option", id: this.#id(i), "data-key": item.key },
      several ? s("rect", { class: "behind", x: 4, y: 4, width, height, rx: 8 }) : null,
      s("rect", { class: "face", width, height, rx: 8 }),
      s("circle", { class: "dot", cx: 13, cy: 20, r: 4 }),
      s(
        "g",
        { "clip-path": `url(#${this.#clip})` },
        s("text", { class: "name", x: 24, y: 20 }, several ? `${number(item.names.length)} × ${name}` : name, " "),
        box.about,
        s("rect", { class: "fade", x: width - 22, y: 2, width: 20, height: height - 8, fill: `url(#${this.#clip}-fade)` }),
      ),
      box.parts,
    );
    this.#group.append(box.element);
    return box;
  }

  #fill(i) {
    const box = this.#boxes.get(i);
    const item = this.#items[i];
    const state = JSON.stringify([item.counts, item.key === this.#chosen]);
    if (box.state === state) return;
    box.state = state;
    const node = this.#nodes[item.names[0]];
    const several = item.kind !== "node";
    setText(box.about, several ? countsText(item.counts) : `${t(`status.${node.status}`)} · ${node.type}`);
    box.element.setAttribute("aria-selected", String(item.key === this.#chosen));
    box.element.dataset.status = item.status;
    box.parts.replaceChildren();
    if (!several) return;
    let x = 8;
    for (const status of URGENT) {
      const width = ((item.counts[status] ?? 0) / item.names.length) * (this.#layout.places[i].width - 16);
      if (width) box.parts.append(s("rect", { x, y: 42, width, height: 3, "data-status": status }));
      x += width;
    }
  }

  /** Return the path of a line: curves between layers, straight through them. */
  #curve(points) {
    const parts = [`M${points[0].toFixed(1)} ${points[1].toFixed(1)}`];
    for (let n = 2; n < points.length; n += 2) {
      const [x0, y0, x1, y1] = points.slice(n - 2, n + 2);
      if (n % 4 === 0) parts.push(`L${x1.toFixed(1)} ${y1.toFixed(1)}`);
      else if (this.vertical) parts.push(`C${x0.toFixed(1)} ${((y0 + y1) / 2).toFixed(1)} ${x1.toFixed(1)} ${((y0 + y1) / 2).toFixed(1)} ${x1.toFixed(1)} ${y1.toFixed(1)}`);
      else parts.push(`C${((x0 + x1) / 2).toFixed(1)} ${y0.toFixed(1)} ${((x0 + x1) / 2).toFixed(1)} ${y1.toFixed(1)} ${x1.toFixed(1)} ${y1.toFixed(1)}`);
    }
    return parts.join("");
  }

  #head(points) {
    const [x, y] = points.slice(-2).map((one) => one.toFixed(1));
    return this.vertical ? `M${x} ${y}l-4 -7h8z` : `M${x} ${y}l-7 -4v8z`;
  }

  // --- choosing

  #choose(place) {
    const item = place === null ? null : this.#items[place];
    if ((item?.key ?? null) === this.#chosen) return;
    this.#chosen = item?.key ?? null;
    this.#mark();
    this.#soon();
    this.#onchoose(item);
  }

  /** Draw a ring around the chosen item, and its lines. */
  #mark() {
    const place = this.#chosenPlace();
    const item = this.#items[place];
    const near = item ? this.#edges.flatMap((edge, n) => (edge.from === place || edge.to === place ? [n] : [])).slice(0, LINES) : [];
    this.#near.setAttribute("d", near.map((n) => this.#curve(this.#layout.lines[n])).join(""));
    this.#ring.setAttribute("visibility", item ? "visible" : "hidden");
    if (item) {
      const { x, y, width, height } = this.#layout.places[place];
      for (const [name, value] of Object.entries({ x: x - 3, y: y - 3, width: width + 6, height: height + 6 })) this.#ring.setAttribute(name, value);
    }
  }

  #chosenPlace() {
    return this.#items.findIndex((one) => one.key === this.#chosen);
  }

  /** Return the item nearest to the chosen one in a direction; without a choice, the first one. */
  #beside(dx, dy) {
    const now = this.#layout.places[this.#chosenPlace()];
    if (!now) return this.#items.length ? 0 : -1;
    let best = [Infinity, -1];
    for (const [i, box] of this.#layout.places.entries()) {
      const ahead = (box.x - now.x) * dx + (box.y - now.y) * dy;
      const aside = Math.abs((box.x - now.x) * dy + (box.y - now.y) * dx);
      if (ahead > 1 && ahead + 3 * aside < best[0]) best = [ahead + 3 * aside, i];
    }
    return best[1];
  }

  #at(event) {
    const frame = this.stage.getBoundingClientRect();
    const [x, y] = [(event.clientX - frame.left + this.#x) / this.#scale, (event.clientY - frame.top + this.#y) / this.#scale];
    return this.#layout?.places.findIndex((box) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height) ?? -1;
  }

  // --- moving

  #centre(x, y) {
    this.#x = x * this.#scale - this.stage.clientWidth / 2;
    this.#y = y * this.#scale - this.stage.clientHeight / 2;
    this.#hold();
  }

  /** Keep the graph in the window: in its middle if it is smaller, without empty space beside it if it is larger. */
  #hold() {
    const hold = (at, window, size) => (size + 2 * MARGIN <= window ? (size - window) / 2 : Math.min(Math.max(at, -MARGIN), size + MARGIN - window));
    this.#x = hold(this.#x, this.stage.clientWidth, this.#layout.width * this.#scale);
    this.#y = hold(this.#y, this.stage.clientHeight, this.#layout.height * this.#scale);
    this.#soon();
  }

  #move(dx, dy) {
    this.#moved = true;
    this.#x += dx;
    this.#y += dy;
    this.#hold();
  }

  /** Change the size by a factor; the point (px of the stage) stays where it is. */
  #zoom(factor, px = this.stage.clientWidth / 2, py = this.stage.clientHeight / 2) {
    const scale = Math.min(SCALES[1], Math.max(this.#smallest(), this.#scale * factor));
    if (factor > 1 || scale < this.#scale) {
      this.#moved = true;
      this.#x = ((this.#x + px) / this.#scale) * scale - px;
      this.#y = ((this.#y + py) / this.#scale) * scale - py;
      this.#scale = scale;
    }
    this.#hold();
  }

  #reveal(place) {
    const { x, y, width, height } = this.#layout.places[place];
    const [left, top] = [x * this.#scale - MARGIN, y * this.#scale - MARGIN];
    const [right, bottom] = [(x + width) * this.#scale + MARGIN, (y + height) * this.#scale + MARGIN];
    const { clientWidth: wide, clientHeight: high } = this.stage;
    if (left >= this.#x && right <= this.#x + wide && top >= this.#y && bottom <= this.#y + high) return;
    this.#moved = true;
    this.#centre(x + width / 2, y + height / 2);
  }

  #listen() {
    const { stage } = this;
    let from = null;
    this.#observer = new ResizeObserver(() => {
      if (!this.#layout) return;
      if (stage.clientWidth > 0 && stage.clientWidth < NARROW !== this.vertical) {
        this.#moved = false;
        this.#place();
      } else if (!this.#moved) this.#begin();
      else {
        this.#hold();
        if (this.#chosen) this.#reveal(this.#chosenPlace());
      }
    });
    this.#observer.observe(stage);
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.#pointers.set(event.pointerId, event);
      if (this.#pointers.size === 1) from = { x: event.clientX, y: event.clientY, dragged: false };
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      const last = this.#pointers.get(event.pointerId);
      if (!last) return this.#hover(event);
      const others = [...this.#pointers.values()].filter((one) => one.pointerId !== event.pointerId);
      this.#pointers.set(event.pointerId, event);
      if (others.length) {
        // Two fingers: the graph grows with their distance.
        const frame = stage.getBoundingClientRect();
        const apart = (one) => Math.max(10, Math.hypot(one.clientX - others[0].clientX, one.clientY - others[0].clientY));
        from.dragged = true;
        this.#zoom(apart(event) / apart(last), (event.clientX + others[0].clientX) / 2 - frame.left, (event.clientY + others[0].clientY) / 2 - frame.top);
        return undefined;
      }
      if (!from.dragged && Math.hypot(event.clientX - from.x, event.clientY - from.y) < DRAG) return undefined;
      from.dragged = true;
      stage.classList.add("dragged");
      this.#tip.hidden = true;
      this.#move(last.clientX - event.clientX, last.clientY - event.clientY);
      return undefined;
    });
    const up = (event) => {
      if (!this.#pointers.delete(event.pointerId)) return;
      if (!this.#pointers.size) stage.classList.remove("dragged");
      if (event.type === "pointerup" && !from.dragged) {
        const place = this.#at(event);
        // The details beside the graph may make the stage narrower: what is in sight stays where it is.
        this.#moved = true;
        this.#choose(place < 0 ? null : place);
        if (this.#direct && place >= 0) this.#onopen(this.#items[place]);
      }
    };
    stage.addEventListener("pointerup", up);
    stage.addEventListener("pointercancel", up);
    stage.addEventListener("pointerleave", () => (this.#tip.hidden = true));
    stage.addEventListener("dblclick", (event) => {
      const item = this.#items[this.#at(event)];
      if (item && !this.#direct) this.#onopen(item);
    });
    stage.addEventListener(
      "wheel",
      (event) => {
        // A wheel scrolls the page. With a key, or two fingers on a pad, it changes the size; sideways, it moves the graph.
        const frame = stage.getBoundingClientRect();
        if (event.ctrlKey || event.metaKey) this.#zoom(Math.exp(-event.deltaY * 0.0035), event.clientX - frame.left, event.clientY - frame.top);
        else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.#move(event.deltaX, 0);
        else return;
        event.preventDefault();
      },
      { passive: false },
    );
    stage.addEventListener("keydown", (event) => this.#key(event));
  }

  /** A note beside the pointer says what is under it, because a box may be too small for its name. */
  #hover(event) {
    const item = event.pointerType === "touch" ? null : this.#items[this.#at(event)];
    this.#tip.hidden = !item;
    if (!item) return;
    const [first] = item.names;
    const several = item.kind !== "node";
    this.#tip.replaceChildren(
      h("b", {}, several ? t("workflow.n_nodes", { n: item.names.length }) : first),
      several ? countsText(item.counts) : `${t(`status.${this.#nodes[first].status}`)} · ${this.#nodes[first].type}`,
    );
    const frame = this.stage.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    this.#tip.style.setProperty("left", `${x + 14 + this.#tip.offsetWidth > frame.width ? x - this.#tip.offsetWidth - 14 : x + 14}px`);
    this.#tip.style.setProperty("top", `${Math.min(y + 14, frame.height - this.#tip.offsetHeight)}px`);
  }

  #key(event) {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const item = this.#items[this.#chosenPlace()];
    if (step && event.shiftKey) this.#move(step[0] * STEP, step[1] * STEP);
    else if (step) {
      const place = this.#beside(...step);
      if (place >= 0) {
        this.#choose(place);
        this.#reveal(place);
      }
    } else if (event.key === "+" || event.key === "=") this.#zoom(1.4);
    else if (event.key === "-") this.#zoom(1 / 1.4);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter" && item) this.#onopen(item);
    else if (event.key === "Escape" && item) this.#choose(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
