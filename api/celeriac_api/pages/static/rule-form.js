// The form for a rule, with the command that does the same.

import { get, put, segment } from "./api.js";
import { h, setText } from "./dom.js";
import { form } from "./new-task.js";
import { t } from "./text.js";
import { command, note, shellWord } from "./ui.js";

/** What a rule may count separately. */
const COUNTS = { all: t("limits.count_all"), key: t("limits.count_key"), user: t("limits.count_user") };
/** The name of a rule that is the limits of a group begins with this. */
const OF_GROUP = "group:";

/** Return the command that sets a rule. */
export function commandOf(rule) {
  const words = ["celeriac", "limits", "set", shellWord(rule.name || "NAME")];
  for (const [option, value] of [
    ["--group", rule.group],
    ["--type", rule.type],
    ["--by", rule.by === "all" ? null : rule.by],
    ["--max-running", rule.max_running],
    ["--rate", rule.rate],
    ["--fair", rule.fair],
    ["--ordered", rule.ordered],
    ["--max-waiting", rule.max_waiting],
    ["--note", rule.note],
  ]) {
    if (value) words.push(option, ...(value === true ? [] : [shellWord(String(value))]));
  }
  return words.join(" ");
}

/** Open the form for a rule, or for a new one (null); resolves with the rule if it was set. */
export async function ruleForm(rule) {
  const field = (attributes) => h("input", { class: "field", autocomplete: "off", spellcheck: "false", ...attributes });
  const label = (text, input) => h("label", { class: "label" }, text, input);
  const check = (text, checked) => {
    const input = h("input", { type: "checkbox", checked });
    return [input, h("label", { class: "check" }, input, text)];
  };
  const choices = (id, names) =>
    h(
      "datalist",
      { id },
      names.map((name) => h("option", { value: name })),
    );
  const [groups, types] = await Promise.all([
    get("groups").then(
      (answer) => answer.groups.map((one) => one.name),
      () => [],
    ),
    get("task-types").then(
      (answer) => answer.task_types.map((one) => one.name),
      () => [],
    ),
  ]);
  const inputs = {
    name: field({ maxlength: 128, placeholder: "per-customer", required: true, value: rule?.name ?? "", disabled: rule !== null }),
    group: field({ maxlength: 128, list: "rule-groups", placeholder: t("limits.any_group"), value: rule?.group ?? "" }),
    type: field({ maxlength: 200, list: "rule-types", placeholder: t("limits.any_type"), value: rule?.type ?? "" }),
    by: h(
      "select",
      { class: "field" },
      Object.entries(COUNTS).map(([value, text]) => h("option", { value }, text)),
    ),
    max_running: field({ type: "number", min: 1, max: 1000000, placeholder: t("limits.any_number"), value: rule?.max_running ?? "" }),
    rate: field({ maxlength: 12, placeholder: t("limits.rate_example"), value: rule?.rate ?? "" }),
    max_waiting: field({ type: "number", min: 1, max: 10000000, placeholder: t("limits.any_number"), value: rule?.max_waiting ?? "" }),
    note: field({ maxlength: 2000, value: rule?.note ?? "" }),
  };
  inputs.by.value = rule?.by ?? "all";
  const [fair, fairLine] = check("", rule?.fair ?? false);
  const [ordered, orderedLine] = check("", rule?.ordered ?? false);
  Object.assign(inputs, { fair, ordered });
  const fairText = h("span", {});
  const orderedText = h("span", {});
  fairLine.append(fairText);
  orderedLine.append(orderedText);
  const mostText = h("span", {});
  const each = h("div", { class: "fields" }, fairLine, orderedLine, h("label", { class: "label" }, mostText, inputs.max_waiting));
  const line = command();
  const ofGroup = rule !== null && rule.name === OF_GROUP + rule.group;
  const scope = h(
    "div",
    { class: "fields", hidden: ofGroup },
    h("div", { class: "pair" }, label(t("limits.fact_group"), inputs.group), label(t("limits.fact_type"), inputs.type)),
    label(t("limits.count"), inputs.by),
  );

  function read() {
    const text = (name) => inputs[name].value.trim() || null;
    const count = (name) => (inputs[name].value ? Number(inputs[name].value) : null);
    const alone = inputs.by.value !== "all";
    return {
      group: text("group"),
      type: text("type"),
      by: inputs.by.value,
      max_running: count("max_running"),
      rate: text("rate"),
      fair: alone && fair.checked,
      ordered: alone && ordered.checked,
      max_waiting: alone ? count("max_waiting") : null,
      note: text("note"),
    };
  }

  function draw() {
    const one = inputs.by.value === "user" ? "user" : "key";
    each.hidden = inputs.by.value === "all";
    setText(fairText, t(`limits.form_fair_${one}`));
    setText(orderedText, t(`limits.form_ordered_${one}`));
    setText(mostText, t(`limits.form_waiting_${one}`));
    line.say(commandOf({ name: inputs.name.value.trim(), ...read() }));
  }
  for (const input of Object.values(inputs)) input.addEventListener("input", draw);
  draw();

  let set = null;
  await form({
    title: rule === null ? t("limits.new") : t("limits.edit_of", { name: rule.name }),
    action: rule === null ? t("limits.create") : t("limits.set"),
    fields: [
      rule === null ? label(t("limits.name"), inputs.name) : null,
      scope,
      h("div", { class: "pair" }, label(t("limits.at_once"), inputs.max_running), label(t("limits.per_time"), inputs.rate)),
      each,
      label(t("limits.note_for"), inputs.note),
      h("div", {}, h("p", { class: "small muted" }, t("limits.same")), line),
      choices("rule-groups", groups),
      choices("rule-types", types),
    ],
    async send() {
      for (const input of Object.values(inputs)) input.removeAttribute("aria-invalid");
      const name = rule?.name ?? inputs.name.value.trim();
      if (rule === null && (await get("limits")).items.some((one) => one.name === name)) {
        inputs.name.setAttribute("aria-invalid", "true");
        throw new Error(t("limits.exists", { name }));
      }
      try {
        set = await put(`limits/${segment(name)}`, read());
      } catch (error) {
        for (const one of error.errors ?? []) inputs[one.field]?.setAttribute("aria-invalid", "true");
        throw error;
      }
      note(rule === null ? t("limits.in_force", { name }) : t("limits.changed", { name }));
      return null;
    },
  });
  return set;
}
