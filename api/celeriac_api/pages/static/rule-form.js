// The form for a rule, with the command that does the same.

import { get, put, segment } from "./api.js";
import { h, setText } from "./dom.js";
import { form } from "./new-task.js";
import { command, note, shellWord } from "./ui.js";

/** What a rule may count separately. */
const COUNTS = { all: "All tasks together", key: "Each key by itself", user: "Each user by itself" };
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
    group: field({ maxlength: 128, list: "rule-groups", placeholder: "any group", value: rule?.group ?? "" }),
    type: field({ maxlength: 200, list: "rule-types", placeholder: "any type", value: rule?.type ?? "" }),
    by: h(
      "select",
      { class: "field" },
      Object.entries(COUNTS).map(([value, text]) => h("option", { value }, text)),
    ),
    max_running: field({ type: "number", min: 1, max: 1000000, placeholder: "any number", value: rule?.max_running ?? "" }),
    rate: field({ maxlength: 12, placeholder: "5/s, 100/m, 10/h or 1/d", value: rule?.rate ?? "" }),
    max_waiting: field({ type: "number", min: 1, max: 10000000, placeholder: "any number", value: rule?.max_waiting ?? "" }),
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
    h("div", { class: "pair" }, label("Group", inputs.group), label("Type", inputs.type)),
    label("Count", inputs.by),
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
    setText(fairText, `The ${one}s of a group take turns`);
    setText(orderedText, `One task of a ${one} at a time, in the order of submission`);
    setText(mostText, `Waiting tasks of one ${one} (more are refused)`);
    line.say(commandOf({ name: inputs.name.value.trim(), ...read() }));
  }
  for (const input of Object.values(inputs)) input.addEventListener("input", draw);
  draw();

  let set = null;
  await form({
    title: rule === null ? "New rule" : `Edit ${rule.name}`,
    action: rule === null ? "Create" : "Set",
    fields: [
      rule === null ? label("Name", inputs.name) : null,
      scope,
      h("div", { class: "pair" }, label("Running at once", inputs.max_running), label("Starts per time", inputs.rate)),
      each,
      label("Note for other operators (optional)", inputs.note),
      h("div", {}, h("p", { class: "small muted" }, "The same from a terminal:"), line),
      choices("rule-groups", groups),
      choices("rule-types", types),
    ],
    async send() {
      for (const input of Object.values(inputs)) input.removeAttribute("aria-invalid");
      const name = rule?.name ?? inputs.name.value.trim();
      if (rule === null && (await get("limits")).items.some((one) => one.name === name)) {
        inputs.name.setAttribute("aria-invalid", "true");
        throw new Error(`A rule ${name} exists. Edit it, or choose another name.`);
      }
      try {
        set = await put(`limits/${segment(name)}`, read());
      } catch (error) {
        for (const one of error.errors ?? []) inputs[one.field]?.setAttribute("aria-invalid", "true");
        throw error;
      }
      note(rule === null ? `${name} is in force` : `${name} is changed`);
      return null;
    },
  });
  return set;
}
