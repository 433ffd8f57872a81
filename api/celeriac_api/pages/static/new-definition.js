// The form for a new definition: what runs, and when. It shows the next runs while the rule is being written.

import { onceKey, post, segment } from "./api.js";
import { h, setText } from "./dom.js";
import { fullTime } from "./format.js";
import { form, taskFields } from "./new-task.js";
import { complain, debounce } from "./ui.js";

const UNITS = { seconds: 1, minutes: 60, hours: 3600, days: 86400 };
/** How many coming runs are shown. */
const SHOWN = 3;

/** Open the form; `me` is the session. */
export async function newDefinition(me) {
  let what;
  try {
    what = await taskFields();
  } catch (error) {
    complain(error);
    return;
  }
  const field = (attributes) => h("input", { class: "field", autocomplete: "off", spellcheck: "false", ...attributes });
  const name = field({ maxlength: 200, placeholder: "nightly report", required: true });
  const user = field({ value: me.user_id ?? "local", maxlength: 256, required: true });
  const kind = h(
    "select",
    { class: "field" },
    [
      ["every", "Every …"],
      ["cron", "By a cron rule"],
      ["once", "Once"],
    ].map(([value, text]) => h("option", { value }, text)),
  );
  const count = field({ type: "number", min: 1, value: 1, "aria-label": "How many" });
  const unit = h(
    "select",
    { class: "field", "aria-label": "Unit" },
    Object.keys(UNITS).map((one) => h("option", {}, one)),
  );
  unit.value = "hours";
  const rule = field({ value: "0 8 * * 1-5" });
  const zone = field({ value: Intl.DateTimeFormat().resolvedOptions().timeZone });
  const at = field({ type: "datetime-local", step: 1 });
  const parts = {
    every: h("div", { class: "pair" }, count, unit),
    cron: h("div", { class: "pair" }, h("label", { class: "label" }, "Cron rule", rule), h("label", { class: "label" }, "Time zone", zone)),
    once: h("label", { class: "label" }, "Time, by the clock of this browser", at),
  };
  const next = h("p", { class: "small muted", "aria-live": "polite" });

  function trigger() {
    if (kind.value === "every") return { trigger_type: "LOOP", trigger_args: { interval: Number(count.value) * UNITS[unit.value] } };
    if (kind.value === "cron") return { trigger_type: "LOOP", trigger_args: { cron: rule.value.trim(), timezone: zone.value.trim() } };
    if (!at.value) throw new Error("Choose the time");
    return { trigger_type: "SCHEDULED", trigger_args: { run_at: new Date(at.value).toISOString() } };
  }
  let asked = 0;
  async function look() {
    const mine = ++asked;
    let text;
    try {
      const { items } = await post("definitions/preview", trigger(), { query: { count: SHOWN } });
      text = items.length ? `Next: ${items.map((one) => fullTime(one.due_at)).join("; ")}` : "This would never run.";
    } catch (error) {
      text = error.message;
    }
    if (mine === asked) setText(next, text);
  }
  const lookSoon = debounce(look, 250);
  const choose = () => {
    for (const [value, part] of Object.entries(parts)) part.hidden = value !== kind.value;
    look();
  };
  kind.addEventListener("change", choose);
  for (const one of [count, unit, rule, zone, at]) one.addEventListener("input", lookSoon);
  choose();

  const key = onceKey();
  await form({
    title: "New definition",
    action: "Create",
    fields: [
      h("div", { class: "pair" }, h("label", { class: "label" }, "Name", name), h("label", { class: "label admin-only" }, "User", user)),
      what.element,
      h("label", { class: "label" }, "When", kind),
      ...Object.values(parts),
      next,
    ],
    async send() {
      const body = { name: name.value.trim(), user_id: user.value.trim(), task: what.read(), ...trigger() };
      const made = await post("definitions", body, { headers: { "Idempotency-Key": key } });
      return `#/definitions/${segment(made.task_def_id)}`;
    },
  });
}
