// The command palette: one field from which the keyboard reaches every page, type, group, workflow, definition and task, and acts.

import { ROOT, get, post, segment } from "./api.js";
import { h, icon, statusBadge } from "./dom.js";
import { live } from "./live.js";
import { newTask } from "./new-task.js";
import { session } from "./session.js";
import { LANGUAGES, language, setLanguage, t } from "./text.js";
import { TIMES, times } from "./times.js";
import { complain, confirm, debounce, dialog, note } from "./ui.js";

/** How many entries are shown, and how many of a kind are asked for while somebody types. */
const SHOWN = 40;
const FOUND = 5;
const ASKED = 200;
/** The whole id of a task; and a text of so many letters without a space, which may begin one. */
const WHOLE_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const ID = /^[^\s:"]{4,}$/;
const WAIT_MS = 150;

/**
 * Return how well `words` fit a text, or -1 if they do not: the letters of each word occur in their order. Words that
 * begin with the letters, and letters side by side, count more; of two equal texts the shorter one fits better.
 */
export function fit(words, text) {
  const low = text.toLowerCase();
  let sum = 0;
  for (const word of words.toLowerCase().split(/\s+/).filter(Boolean)) {
    const whole = low.indexOf(word);
    if (whole >= 0) {
      sum += 20 * word.length + (whole === 0 || !/[\p{L}\p{N}]/u.test(low[whole - 1]) ? 40 : 0);
      continue;
    }
    let at = -1;
    for (const letter of word) {
      const next = low.indexOf(letter, at + 1);
      if (next < 0) return -1;
      sum += next === at + 1 ? 6 : next === 0 || !/[\p{L}\p{N}]/u.test(low[next - 1]) ? 4 : 1;
      at = next;
    }
  }
  return sum - low.length / 100;
}

const to = (hash) => () => (location.hash = hash);

/** What can be done from here by this user: `{kind, name, act, about?, icon?}`. */
function actions(me, help) {
  const act = (name, work, drawn) => ({ kind: "action", name, act: work, icon: drawn });
  return [
    me.submit && act(t("palette.new_task"), newTask, "tasks"),
    act(t("palette.failed"), to("#/tasks?status=failed"), "tasks"),
    me.submit && act(t("palette.retry_failed"), to("#/errors?retry"), "errors"),
    act(t("frame.theme"), () => globalThis.toggleTheme(), "theme"),
    ...TIMES.filter((mode) => mode !== times.mode).map((mode) => act(t("palette.times", { mode: t(`times.${mode}`) }), () => (times.mode = mode), "waits")),
    ...Object.entries(LANGUAGES)
      .filter(([code]) => code !== language)
      .map(([code, name]) => act(t("palette.language", { name }), () => setLanguage(code), "help")),
    act(t("frame.docs"), () => location.assign(new URL("docs", ROOT)), "docs"),
    act(t("frame.worker"), () => location.assign(new URL("test-worker", ROOT)), "plug"),
    act(t("frame.keys"), help, "help"),
    ...(me.admin ? (live.groups ?? []).map((group) => (group.paused ? act(t("palette.resume", { group: group.name }), () => resume(group.name), "groups") : act(t("palette.pause", { group: group.name }), () => pause(group.name), "groups"))) : []),
  ].filter(Boolean);
}

async function pause(group) {
  const text = await confirm({
    title: t("palette.pause_title", { group }),
    text: t("palette.pause_about"),
    action: t("palette.pause_action"),
    noteLabel: t("palette.pause_note"),
  });
  if (text === null) return;
  await post(`groups/${segment(group)}/pause`, { note: text || null })
    .then(() => note(t("palette.paused", { group })))
    .catch(complain);
}

const resume = (group) =>
  post(`groups/${segment(group)}/resume`)
    .then(() => note(t("palette.resumed", { group })))
    .catch(complain);

/** Open the palette. `sections` are the pages of the menu, `help` shows the keys. */
export async function openPalette({ sections, help }) {
  const me = await session;
  if (document.querySelector("dialog[open]")) return;
  // Groups come with the live stream, which may begin after the palette is open.
  const fixed = () => [
    ...sections.filter((one) => !one.admin || me.admin).map((one) => ({ kind: "page", name: t(`frame.${one.path}`), also: one.path, icon: one.path, act: to(`#/${one.path}`) })),
    ...actions(me, help),
    ...(live.groups ?? []).map(({ name }) => ({ kind: "group", name, icon: "groups", act: to(`#/tasks?queue=${segment(name)}`) })),
  ];
  let read = [];
  let found = [];
  let shown = [];
  let chosen = 0;
  let asking = null;

  const list = h("ul", { class: "found", role: "listbox", id: "palette-list", "aria-label": t("palette.results") });
  const field = h("input", {
    class: "field",
    role: "combobox",
    placeholder: t("palette.hint"),
    "aria-label": t("palette.title"),
    "aria-expanded": "true",
    "aria-controls": "palette-list",
    "aria-autocomplete": "list",
    autocomplete: "off",
    spellcheck: "false",
    autofocus: true,
  });

  function choose(place, scroll = true) {
    chosen = place;
    for (const [i, item] of [...list.children].entries()) item.setAttribute("aria-selected", String(i === chosen));
    const item = list.children[chosen];
    if (item) field.setAttribute("aria-activedescendant", item.id);
    else field.removeAttribute("aria-activedescendant");
    if (item && scroll) item.scrollIntoView({ block: "nearest" });
  }

  function draw() {
    const words = field.value.trim();
    const all = [...found, ...fixed(), ...read];
    shown = words
      ? all
          .map((entry) => [entry.fits ?? Math.max(fit(words, entry.name), entry.also ? fit(words, entry.also) : -1), entry])
          .filter(([fits]) => fits >= 0)
          .sort(([a], [b]) => b - a)
          .map(([, entry]) => entry)
          .slice(0, SHOWN)
      : fixed().filter((entry) => entry.kind !== "group").slice(0, SHOWN);
    if (words) shown.push({ kind: "action", name: t("palette.search", { words }), icon: "search", act: to(`#/tasks?q=${segment(words)}`) });
    list.replaceChildren(
      ...shown.map((entry, i) =>
        h(
          "li",
          { role: "option", id: `palette-${i}`, onclick: () => run(entry), onpointermove: () => chosen !== i && choose(i, false) },
          icon(entry.icon),
          h("span", { class: "clip" }, entry.name),
          entry.about ?? null,
          h("span", { class: "kind" }, t(`palette.kind.${entry.kind}`)),
        ),
      ),
    );
    choose(0);
  }

  /** Ask for what only the server can find. */
  async function ask() {
    const words = field.value.trim();
    asking?.abort();
    if (words.length < 2) return;
    const { signal } = (asking = new AbortController());
    const nothing = (error) => (error.name === "AbortError" ? Promise.reject(error) : { items: [] });
    try {
      const tasks = ID.test(words) ? await get("tasks", { q: words, limit: FOUND * 4 }, { signal }).catch(nothing) : { items: [] };
      if (words !== field.value.trim()) return;
      const known = tasks.items.length ? [] : found.filter((entry) => entry.kind === "task");
      found = [
        ...known,
        // A pasted id comes before everything else.
        ...tasks.items
          .filter((task) => task.task_id.toLowerCase().startsWith(words.toLowerCase()))
          .slice(0, FOUND)
          .map((task) => ({ kind: "task", name: `${task.type} ${task.task_id}`, about: statusBadge(task.status), icon: "tasks", fits: 1e6, act: to(`#/tasks/${segment(task.task_id)}`) })),
      ];
      draw();
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }
  const askSoon = debounce(ask, WAIT_MS);

  field.addEventListener("input", () => {
    const words = field.value.trim();
    // Who pastes an id and presses Enter at once does not wait for the server.
    found = WHOLE_ID.test(words) ? [{ kind: "task", name: words, icon: "tasks", fits: 1e6, act: to(`#/tasks/${segment(words)}`) }] : [];
    draw();
    askSoon();
  });

  let run = () => {};
  const opened = dialog((close) => {
    run = (entry) => close(entry);
    field.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
      if (step) choose(Math.abs(step) === 1 ? (chosen + step + shown.length) % shown.length : Math.min(shown.length - 1, Math.max(0, chosen + step)));
      else if (event.key === "Home" && !field.value) choose(0);
      else if (event.key === "End" && !field.value) choose(shown.length - 1);
      else if (event.key === "Enter" && !event.isComposing) shown[chosen] && close(shown[chosen]);
      else return;
      event.preventDefault();
    });
    return h(
      "div",
      { class: "palette" },
      h("h2", { class: "visually-hidden" }, t("palette.title")),
      h("div", { class: "search" }, icon("search"), field),
      list,
      h("footer", { class: "small" }, h("span", {}, h("kbd", {}, "↑"), h("kbd", {}, "↓"), " ", t("palette.choose")), h("span", {}, h("kbd", {}, "Enter"), " ", t("palette.go")), h("span", {}, h("kbd", {}, "Esc"), " ", t("common.close"))),
    );
  });
  draw();
  // What does not change while somebody types is asked for once.
  const none = () => ({ items: [], task_types: [] });
  Promise.all([
    get("task-types").catch(none),
    get("definitions", { limit: ASKED }).catch(none),
    // The latest ones: there may be any number.
    get("workflows", { limit: ASKED }).catch(none),
  ]).then(([{ task_types: types }, { items }, workflows]) => {
    read = [
      ...types.map(({ name }) => ({ kind: "type", name, icon: "types", act: to(`#/types/${segment(name)}`) })),
      ...items.map((one) => ({ kind: "definition", name: one.name || one.task?.type || one.task_def_id, icon: "definitions", act: to(`#/definitions/${segment(one.task_def_id)}`) })),
      ...workflows.items.map((one) => ({
        kind: "workflow",
        name: `${one.name || t("workflow.one")} ${one.workflow_id.slice(0, 8)}`,
        about: statusBadge(one.status),
        icon: "workflows",
        act: to(`#/workflows/${segment(one.workflow_id)}`),
      })),
    ];
    if (field.value.trim()) draw();
  });
  const end = live.on("state", () => field.value.trim() && chosen === 0 && draw());
  const entry = await opened;
  end();
  asking?.abort();
  entry?.act();
}
