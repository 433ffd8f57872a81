// Writes numbers, times and JSON for people.

import { h } from "./dom.js";
import { language, t, whole } from "./text.js";
import { times } from "./times.js";

let short = null;
const compact = () => (short ??= new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 }));

export const number = (value) => (value === null || value === undefined ? "–" : Math.abs(value) < 100000 ? whole.format(value) : compact().format(value));

/** Return the share of tasks that failed among those that completed or failed; null if there are none. */
export const failureRate = ({ completed, failed }) => (completed + failed ? failed / (completed + failed) : null);
export const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(share && share < 0.1 ? 1 : 0)} %`);

// --- durations

const MINUTE = 60e3;
const HOUR = 3600e3;
const DAY = 86400e3;
const unit = (n, name) => t(`time.unit.${name}`, { n: String(n) });

/** A duration in two units at most: the small one is rounded down, because what has not passed yet is not said. */
function twoUnits(ms) {
  const two = (size, large, inner, small) => {
    const rest = Math.floor((ms % size) / inner);
    return rest ? `${unit(Math.floor(ms / size), large)} ${unit(rest, small)}` : unit(Math.floor(ms / size), large);
  };
  if (ms < HOUR) return two(MINUTE, "m", 1000, "s");
  return ms < DAY ? two(HOUR, "h", MINUTE, "m") : two(DAY, "d", HOUR, "h");
}

/** Milliseconds as "430 ms", "2.1 s", "3 m 20 s", "1 h 58 m", "2 d 3 h". */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 1) return unit(0, "ms");
  if (Math.round(ms) < 1000) return unit(Math.round(ms), "ms");
  const s = ms / 1000;
  if (s < 59.95) return unit(s < 9.95 ? s.toFixed(1) : Math.round(s), "s");
  return twoUnits(Math.max(ms, MINUTE));
}

/** Durations at which an axis may end (ms). Half of each is easy to read too. */
export const DURATIONS = [
  2, 4, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 4e3, 10e3, 20e3, 40e3, 60e3, 120e3, 240e3, 600e3, 1200e3, 2400e3, 3600e3, 7200e3, 14400e3, 43200e3, 86400e3,
];

// --- moments. How they are written follows the switch of `times.js`: relative, in the browser's zone, or in UTC.

// Dates as the reader's region writes them, in the language of the page.
const locale = navigator.languages.find((tag) => tag.split("-")[0] === language) ?? language;
const SECONDS = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const SHAPES = {
  clock: SECONDS,
  minute: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  day: { month: "short", day: "numeric" },
  weekday: { weekday: "short", month: "short", day: "numeric" },
  dayMinute: { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  dayYear: { year: "numeric", month: "short", day: "numeric" },
  whole: { year: "numeric", month: "short", day: "numeric", ...SECONDS, timeZoneName: "short" },
  exact: { year: "numeric", month: "short", day: "numeric", ...SECONDS, fractionalSecondDigits: 3, timeZoneName: "short" },
};
const formats = new Map();

function written(moment, shape) {
  const date = new Date(moment);
  if (Number.isNaN(date.getTime())) return "–";
  const timeZone = times.zone;
  const key = `${shape} ${timeZone}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale, { ...SHAPES[shape], timeZone }));
  return formats.get(key).format(date);
}

/** The moment to the millisecond, with its zone: for `title`, which is shown on hover. */
export const exactTime = (moment) => written(moment, "exact");
/** The moment to the second, with its zone: for texts and facts. */
export const fullTime = (moment) => written(moment, "whole");
/** "03:11:42", for lines whose day is known. */
export const clockTime = (moment) => written(moment, "clock");
/** "03:11", for calendars and plans. */
export const minuteTime = (moment) => written(moment, "minute");
/** "03:11" in a zone, "" if the browser does not know the zone. */
export function zoneTime(moment, timeZone) {
  try {
    return new Intl.DateTimeFormat(locale, { ...SHAPES.minute, timeZone }).format(new Date(moment));
  } catch {
    return "";
  }
}
/** "Sun, Nov 29", for the heading of a day's list. */
export const dayName = (moment) => written(moment, "weekday");

/** "03:11:42" today, "Nov 29, 03:11" this year, "Nov 29, 2026" before. */
function shortTime(moment, now) {
  const [then, today] = [written(moment, "dayYear"), written(now, "dayYear")];
  if (then === today) return clockTime(moment);
  return Math.abs(now - Date.parse(moment)) < 300 * DAY ? written(moment, "dayMinute") : then;
}

/** How long ago: "now", "12 s", "5 m", "1 h 58 m"; "in 5 m 12 s" for the future. Null for no moment. */
function age(moment, now) {
  const ms = now - Date.parse(moment);
  if (ms < -1000) return t("time.in", { age: -ms < MINUTE ? unit(Math.floor(-ms / 1000), "s") : twoUnits(-ms) });
  if (ms < 1000) return null;
  if (ms < MINUTE) return unit(Math.floor(ms / 1000), "s");
  return ms < HOUR ? unit(Math.floor(ms / MINUTE), "m") : twoUnits(ms);
}

/** A moment for the narrow column of a list: "5 m", "in 1 h 58 m", or its time, as the reader chose. */
export function ago(moment, now = Date.now()) {
  if (!moment) return "–";
  return times.relative ? (age(moment, now) ?? t("time.now")) : shortTime(moment, now);
}

/** A moment for a sentence: "5 m ago", "in 1 h 58 m", "now", or its time, as the reader chose. */
export function when(moment, now = Date.now()) {
  if (!moment) return "–";
  if (!times.relative) return shortTime(moment, now);
  const text = age(moment, now);
  if (text === null) return t("time.now");
  return Date.parse(moment) > now ? text : t("time.ago", { age: text });
}

/** A moment with room: "03:11:42 (5 m ago)", or its whole time, as the reader chose. */
export const longTime = (moment) => (times.relative ? t("time.both", { time: clockTime(moment), when: when(moment) }) : fullTime(moment));

/** A label for the axis of a chart; `spanMs` is the time span of the chart. */
export const axisTime = (moment, spanMs) => written(moment, spanMs > 2 * DAY ? "day" : "minute");

/** A moment as an element that tells the exact time on hover; `write` is one of the functions above. */
export function timeElement(moment, write = clockTime) {
  return moment ? h("time", { datetime: moment, title: exactTime(moment) }, write(moment)) : "–";
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
