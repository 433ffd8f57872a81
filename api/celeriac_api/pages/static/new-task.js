// The form for a new task: its type and its payload, which begins with an example for the type.

import { get, onceKey, post } from "./api.js";
import { h, setText } from "./dom.js";
import { complain, dialog, note } from "./ui.js";

export const newTaskButton = (kind = "primary") => h("button", { class: `button ${kind} submit-only`, type: "button", onclick: newTask }, "New task");

/** Return the fields for type and payload. `read()` returns `{type, payload}`, or throws with a text for people. */
export async function taskFields() {
  const [{ task_types: types }, { first, payloads }] = await Promise.all([get("task-types"), get("../../dashboard/examples")]);
  const known = new Map(types.map((one) => [one.name, one]));
  const type = h(
    "select",
    { class: "field", required: true },
    types.map((one) => h("option", {}, one.name)),
  );
  const about = h("p", { class: "small muted" });
  const payload = h("textarea", { class: "field", rows: 8, spellcheck: "false", autocapitalize: "off" });
  const choose = () => {
    setText(about, known.get(type.value)?.description ?? "");
    payload.value = JSON.stringify(payloads[type.value] ?? {}, null, 2);
  };
  type.value = first.type;
  type.addEventListener("change", choose);
  choose();
  return {
    element: h("div", { class: "fields" }, h("label", { class: "label" }, "Type", type), about, h("label", { class: "label" }, "Payload, as JSON", payload)),
    read() {
      try {
        payload.removeAttribute("aria-invalid");
        return { type: type.value, payload: JSON.parse(payload.value) };
      } catch (error) {
        payload.setAttribute("aria-invalid", "true");
        throw new Error(`The payload is not JSON: ${error.message}`);
      }
    },
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
      h("footer", {}, h("button", { class: "button", type: "button", onclick: () => close(null) }, "Cancel"), button),
    );
  });
  if (target) location.hash = target;
}

async function newTask() {
  let what;
  try {
    what = await taskFields();
  } catch (error) {
    complain(error);
    return;
  }
  const group = h("input", { class: "field", placeholder: "group of the type", autocomplete: "off", spellcheck: "false" });
  const delay = h("input", { class: "field", placeholder: "none", autocomplete: "off", spellcheck: "false" });
  const taskKey = h("input", { class: "field", maxlength: 128, placeholder: "key of the type", autocomplete: "off", spellcheck: "false" });
  const key = onceKey();
  await form({
    title: "New task",
    action: "Submit",
    fields: [
      what.element,
      h("div", { class: "pair" }, h("label", { class: "label" }, "Group", group), h("label", { class: "label" }, "Delay (30s, 10m, 1h)", delay)),
      h("label", { class: "label" }, "Key, such as a customer (optional)", taskKey),
    ],
    async send() {
      const body = {
        ...what.read(),
        ...(group.value.trim() ? { queue: group.value.trim() } : {}),
        ...(taskKey.value.trim() ? { key: taskKey.value.trim() } : {}),
        ...(delay.value.trim() ? { delay: delay.value.trim() } : {}),
      };
      const { task_id: id, deduplicated } = await post("tasks", body, { headers: { "Idempotency-Key": key } });
      if (deduplicated) note("No new task was made: this one stands for it");
      return `#/tasks/${encodeURIComponent(id)}`;
    },
  });
}
