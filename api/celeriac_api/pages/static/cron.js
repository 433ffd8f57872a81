// Cron rules in words, for the usual ones; others are shown as they are written.

import { language, t } from "./text.js";

const weekday = new Intl.DateTimeFormat(language, { weekday: "long", timeZone: "UTC" });
const DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const NAMED = { "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *" };

/** The day of the week of a field, 0 is Sunday; null if the field is anything else. */
function dayOf(field) {
  const number = /^[0-7]$/.test(field) ? Number(field) % 7 : DAYS.indexOf(field.toLowerCase());
  return number < 0 ? null : number;
}

/** Return a rule in words, "08:00 each day"; null if it is not a usual one. */
export function cronWords(rule) {
  const fields = (NAMED[rule.trim()] ?? rule).trim().split(/\s+/);
  if (fields.length !== 5) return null;
  const [minute, hour, day, month, week] = fields;
  if (month !== "*") return null;
  const each = minute.match(/^\*\/(\d+)$/);
  if (each && 60 % Number(each[1]) === 0 && hour === "*" && day === "*" && week === "*") return t("definitions.cron.minutes", { n: Number(each[1]) });
  if (!/^\d+$/.test(minute)) return null;
  if (hour === "*" && day === "*" && week === "*") return t("definitions.cron.hourly", { minute: minute.padStart(2, "0") });
  if (!/^\d+$/.test(hour)) return null;
  const time = `${hour.padStart(2, "0")}:${minute.padStart(2, "0")}`;
  if (day === "*" && week === "*") return t("definitions.cron.daily", { time });
  if (day === "*" && ["1-5", "mon-fri"].includes(week.toLowerCase())) return t("definitions.cron.workdays", { time });
  // 4 January 1970 was a Sunday.
  if (day === "*" && dayOf(week) !== null) return t("definitions.cron.weekly", { time, day: weekday.format(new Date((3 + dayOf(week)) * 86400e3)) });
  if (/^\d+$/.test(day) && week === "*") return t("definitions.cron.monthly", { time, day });
  return null;
}
