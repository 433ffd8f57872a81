// Short notes, dialogs, the clipboard, commands to copy, and limits on how often a function runs.

import { h, icon } from "./dom.js";
import { LANGUAGES, language, setLanguage, t } from "./text.js";

/** Show a note for a few seconds; `kind` is "bad" for an error. */
export function note(content, kind = "") {
  // Screen readers read an error at once, and other notes at the next pause.
  const element = h("div", { class: `note ${kind}`, role: kind === "bad" ? "alert" : null }, content);
  const shelf = document.getElementById("notes");
  shelf.append(element);
  while (shelf.children.length > 4) shelf.firstElementChild.remove();
  setTimeout(() => element.remove(), kind === "bad" ? 9000 : 5000);
}

/** Show why a call of the API failed. */
export function complain(error) {
  if (error.name !== "AbortError") note(error.message, "bad");
}

/** Open a dialog that `build(close)` returns; resolves with the value passed to `close`, or null if it was dismissed. */
export function dialog(build) {
  return new Promise((resolve) => {
    let answer = null;
    const element = h("dialog", {});
    const close = (value) => {
      answer = value;
      element.close();
    };
    element.append(build(close));
    const title = element.querySelector("h2");
    if (title) {
      title.id = "dialog-title";
      element.setAttribute("aria-labelledby", title.id);
    }
    element.addEventListener("close", () => {
      element.remove();
      resolve(answer);
    });
    element.addEventListener("click", (event) => event.target === element && element.close());
    document.body.append(element);
    element.showModal();
  });
}

/** Ask for confirmation; resolves with true or false. With `noteLabel`, it resolves with the text of the note or null. */
export async function confirm({ title, text, action, danger = false, noteLabel = null }) {
  const answer = await dialog((close) => {
    const field = noteLabel ? h("input", { class: "field", maxlength: 200, autocomplete: "off" }) : null;
    return h(
      "form",
      { method: "dialog", onsubmit: (event) => (event.preventDefault(), close(field ? field.value : true)) },
      h("h2", {}, title),
      text ? h("p", { class: "muted" }, text) : null,
      field ? h("label", { class: "label" }, noteLabel, field) : null,
      h(
        "footer",
        {},
        h("button", { class: "button", type: "button", onclick: () => close(null) }, t("common.keep")),
        h("button", { class: `button ${danger ? "danger" : "primary"}`, type: "submit", autofocus: !field }, action),
      ),
    );
  });
  return noteLabel ? answer : answer === true;
}

export async function copy(text, what = t("common.copied")) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // The clipboard API exists only in a secure context.
    const area = h("textarea", { class: "visually-hidden", value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  note(what);
}

/** Return a command with a button that copies it; `say(text)` writes another one. */
export function command(text = "") {
  const line = h("pre", { class: "code", tabindex: 0 }, text);
  const element = h(
    "div",
    { class: "command" },
    line,
    h(
      "button",
      {
        class: "button quiet icon",
        type: "button",
        "aria-label": t("common.copy_command"),
        title: t("common.copy_command"),
        onclick: () => copy(line.textContent, t("common.command_copied")),
      },
      icon("copy"),
    ),
  );
  return Object.assign(element, { say: (other) => (line.textContent = other) });
}

/** Quote a word for a shell, if it needs that. */
export const shellWord = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`);

/** Call `work` now and then every `ms`, but less often if it is slow, and not while the page is hidden; returns how to end it. */
export function repeat(work, ms) {
  let timer = null;
  let ended = false;
  const turn = async () => {
    const began = Date.now();
    if (!document.hidden) await work();
    if (!ended) timer = setTimeout(turn, Math.max(ms, 10 * (Date.now() - began)));
  };
  turn();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

/** Call `work` at most once every `ms`. The last call always happens. */
export function throttle(work, ms) {
  let timer = null;
  let again = false;
  return () => {
    if (timer !== null) {
      again = true;
      return;
    }
    work();
    const rest = () => {
      timer = null;
      if (again) {
        again = false;
        work();
        timer = setTimeout(rest, ms);
      }
    };
    timer = setTimeout(rest, ms);
  };
}

export function debounce(work, ms) {
  let timer = null;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, ms);
  };
}

/** Return buttons of which one is pressed: `choices` are `{value, text, lang?}`; `choose(value)` is called for another one. */
export function oneOf(label, choices, chosen, choose) {
  const press = ({ currentTarget: pressed }) => {
    if (pressed.getAttribute("aria-pressed") === "true") return;
    for (const one of pressed.parentElement.children) one.setAttribute("aria-pressed", String(one === pressed));
    choose(pressed.dataset.value);
  };
  return h(
    "div",
    { class: "segments", role: "group", "aria-label": label },
    choices.map(({ value, text, lang }) => h("button", { type: "button", lang, dataset: { value }, "aria-pressed": String(value === chosen), onclick: press }, text)),
  );
}

/** Open the form for a new task: see `newTask` in `new-task.js`, which is loaded then. */
export const openNewTask = (...given) => import("./new-task.js").then(({ newTask }) => newTask(...given)).catch(complain);

export const newTaskButton = (kind = "primary", type = null) =>
  h("button", { class: `button ${kind} submit-only`, type: "button", onclick: () => openNewTask(null, type) }, t("newtask.title"));

/** Return the switch for the language of the pages. */
export function languageSwitch() {
  return oneOf(
    t("frame.language"),
    Object.entries(LANGUAGES).map(([value, text]) => ({ value, text, lang: value })),
    language,
    setLanguage,
  );
}
