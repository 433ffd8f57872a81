// Where the time of a task went: for each attempt one bar of waiting, running, backing off and being suspended.

import { h, setText } from "./dom.js";
import { duration, exactTime, number } from "./format.js";
import { levelName } from "./tasklog.js";
import { t } from "./text.js";

/** How many attempts, parts of one attempt, marks and events are drawn: the page stays small whatever a task does. */
const ATTEMPTS = 10;
const STAGES = 12;
const PARTS = 8;
const MARKS = 24;
const SEGMENTS = 12;
const EVENTS = 60;
/** A stage narrower than this share of the bar has no name on it (percent). */
const NAMED = 9;
const FINAL = ["completed", "failed", "cancelled"];
/** What a status between two events means for the time after it. */
const KINDS = { pending: "waited", scheduled: "scheduled", waiting: "blocked", processing: "ran", retrying: "backoff" };

/** Return the attempts of a task by its events: `[{attempt, segments: [{kind, from, to, …}], ended}]`, times in ms; `to` is null for what goes on. */
export function attemptsOf(events) {
  const rows = [];
  let last = null;
  let row = null;
  for (const event of events) {
    const at = Date.parse(event.at);
    if (event.kind === "progress" && last?.kind === "ran") {
      const stage = event.stage ?? "";
      const open = last.stages.at(-1);
      if (stage && stage !== open?.name) {
        if (open) open.to = at;
        last.stages.push({ name: stage, from: at, to: null });
      }
    }
    if (event.kind !== "status") continue;
    if (last) last.to = at;
    const stage = last?.stages?.at(-1);
    if (stage && stage.to === null) stage.to = at;
    if (FINAL.includes(event.status)) {
      if (row) row.ended = event.status;
      last = null;
      continue;
    }
    const ran = row?.segments.some((one) => one.kind === "ran");
    const suspended = event.status === "waiting" && last?.kind === "ran";
    const goesOn = event.status === "retrying" || suspended || last?.kind === "suspended" || last?.resumes;
    if (!row || row.ended || (ran && !goesOn && event.status !== "processing") || (event.status === "processing" && ran && !last?.resumes && last?.kind !== "suspended")) {
      row = { attempt: 0, segments: [], ended: null };
      rows.push(row);
    }
    const resumes = event.status === "pending" && last?.kind === "suspended";
    last = { kind: suspended ? "suspended" : (KINDS[event.status] ?? "waited"), from: at, to: null, worker: event.worker, error: event.error, resumes, stages: [] };
    if (last.kind === "ran") row.attempt = event.attempt;
    if (event.status === "retrying") row.ended = "retrying";
    row.segments.push(last);
  }
  rows.forEach((one, i) => (one.attempt ||= (rows[i - 1]?.attempt ?? 0) + 1));
  return rows;
}

const length = (segment, now) => Math.max(0, (segment.to ?? now) - segment.from);
const WORDS = ["scheduled", "blocked", "waited", "ran", "suspended", "backoff"];

/** Return "waited 19.2 s · ran 2.8 s" for segments. */
export function spent(segments, now) {
  const sums = WORDS.map((kind) => [kind, segments.filter((one) => one.kind === kind)]).filter(([, some]) => some.length);
  return sums.map(([kind, some]) => t(`waterfall.${kind}`, { time: duration(some.reduce((sum, one) => sum + length(one, now), 0)) })).join(" · ");
}

const when = (ms) => exactTime(new Date(ms).toISOString());
const between = (from, to) => (to === null ? t("waterfall.since", { from: when(from) }) : t("waterfall.between", { from: when(from), to: when(to) }));

/** A card with the bars. `lineLink(id)` is the address of a line of the log. */
export class Waterfall {
  #events = [];
  #steps = [];
  #children = [];
  #marks = [];
  #key = "";
  #lineLink;
  #said = h("span", { class: "small muted wf-total" });
  #rows = h("ol", { class: "waterfall", "aria-label": t("waterfall.label") });
  #axis = h("div", { class: "wf-axis", "aria-hidden": "true" });
  #table = h("tbody", {});
  #details;

  constructor(lineLink) {
    this.#lineLink = lineLink;
    this.#details = h(
      "details",
      { class: "wf-events" },
      h("summary", {}, t("waterfall.as_table")),
      h(
        "div",
        { class: "scroll-x", tabindex: 0, role: "region", "aria-label": t("waterfall.as_table") },
        h(
          "table",
          { class: "plain events-table" },
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("waterfall.what")), h("th", { scope: "col" }, t("waterfall.at")), h("th", { scope: "col", class: "number" }, t("waterfall.took")))),
          this.#table,
        ),
      ),
    );
    this.#details.addEventListener("toggle", () => this.#drawTable());
    this.card = h("section", { class: "card", hidden: true }, h("header", {}, h("h2", {}, t("waterfall.title")), this.#said), h("div", { class: "body" }, this.#axis, this.#rows, this.#details));
  }

  /** Show other events, steps, children or marks (lines of the log); what is left out stays. */
  set({ events = this.#events, steps = this.#steps, children = this.#children, marks = this.#marks }) {
    this.#events = events;
    this.#steps = steps;
    this.#children = children;
    this.#marks = marks;
    this.draw();
    this.#drawTable();
  }

  /** Draw as it is now. What goes on grows. */
  draw(now = Date.now()) {
    const all = attemptsOf(this.#events);
    this.card.hidden = !all.length;
    if (!all.length) return;
    const begin = all[0].segments[0].from;
    const segments = all.flatMap((row) => row.segments);
    const open = segments.at(-1).to === null;
    const end = Math.max(begin + 1, open ? now : Math.max(...segments.map((one) => one.to)));
    const rows = all.slice(-ATTEMPTS);
    const [first, last] = [rows[0].segments[0].from, end];
    const span = Math.max(1, last - first);
    const place = (at) => `${(100 * (at - first)) / span}%`;
    const width = (from, to) => `${Math.max(0, (100 * ((to ?? now) - from)) / span)}%`;
    // One attempt says it itself.
    setText(this.#said, all.length > 1 ? spent(segments, now) : "");
    setText(this.#axis, "");
    this.#axis.append(...[0, 0.25, 0.5, 0.75, 1].map((share) => h("span", {}, share ? `+${duration(span * share)}` : "0")));
    const drawn = rows.flatMap((row) => [this.#row(row, now, place, width, rows), ...this.#partsOf(row, now, place, width)]);
    const left = all.length - rows.length;
    const key = drawn.map((one) => one.key).join();
    if (key === this.#key) {
      // The same bars, of another length: a reader's pointer stays on them.
      drawn.forEach((one, i) => one.into(this.#rows.children[i + (left ? 1 : 0)]));
      return;
    }
    this.#key = key;
    this.#rows.replaceChildren(...(left ? [h("li", { class: "small muted" }, t("waterfall.earlier", { n: left }))] : []), ...drawn.map((one) => one.make()));
  }

  /** A row is made once, and then only grows. */
  #row(row, now, place, width) {
    const segments = row.segments.slice(-SEGMENTS);
    const shown = segments.map((one) => ({
      one,
      kind: one.kind,
      style: { left: place(one.from), width: width(one.from, one.to) },
      title: `${t(`waterfall.${one.kind}`, { time: duration(length(one, now)) })}\n${between(one.from, one.to)}${one.worker ? `\n${one.worker}` : ""}`,
    }));
    const stages = segments
      .flatMap((one) => one.stages)
      .slice(-STAGES)
      .map((stage) => ({
        name: stage.name,
        style: { left: place(stage.from), width: width(stage.from, stage.to) },
        title: `${stage.name}: ${duration((stage.to ?? now) - stage.from)}\n${between(stage.from, stage.to)}`,
      }));
    const marks = this.#marks.filter((line) => line.attempt === row.attempt).slice(-MARKS);
    const outcome = row.ended ?? (segments.at(-1).to === null && segments.at(-1).kind === "ran" ? "processing" : "");
    const said = spent(row.segments, now);
    const key = [row.attempt, outcome, segments.map((one) => one.kind), stages.map((one) => one.name), marks.map((one) => one.id)].join("|");
    const name = (stage) => (parseFloat(stage.style.width) >= NAMED ? stage.name : "");
    return {
      key,
      make: () =>
        h(
          "li",
          { class: "wf-row", dataset: { status: outcome } },
          h("span", { class: "wf-name" }, t("waterfall.attempt", { n: row.attempt })),
          h(
            "div",
            { class: "wf-track" },
            shown.map(({ kind, style, title }) => h("i", { class: "wf-bar", dataset: { kind }, style, title, role: "img", "aria-label": title })),
            stages.map((stage) => h("i", { class: "wf-stage", style: stage.style, title: stage.title }, name(stage))),
            marks.map((line) =>
              h("a", {
                class: "wf-mark",
                dataset: { level: line.level },
                href: this.#lineLink(line.id),
                style: { left: place(Date.parse(line.at)) },
                title: `${levelName(line)}: ${line.message.slice(0, 200)}\n${when(Date.parse(line.at))}`,
                "aria-label": t("waterfall.mark", { level: levelName(line), message: line.message.slice(0, 80) }),
              }),
            ),
          ),
          h("span", { class: "wf-said" }, said),
        ),
      into: (element) => {
        const track = element.children[1];
        [...shown, ...stages].forEach(({ style, title }, i) => {
          const bar = track.children[i];
          for (const [property, value] of Object.entries(style)) bar.style.setProperty(property, value);
          bar.title = title;
          if (bar.role === "img") bar.setAttribute("aria-label", title);
          else setText(bar, name(stages[i - shown.length]));
        });
        marks.forEach((line, i) => track.children[shown.length + stages.length + i].style.setProperty("left", place(Date.parse(line.at))));
        setText(element.children[2], said);
      },
    };
  }

  /** Return the rows of the steps and children that began in an attempt. */
  #partsOf(row, now, place, width) {
    const from = row.segments[0].from;
    const to = row.segments.at(-1).to ?? Infinity;
    const inside = [
      ...this.#steps.map((step) => ({ what: "step", name: step.name, from: Date.parse(step.started_at), to: Date.parse(step.finished_at), status: "completed" })),
      ...this.#children
        .filter((child) => child.started_at)
        .map((child) => ({ what: "child", name: child.name, href: child.href, from: Date.parse(child.started_at), to: child.finished_at ? Date.parse(child.finished_at) : null, status: child.status })),
    ]
      .filter((part) => part.from >= from && part.from < to)
      .sort((a, b) => a.from - b.from);
    const rows = inside.slice(0, PARTS).map((part) => {
      const style = { left: place(part.from), width: width(part.from, part.to) };
      const took = duration((part.to ?? now) - part.from);
      const title = `${t(`waterfall.${part.what}`, { name: part.name })}: ${took}\n${between(part.from, part.to)}`;
      return {
        key: [part.what, part.name, part.status].join("|"),
        make: () =>
          h(
            "li",
            { class: "wf-row wf-part", dataset: { status: part.status } },
            h("span", { class: "wf-name", title: part.name }, part.href ? h("a", { href: part.href }, part.name) : part.name),
            h("div", { class: "wf-track" }, h("i", { class: "wf-bar", dataset: { kind: part.what }, style, title, role: "img", "aria-label": title })),
            h("span", { class: "wf-said" }, took),
          ),
        into: (element) => {
          const bar = element.children[1].firstElementChild;
          for (const [property, value] of Object.entries(style)) bar.style.setProperty(property, value);
          bar.title = title;
          setText(element.children[2], took);
        },
      };
    });
    const left = inside.length - rows.length;
    if (!left) return rows;
    return [...rows, { key: `left ${left}`, make: () => h("li", { class: "small muted wf-more" }, t("waterfall.more_parts", { n: left })), into: () => {} }];
  }

  /** The events as a table, the newest first. It is empty until somebody opens it. */
  #drawTable() {
    if (!this.#details.open) return;
    const shown = this.#events.slice(-EVENTS);
    const left = this.#events.length - shown.length;
    const following = (i) => this.#events.slice(i + 1).find((one) => one.kind === "status" || this.#events[i].kind === one.kind);
    const rows = shown.map((event, i) => {
      const next = event.kind === "deduplicated" || FINAL.includes(event.status) ? null : following(i + left);
      return h(
        "tr",
        { dataset: { kind: event.kind, status: event.status ?? "" } },
        h("td", {}, eventText(event)),
        h("td", { class: "nowrap" }, h("time", { datetime: event.at }, exactTime(event.at))),
        h("td", { class: "number nowrap" }, next ? duration(Date.parse(next.at) - Date.parse(event.at)) : ""),
      );
    });
    this.#table.replaceChildren(...rows.reverse(), ...(left ? [h("tr", {}, h("td", { colspan: 3, class: "muted" }, t("waterfall.earlier_events", { n: left })))] : []));
  }
}

/** Return what an event says, with links. */
function eventText(event) {
  if (event.kind === "progress") return [`${number(Math.round(event.percentage))} %`, event.stage, event.message].filter(Boolean).join(" · ");
  if (event.kind === "deduplicated") {
    const text = t(`event.conflict.${event.on_conflict === "latest" && event.next ? "after" : ["return", "reject", "replace", "latest"].includes(event.on_conflict) ? event.on_conflict : "return"}`);
    return event.next ? [text, " ", h("a", { class: "mono", href: `#/tasks/${encodeURIComponent(event.next)}` }, event.next.slice(0, 8))] : text;
  }
  const text = event.status === "processing" && event.attempt > 1 ? t("event.again", { n: event.attempt }) : t(`event.${event.status}`);
  const more = event.error ? event.error.message.slice(0, 300) : event.replaced_by ? t("event.replaced_by", { name: event.replaced_by }) : event.worker;
  return more ? [h("b", {}, text), " ", h("span", { class: "muted" }, more)] : h("b", {}, text);
}
