// The form for a new definition: what runs, and when. It shows the next runs while the rule is being written.

import { onceKey, patch, post, segment } from "./api.js";
import { h, setText } from "./dom.js";
import { fullTime } from "./format.js";
import { form, taskFields } from "./new-task.js";
import { t } from "./text.js";
import { complain, debounce, note } from "./ui.js";

const UNITS = { seconds: 1, minutes: 60, hours: 3600, days: 86400 };
/** How many coming runs are shown. */
const SHOWN = 3;

/** Open the form; `me` is the session. With `item`, it edits this definition; resolves with true if it was changed. */
export async function newDefinition(me, item = null) {
  let what = null;
  try {
    if (!item) what = await taskFields();
  } catch (error) {
    complain(error);
    return false;
  }
  const field = (attributes) => h("input", { class: "field", autocomplete: "off", spellcheck: "false", ...attributes });
  const name = field({ maxlength: 200, placeholder: t("definitions.form.example"), required: true, pattern: ".*\\S.*", value: item?.name ?? "" });
  const user = field({ value: me.user_id ?? "local", maxlength: 256, required: true });
  // Secrets are shown as ***; what is sent back so stays as it is.
  const before = item?.task ? JSON.stringify(item.task.payload ?? {}, null, 2) : null;
  const payload = before === null ? null : h("textarea", { class: "field", rows: 6, spellcheck: "false", autocapitalize: "off", value: before });
  const kind = h(
    "select",
    { class: "field" },
    [item ? "keep" : null, "every", "cron", "once"].filter(Boolean).map((value) => h("option", { value }, t(`definitions.kind.${value}`))),
  );
  const count = field({ type: "number", min: 1, value: 1, "aria-label": t("definitions.form.number") });
  const unit = h(
    "select",
    { class: "field", "aria-label": t("definitions.form.unit") },
    Object.keys(UNITS).map((value) => h("option", { value }, t(`definitions.unit.${value}`))),
  );
  unit.value = "hours";
  const rule = field({ value: "0 8 * * 1-5" });
  const zone = field({ value: Intl.DateTimeFormat().resolvedOptions().timeZone });
  const at = field({ type: "datetime-local", step: 1 });
  const parts = {
    every: h("div", { class: "pair" }, count, unit),
    cron: h("div", { class: "pair" }, h("label", { class: "label" }, t("definitions.form.cron"), rule), h("label", { class: "label" }, t("definitions.form.zone"), zone)),
    once: h("label", { class: "label" }, t("definitions.form.time"), at),
  };
  const next = h("p", { class: "small muted", "aria-live": "polite" });

  function trigger() {
    if (kind.value === "every") return { trigger_type: "LOOP", trigger_args: { interval: Number(count.value) * UNITS[unit.value] } };
    if (kind.value === "cron") return { trigger_type: "LOOP", trigger_args: { cron: rule.value.trim(), timezone: zone.value.trim() } };
    if (!at.value) throw new Error(t("definitions.form.no_time"));
    return { trigger_type: "SCHEDULED", trigger_args: { run_at: new Date(at.value).toISOString() } };
  }
  /** The payload, if it was changed. */
  function task() {
    if (!payload || payload.value === before) return {};
    try {
      payload.removeAttribute("aria-invalid");
      return { task: { payload: JSON.parse(payload.value) } };
    } catch (error) {
      payload.setAttribute("aria-invalid", "true");
      throw new Error(t("newtask.no_json", { why: error.message }));
    }
  }
  let asked = 0;
  async function look() {
    const mine = ++asked;
    let text = "";
    try {
      if (kind.value === "keep") throw new Error("");
      const { items } = await post("definitions/preview", trigger(), { query: { count: SHOWN } });
      text = items.length ? t("definitions.form.next", { times: items.map((one) => fullTime(one.due_at)).join("; ") }) : t("definitions.form.never");
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

  let changed = false;
  const key = onceKey();
  await form({
    title: item ? t("definitions.form.edit", { name: item.name ?? item.task_def_id }) : t("definitions.new"),
    action: item ? t("definitions.form.save") : t("definitions.form.create"),
    fields: [
      item
        ? h("label", { class: "label" }, t("definitions.form.name"), name)
        : h("div", { class: "pair" }, h("label", { class: "label" }, t("definitions.form.name"), name), h("label", { class: "label admin-only" }, t("definitions.fact.user"), user)),
      what?.element,
      payload && h("label", { class: "label" }, t("newtask.payload_json"), payload),
      h("label", { class: "label" }, t("definitions.form.when"), kind),
      ...Object.values(parts),
      next,
    ],
    async send() {
      if (item) {
        const changes = { name: name.value.trim(), ...(kind.value === "keep" ? {} : trigger()), ...task() };
        // A definition that somebody else has changed meanwhile stays as it is.
        await patch(`definitions/${segment(item.task_def_id)}`, changes, { query: { rev: item.rev } });
        note(t("definitions.edited"));
        changed = true;
        return null;
      }
      const body = { name: name.value.trim(), user_id: user.value.trim(), task: what.read(), ...trigger() };
      const made = await post("definitions", body, { headers: { "Idempotency-Key": key } });
      return `#/definitions/${segment(made.task_def_id)}`;
    },
  });
  return changed;
}
