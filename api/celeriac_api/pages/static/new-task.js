// The form for a new task: its type and its payload, which begins with an example for the type, or with another task.

import { get, onceKey, post, segment } from "./api.js";
import { copyAsButtons, hasMask, submissionOf } from "./copy-as.js";
import { h, setText } from "./dom.js";
import { fieldOf, schemaForm } from "./schema-form.js";
import { t } from "./text.js";
import { complain, dialog, note } from "./ui.js";

/** The name under which the browser remembers whether payloads are written as forms. */
const AS_FORM = "celeriac_payload_form";

/** A button that opens the form, which begins with `type` if it is given. */
/** Return whether a schema says enough to draw a form of it. */
function drawable(schema) {
  const field = schema && fieldOf(schema);
  return field?.kind === "object" && field.fields.length > 0;
}

/**
 * Return the fields for type and payload, which begin with those of `given` if there is one. `read()` returns
 * `{type, payload}`, or throws with a text for people.
 */
export async function taskFields(given = null) {
  const [{ task_types: types }, { first, payloads }] = await Promise.all([get("task-types"), get("../../dashboard/examples")]);
  const known = new Map(types.map((one) => [one.name, one]));
  if (given && !known.has(given.type)) known.set(given.type, {});
  const type = h(
    "select",
    { class: "field", required: true },
    [...known.keys()].map((name) => h("option", {}, name)),
  );
  const about = h("p", { class: "small muted" });
  const area = h("textarea", { class: "field", rows: 8, spellcheck: "false", autocapitalize: "off" });
  const json = h("label", { class: "label" }, t("newtask.payload_json"), area);
  const drawn = h("div", { class: "fields" });
  const way = (text, form) => h("button", { type: "button", onclick: () => turn(form) }, text);
  const ways = h("div", { class: "segments", role: "group", "aria-label": t("newtask.way") }, way(t("newtask.as_json"), false), way(t("newtask.as_form"), true));
  let form = null;

  function readJson() {
    try {
      area.removeAttribute("aria-invalid");
      return JSON.parse(area.value);
    } catch (error) {
      area.setAttribute("aria-invalid", "true");
      throw new Error(t("newtask.no_json", { why: error.message }));
    }
  }

  /** Show the payload as a form or as JSON; what is written so far goes along. */
  function turn(wanted) {
    try {
      if (wanted && !form) {
        form = schemaForm(known.get(type.value).payload_schema, t("newtask.payload"), readJson());
        drawn.replaceChildren(form.element);
      } else if (!wanted && form) {
        area.value = JSON.stringify(form.read(), null, 2);
        form = null;
      }
    } catch (error) {
      complain(error);
      return;
    }
    localStorage.setItem(AS_FORM, wanted ? "yes" : "no");
    draw();
  }

  function draw() {
    ways.hidden = !drawable(known.get(type.value)?.payload_schema);
    json.hidden = Boolean(form);
    drawn.hidden = !form;
    [...ways.children].forEach((button, i) => button.setAttribute("aria-pressed", String(Boolean(i) === Boolean(form))));
  }

  function choose(payload) {
    setText(about, known.get(type.value)?.description ?? "");
    area.value = JSON.stringify(payload ?? payloads[type.value] ?? {}, null, 2);
    form = null;
    draw();
    if (!ways.hidden && localStorage.getItem(AS_FORM) === "yes") turn(true);
  }

  type.value = given?.type ?? first.type;
  type.addEventListener("change", () => choose());
  choose(given?.payload);
  return {
    element: h("div", { class: "fields" }, h("label", { class: "label" }, t("newtask.type"), type), about, ways, json, drawn),
    read: () => ({ type: type.value, payload: form ? form.read() : readJson() }),
  };
}

/** Open a dialog that sends its fields; `send()` resolves with the address to open then. */
export async function form({ title, action, fields, send }) {
  const target = await dialog((close) => {
    const trouble = h("p", { class: "error-text", role: "alert" });
    const button = h("button", { class: "button primary", type: "submit" }, action);
    const submit = async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        close(await send());
      } catch (error) {
        setText(trouble, error.message);
      } finally {
        button.disabled = false;
      }
    };
    return h(
      "form",
      { method: "dialog", onsubmit: submit },
      h("h2", {}, title),
      fields,
      trouble,
      h("footer", {}, h("button", { class: "button", type: "button", onclick: () => close(null) }, t("newtask.leave")), button),
    );
  });
  if (target) location.hash = target;
}

/** Open the form; with the id of a task it begins as a copy of that, else with a type. */
export async function newTask(like = null, ofType = null) {
  let given = null;
  let what;
  try {
    if (typeof like === "string") given = submissionOf(await get(`tasks/${segment(like)}`));
    what = await taskFields(given ?? (ofType && { type: ofType }));
  } catch (error) {
    complain(error);
    return;
  }
  const input = (value, placeholder, more = {}) => h("input", { class: "field", value: value ?? "", placeholder, autocomplete: "off", spellcheck: "false", ...more });
  const group = input(given?.queue, t("newtask.group_hint"));
  const delay = input("", t("newtask.delay_hint"));
  const taskKey = input(given?.key, t("newtask.key_hint"), { maxlength: 128 });
  const tags = input((given?.tags ?? []).join(", "), t("newtask.tags_hint"));
  const key = onceKey();
  function read() {
    const { type, payload, queue, key: sameKey, tags: sameTags, ...same } = given ?? {};
    const words = tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
    const optional = { queue: group.value.trim(), key: taskKey.value.trim(), delay: delay.value.trim(), tags: words.length ? words : "" };
    return { ...same, ...what.read(), ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value)) };
  }
  const hidden = hasMask(given?.payload) ? h("p", { class: "small muted" }, t("newtask.secret")) : null;
  await form({
    title: given ? t("newtask.again") : t("newtask.title"),
    action: t("newtask.submit"),
    fields: [
      what.element,
      hidden,
      h("div", { class: "pair" }, h("label", { class: "label" }, t("newtask.group"), group), h("label", { class: "label" }, t("newtask.delay"), delay)),
      h("div", { class: "pair" }, h("label", { class: "label" }, t("newtask.key"), taskKey), h("label", { class: "label" }, t("newtask.tags"), tags)),
      copyAsButtons(read),
    ],
    async send() {
      const submission = read();
      if (hasMask(submission.payload)) throw new Error(t("newtask.secret"));
      const { task_id: id, deduplicated } = await post("tasks", submission, { headers: { "Idempotency-Key": key } });
      if (deduplicated) note(t("newtask.deduplicated"));
      return `#/tasks/${segment(id)}`;
    },
  });
}
