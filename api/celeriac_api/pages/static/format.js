// Writes numbers, times and JSON for people.

import { h } from "./dom.js";

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

export const number = (value) => (value === null || value === undefined ? "–" : Math.abs(value) < 100000 ? whole.format(value) : compact.format(value));

/** Milliseconds as "430 ms", "2.1 s", "3 m 20 s". */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 1) return "0 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 59.95) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  const two = (large, small, size, names) => `${large} ${names[0]}${Math.floor(small / size) ? ` ${Math.floor(small / size)} ${names[1]}` : ""}`;
  if (s < 3600) return two(Math.floor(s / 60), s % 60, 1, "ms");
  if (s < 86400) return two(Math.floor(s / 3600), s % 3600, 60, "hm");
  return two(Math.floor(s / 86400), s % 86400, 3600, "dh");
}

/** Durations at which an axis may end (ms). Half of each is easy to read too. */
export const DURATIONS = [
  2, 4, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 4e3, 10e3, 20e3, 40e3, 60e3, 120e3, 240e3, 600e3, 1200e3, 2400e3, 3600e3, 7200e3, 14400e3, 43200e3, 86400e3,
];

/** How long ago, in short: "now", "12 s", "5 m", "3 h", "2 d"; "in 5 m" for the future. */
export function ago(moment, now = Date.now()) {
  if (!moment) return "–";
  const s = (now - Date.parse(moment)) / 1000;
  const short = (v) =>
    v < 60 ? `${Math.floor(v)} s` : v < 3600 ? `${Math.floor(v / 60)} m` : v < 86400 ? `${Math.floor(v / 3600)} h` : `${Math.floor(v / 86400)} d`;
  if (s < -1) return `in ${short(-s)}`;
  return s < 1 ? "now" : short(s);
}

export const clockTime = (moment) => clock.format(new Date(moment));
export const fullTime = (moment) => full.format(new Date(moment));

/** A label for the axis of a chart; `spanMs` is the time span of the chart. */
export function axisTime(moment, spanMs) {
  const date = new Date(moment);
  return spanMs > 2 * 86400000 ? day.format(date) : minute.format(date);
}

export function timeElement(moment) {
  return moment ? h("time", { datetime: moment, title: fullTime(moment) }, `${clockTime(moment)}`) : "–";
}

/** Return one line of JSON as a preview. */
export function preview(value, most = 160) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** Return a <pre> with coloured JSON. Above `most` characters it is plain text, because colours cost elements. */
export function jsonBlock(value, most = 40000) {
  const text = typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "null");
  const block = h("pre", { class: "code", tabindex: 0 });
  if (typeof value === "string" || text.length > most) {
    block.textContent = text;
    return block;
  }
  const token = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  let last = 0;
  for (const match of text.matchAll(token)) {
    block.append(text.slice(last, match.index));
    const kind = match[2] ? "key" : match[1] ? "text" : "word";
    block.append(h("span", { class: kind }, match[1] ?? match[0]), match[2] ?? "");
    last = match.index + match[0].length;
  }
  block.append(text.slice(last));
  return block;
}

export const shortId = (id) => (id.length > 13 ? id.slice(0, 8) : id);

/** Return how long the attempt ran or has been running (ms), or null if it has not begun. */
export function ranFor(task, now = Date.now()) {
  if (!task.started_at) return null;
  const end = task.finished_at ? Date.parse(task.finished_at) : task.status === "processing" ? now : Date.parse(task.updated_at);
  return Math.max(0, end - Date.parse(task.started_at));
}
