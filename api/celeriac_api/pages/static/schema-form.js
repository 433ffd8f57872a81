// A form drawn from a JSON schema. What has no field of its own is written as JSON.

import { h, setText } from "./dom.js";
import { t } from "./text.js";

/** Deeper objects, and schemas that refer to themselves, are written as JSON. */
const DEPTH = 3;
const LONG = 200;
const INPUTS = { date: "date", "date-time": "datetime-local", email: "email", uri: "url", password: "password" };

/**
 * Return how a schema is drawn: `{kind, ...}` with the title, the description and the default of the schema.
 *
 * `kind` is `object` (`fields`: `{name, required, field}`), `choice` (`options`: values), `many` (`options`), `boolean`, `number`
 * (`whole`), `text` (`input`: the type of the input, or `area`), `constant` (`value`) or `json`. A value that may be null has `nullable`.
 * With `value` the form begins with that instead of the defaults of the schema.
 */
export function fieldOf(schema, root = schema, depth = 0, value = undefined) {
  const found = { ...resolved(schema, root) };
  const alternatives = found.anyOf ?? found.oneOf;
  if (alternatives?.some((one) => resolved(one, root).type === "null")) {
    const others = alternatives.filter((one) => resolved(one, root).type !== "null");
    if (others.length === 1) {
      const { anyOf, oneOf, ...own } = found;
      return { ...fieldOf({ ...resolved(others[0], root), ...own }, root, depth, value ?? undefined), nullable: true };
    }
  }
  if (Array.isArray(found.type) && found.type.length === 2 && found.type.includes("null")) {
    return { ...fieldOf({ ...found, type: found.type.find((one) => one !== "null") }, root, depth, value ?? undefined), nullable: true };
  }
  const about = { title: found.title, description: found.description, initial: value === undefined ? found.default : value, schema: found };
  if (found.const !== undefined) return { ...about, kind: "constant", value: found.const };
  const choices = found.enum ?? (alternatives?.every((one) => one.const !== undefined) ? alternatives.map((one) => one.const) : null);
  if (choices) return { ...about, kind: "choice", options: choices };
  if (alternatives || found.allOf || found.not || found.if || found.$ref) return { ...about, kind: "json" };
  if (found.type === "object" && found.properties && depth < DEPTH) {
    const required = new Set(found.required ?? []);
    const inner = typeof value === "object" && value !== null ? value : {};
    const fields = Object.entries(found.properties).map(([name, one]) => ({ name, required: required.has(name), field: fieldOf(one, root, depth + 1, inner[name]) }));
    // What has no field of its own stays as it is.
    const others = Object.fromEntries(Object.entries(inner).filter(([name]) => !(name in found.properties)));
    return { ...about, kind: "object", fields, others };
  }
  if (found.type === "array" && found.items?.enum) return { ...about, kind: "many", options: found.items.enum };
  if (found.type === "boolean") return { ...about, kind: "boolean" };
  if (found.type === "number" || found.type === "integer") return { ...about, kind: "number", whole: found.type === "integer" };
  if (found.type === "string") return { ...about, kind: "text", input: INPUTS[found.format] ?? (!found.format && !found.pattern && (found.maxLength ?? 0) > LONG ? "area" : "text") };
  return { ...about, kind: "json" };
}

/** Return a schema without its `$ref` to a definition of the root. */
function resolved(schema, root) {
  let found = typeof schema === "object" && schema !== null ? schema : {};
  for (let step = 0; step < 20 && typeof found.$ref === "string" && found.$ref.startsWith("#/"); step++) {
    const { $ref: reference, ...own } = found;
    let target = root;
    for (const part of reference.slice(2).split("/")) target = target?.[decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")];
    if (typeof target !== "object" || target === null) return found;
    found = { ...target, ...own };
  }
  return found;
}

/** Return a name as a label: "max_amount" is "Max amount". */
export const labelOf = (name) => {
  const words = name.replace(/[_-]+/g, " ").trim();
  return words ? words[0].toUpperCase() + words.slice(1) : name;
};

/**
 * Return a form for a value: `{element, read()}`. `read()` returns the value, or throws with a text for people and marks the field.
 * Without a schema, the value is written as JSON. The form begins with `value`.
 */
export function schemaForm(schema, label = t("schema.answer"), value = undefined) {
  return draw(schema ? fieldOf(schema, schema, 0, value) : { kind: "json", initial: value }, { label, required: true });
}

function draw(field, { label, required }) {
  const optional = !required && !field.nullable;
  const text = field.title ?? label;
  const note = field.description ? h("span", { class: "small muted" }, field.description) : null;
  const marked = h("span", {}, text, required ? null : h("span", { class: "faint" }, t("schema.optional")));
  const labelled = (input) => h("label", { class: "label" }, marked, input, note);
  const checked = (input, read) => () => {
    input.removeAttribute("aria-invalid");
    try {
      return read();
    } catch (error) {
      input.setAttribute("aria-invalid", "true");
      input.focus();
      throw new Error(t("schema.wrong", { field: text, why: error.message }));
    }
  };
  /** What an empty field means: nothing at all if it is optional, null if it may be null. */
  const empty = () => {
    if (optional) return undefined;
    if (field.nullable) return required ? null : undefined;
    throw new Error(t("schema.missing"));
  };

  if (field.kind === "object") {
    const parts = field.fields.map((one) => ({ ...one, ...draw(one.field, { label: labelOf(one.name), required: one.required }) }));
    // An optional object is left out if all its fields are empty and one of them would have to be filled.
    const read = () => {
      const value = { ...field.others };
      for (const part of parts) {
        const one = part.read();
        if (one !== undefined) value[part.name] = one;
      }
      return value;
    };
    const filled = () => parts.some((part) => part.filled());
    return {
      element: h("fieldset", { class: "fields" }, field.title || !required ? h("legend", {}, marked) : null, note, parts.map((part) => part.element)),
      read: () => (!required && !filled() ? (field.nullable && required ? null : undefined) : read()),
      filled,
    };
  }
  if (field.kind === "constant") return { element: h("p", { class: "small muted" }, `${text}: ${JSON.stringify(field.value)}`), read: () => field.value, filled: () => false };
  if (field.kind === "boolean" && required && !field.nullable) {
    const input = h("input", { type: "checkbox", checked: field.initial === true });
    return { element: h("label", { class: "check" }, input, h("span", {}, text), note), read: () => input.checked, filled: () => input.checked };
  }
  if (field.kind === "choice" || field.kind === "boolean") {
    const options = field.kind === "boolean" ? [true, false] : field.options;
    const names = field.kind === "boolean" ? [t("schema.yes"), t("schema.no")] : options.map((one) => (typeof one === "string" ? one : JSON.stringify(one)));
    const input = h(
      "select",
      { class: "field" },
      h("option", { value: "" }, t("schema.choose")),
      options.map((_, i) => h("option", { value: i }, names[i])),
    );
    const initial = options.findIndex((one) => JSON.stringify(one) === JSON.stringify(field.initial));
    if (initial >= 0) input.value = String(initial);
    return { element: labelled(input), read: checked(input, () => (input.value === "" ? empty() : options[Number(input.value)])), filled: () => input.value !== "" };
  }
  if (field.kind === "many") {
    const boxes = field.options.map((option) => ({ option, input: h("input", { type: "checkbox", checked: (field.initial ?? []).includes(option) }) }));
    return {
      element: h("fieldset", { class: "fields" }, h("legend", {}, marked), note, boxes.map(({ option, input }) => h("label", { class: "check" }, input, h("span", {}, String(option))))),
      read: () => boxes.filter(({ input }) => input.checked).map(({ option }) => option),
      filled: () => boxes.some(({ input }) => input.checked),
    };
  }
  if (field.kind === "number") {
    const input = h("input", { class: "field", inputmode: field.whole ? "numeric" : "decimal", autocomplete: "off", value: field.initial ?? "" });
    const read = () => {
      const written = input.value.trim();
      if (!written) return empty();
      const value = Number(written);
      if (!Number.isFinite(value)) throw new Error(t("schema.no_number", { text: written }));
      if (field.whole && !Number.isInteger(value)) throw new Error(t("schema.no_whole", { text: written }));
      within(value, field.schema);
      return value;
    };
    return { element: labelled(input), read: checked(input, read), filled: () => input.value.trim() !== "" };
  }
  if (field.kind === "text") {
    const moment = field.input === "datetime-local";
    const attributes = { class: "field", autocomplete: "off", maxlength: field.schema.maxLength ?? null, value: moment ? "" : (field.initial ?? "") };
    const input = field.input === "area" ? h("textarea", { ...attributes, rows: 4 }) : h("input", { ...attributes, type: field.input, step: moment ? 1 : null });
    const least = field.schema.minLength ?? 0;
    const read = () => {
      if (!input.validity.valid) throw new Error(input.validationMessage);
      // An empty text is a value where a text is required.
      if (!input.value) return required && !field.nullable && !least && ["text", "area"].includes(field.input) ? "" : empty();
      if (input.value.length < least) throw new Error(t("schema.short", { n: least }));
      return moment ? new Date(input.value).toISOString() : input.value;
    };
    return { element: labelled(input), read: checked(input, read), filled: () => input.value !== "" };
  }
  const trouble = h("span", { class: "small error-text" });
  const input = h("textarea", { class: "field", rows: 5, spellcheck: "false", autocapitalize: "off", value: field.initial === undefined ? "" : JSON.stringify(field.initial, null, 2) });
  const read = () => {
    setText(trouble, "");
    if (!input.value.trim()) return empty();
    try {
      return JSON.parse(input.value);
    } catch (error) {
      throw new Error(t("schema.no_json", { why: error.message }));
    }
  };
  return { element: h("label", { class: "label" }, h("span", {}, text, h("span", { class: "faint" }, required ? t("schema.as_json") : t("schema.as_json_optional"))), input, note), read: checked(input, read), filled: () => input.value.trim() !== "" };
}

function within(value, schema) {
  if (schema.minimum !== undefined && value < schema.minimum) throw new Error(t("schema.least", { limit: String(schema.minimum) }));
  if (schema.maximum !== undefined && value > schema.maximum) throw new Error(t("schema.most", { limit: String(schema.maximum) }));
  if (schema.exclusiveMinimum !== undefined && value <= schema.exclusiveMinimum) throw new Error(t("schema.more", { limit: String(schema.exclusiveMinimum) }));
  if (schema.exclusiveMaximum !== undefined && value >= schema.exclusiveMaximum) throw new Error(t("schema.less", { limit: String(schema.exclusiveMaximum) }));
}
