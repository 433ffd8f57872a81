// The frame of the dashboard: navigation, routes in the address after `#`, keys, the state of the live stream.

import { ROOT, busy, get } from "./api.js";
import { h, icon, mark, setText } from "./dom.js";
import { lastErrors } from "./last-errors.js";
import { live } from "./live.js";
import { session } from "./session.js";
import { pieces, t } from "./text.js";
import { TIMES, times } from "./times.js";
import { complain, dialog, languageSwitch, oneOf, throttle } from "./ui.js";
import { number } from "./format.js";

/** What loads the script of a view: `one` is the view of one thing of the section. */
const SECTIONS = [
  { path: "overview", key: "o", view: () => import("./views/overview.js") },
  { path: "tasks", key: "t", view: () => import("./views/tasks.js"), one: () => import("./views/task.js") },
  { path: "errors", key: "e", view: () => import("./views/errors.js") },
  { path: "types", key: "y", view: () => import("./views/types.js"), one: () => import("./views/type.js") },
  { path: "workflows", key: "k", view: () => import("./views/workflows.js"), one: () => import("./views/workflow.js") },
  { path: "waits", key: "a", view: () => import("./views/waits.js") },
  { path: "requests", key: "r", view: () => import("./views/requests.js") },
  { path: "groups", key: "g", view: () => import("./views/groups.js") },
  { path: "limits", key: "l", view: () => import("./views/limits.js"), one: () => import("./views/limit.js") },
  { path: "workers", key: "w", admin: true, view: () => import("./views/workers.js") },
  { path: "definitions", key: "f", view: () => import("./views/definitions.js"), one: () => import("./views/definitions.js") },
];

const palette = () => import("./palette.js");
const openPalette = () =>
  palette()
    .then((loaded) => loaded.openPalette({ sections: SECTIONS, help: shortcuts }))
    .catch(complain);

/** How long the first view has the server for itself at least, and how often the page looks whether all is answered (ms). */
const OTHERS_MS = 2000;
const LOOK_MS = 500;

/** Load all views once the first one has what it asked for, so that they still open after the server has gone away. */
let loadOthers = () => {
  loadOthers = () => {};
  const load = () => Promise.all([palette(), ...SECTIONS.flatMap(({ view, one }) => [view(), one?.()])]).catch(() => {});
  const look = () => (busy() ? setTimeout(look, LOOK_MS) : (globalThis.requestIdleCallback ?? setTimeout)(load));
  setTimeout(look, OTHERS_MS);
};

/** Sections that have another name now. */
const RENAMED = { dead: "errors" };

/** How many questions are counted, and how often at most (ms). */
const QUESTIONS = 100;
const QUESTIONS_MS = 5000;
/** How often errors are counted at most, how old an answer may be that others asked for, and how long after a failure it is counted (ms). */
const ERRORS_MS = 5000;
const SAME_MS = 3000;
const LATER_MS = 1500;

/** The keys that open the palette, as this machine calls them. */
const COMMAND = /Mac|iP/.test(navigator.platform) ? "⌘K" : "Ctrl K";

const nav = document.getElementById("nav");
const main = document.getElementById("main");
let leave = () => {};
let visit = 0;

// --- the address

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody has written the address by hand, with a `%` of its own
  }
}

/** Return `{section, id, query}` of `#/tasks/ID?status=failed`. */
function where() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [section = "", ...rest] = path.split("/");
  return { section: RENAMED[section] ?? (section || "overview"), id: rest.length ? decoded(rest.join("/")) : null, query: new URLSearchParams(query) };
}

/** Show the place in the address; `again` if it is shown already. */
async function show({ again = false } = {}) {
  const mine = ++visit;
  const place = where();
  const section = SECTIONS.find((one) => one.path === place.section);
  for (const link of nav.querySelectorAll(".links a")) {
    if (link.dataset.path === section?.path) {
      link.setAttribute("aria-current", "page");
      // Not scrollIntoView, because that would scroll the page too. Only a phone has a strip: to ask for its width lays the page out.
      const strip = link.parentElement;
      if (phone.matches && strip.scrollWidth > strip.clientWidth) strip.scrollLeft = link.offsetLeft - strip.clientWidth / 2 + link.clientWidth / 2;
    } else link.removeAttribute("aria-current");
  }
  // The script of the view is loaded meanwhile.
  const loading = (place.id ? section?.one : section?.view)?.();
  loading?.catch(() => {});
  const me = await session;
  if (mine !== visit) return;
  leave();
  // A dialog belongs to the page that it was opened on.
  if (!again) for (const one of document.querySelectorAll("dialog[open]")) one.close();
  const root = h("div", { class: "view" });
  const endings = [];
  leave = () => endings.splice(0).forEach((end) => end());
  main.replaceChildren(root);
  document.title = `${section ? (place.id ?? t(`frame.${section.path}`)) : t("frame.nowhere")} · Celeriac`;
  if (!again && mine > 1) scrollTo(0, 0);
  // As after loading a page: keyboard and screen reader users are at the beginning of the new view.
  if (mine > 1 && !again) main.focus({ preventScroll: true });
  // A page without details has no addresses below its own.
  if (!section || (place.id && !section.one)) {
    root.append(
      h("div", { class: "head" }, h("h1", {}, t("frame.nowhere"))),
      h("p", { class: "card empty" }, pieces("frame.nowhere_why", { address: h("code", {}, location.hash) })),
    );
    return;
  }
  if (section.admin && !me.admin) {
    root.append(
      h("div", { class: "head" }, h("h1", {}, t(`frame.${section.path}`))),
      h("div", { class: "card empty" }, h("strong", {}, t("frame.admins_only")), t("frame.admins_only_why")),
    );
    return;
  }
  let view;
  try {
    view = await loading;
  } catch {
    if (mine !== visit) return;
    root.append(
      h("div", { class: "head" }, h("h1", {}, t(`frame.${section.path}`))),
      h("div", { class: "card empty", dataset: { broken: "" } }, h("strong", {}, t("frame.unreachable"))),
    );
    return;
  }
  if (mine !== visit) return;
  view.show(root, { ...place, me, ending: (end) => endings.push(end) });
  loadOthers();
}

// --- the frame

const phone = matchMedia("(max-width: 900px)");

/** Return a button of the menu. The key is drawn by the style sheet: it is not a part of the button's name. */
function tool(name, text, onclick, key) {
  return h(
    "button",
    { type: "button", onclick, title: text, "aria-label": text, "aria-keyshortcuts": key.replace("⌘", "Meta+").replace("Ctrl ", "Control+") },
    icon(name),
    h("span", {}, text),
    h("kbd", { "aria-hidden": "true", dataset: { key } }),
  );
}

/** Return the switch for how times are written, with the zone that they are in. */
function timesSwitch() {
  const place = h("div", { class: "times" });
  // It takes a browser tens of milliseconds to write its first time. That is while the page waits for the server.
  const sayZone = (zone) => setTimeout(() => (zone.textContent = times.zoneText));
  const draw = () => {
    const held = place.contains(document.activeElement);
    const choices = TIMES.map((value) => ({ value, text: t(`times.${value}`) }));
    place.replaceChildren(
      oneOf(t("times.label"), choices, times.mode, (mode) => (times.mode = mode)),
      h("div", { class: "zone", title: t("times.zone") }),
    );
    sayZone(place.lastElementChild);
    if (held) place.querySelector("[aria-pressed='true']").focus();
  };
  draw();
  times.addEventListener("change", () => {
    draw();
    // What somebody is writing is worth more than how times are written around it.
    const fields = [...main.querySelectorAll("form input, form textarea")];
    if (!fields.some((field) => field.value !== field.defaultValue)) show({ again: true });
  });
  return place;
}

function build() {
  nav.setAttribute("aria-label", t("frame.menu"));
  document.getElementById("skip").textContent = t("frame.skip");
  const counts = {};
  const settings = h("div", { class: "settings" });
  nav.append(
    h("a", { class: "brand", href: "#/overview" }, mark(), "Celeriac"),
    h(
      "div",
      { class: "links" },
      SECTIONS.map((section) =>
        h(
          "a",
          { href: `#/${section.path}`, class: section.admin ? "admin-only" : null, dataset: { path: section.path } },
          icon(section.path),
          t(`frame.${section.path}`),
          (counts[section.path] = h("span", { class: "count hide-small" })),
        ),
      ),
    ),
    h(
      "div",
      { class: "tools" },
      h("div", { class: "link-state", dataset: { state: "connecting" } }, h("i"), h("span", {}, t("link.connecting"))),
      tool("search", t("palette.title"), openPalette, COMMAND),
      tool("theme", t("frame.theme"), () => globalThis.toggleTheme(), "L"),
      tool("help", t("frame.keys"), shortcuts, "?"),
      settings,
    ),
  );
  settings.append(
    h("a", { href: new URL("test-worker", ROOT).href, title: t("frame.worker_about") }, icon("plug"), h("span", {}, t("frame.worker"))),
    h("a", { href: new URL("docs", ROOT).href }, icon("docs"), h("span", {}, t("frame.docs"))),
    timesSwitch(),
    languageSwitch(),
  );
  // A phone has no room for them above the page, so they are below it.
  const place = () => (phone.matches ? document.getElementById("shell") : nav.querySelector(".tools")).append(settings);
  phone.addEventListener("change", place);
  place();
  const state = nav.querySelector(".link-state");
  let lost = false;
  live.on("link", (now) => {
    state.dataset.state = now;
    state.title = t(`link.${now}`);
    setText(state.lastElementChild, t(`link.${now}`));
    // Load again what could not be shown.
    if (now === "live" && lost && main.querySelector("[data-broken]")) show({ again: true });
    lost = now === "lost" || now === "silent" || (lost && now !== "live");
  });
  live.on("state", ({ groups, workers }) => {
    const waiting = groups.reduce((sum, group) => sum + group.waiting, 0);
    setText(counts.tasks, waiting ? number(waiting) : "");
    counts.tasks.title = t("frame.n_waiting", { n: waiting });
    setText(counts.groups, groups.length ? number(groups.length) : "");
    counts.groups.title = t("frame.n_groups", { n: groups.length });
    setText(counts.workers, workers.length || "");
    counts.workers.title = t("frame.n_online", { n: workers.length });
  });
  countQuestions(counts.waits);
  countErrors(counts.errors);
  fitToSession(nav.querySelector(".tools"));
  document.getElementById("skip").addEventListener("click", (event) => (event.preventDefault(), main.focus()));
}

/** Show how many questions the user may answer. They are asked for again when a task begins or ends to wait. */
function countQuestions(place) {
  let asking = new Set();
  const count = throttle(async () => {
    const { items, next_cursor: more } = await get("waits", { limit: QUESTIONS }).catch(() => ({ items: [] }));
    asking = new Set(items.map((item) => item.task_id));
    setText(place, items.length ? `${number(items.length)}${more ? "+" : ""}` : "");
    place.title = items.length ? t("frame.questions") : "";
  }, QUESTIONS_MS);
  live.on("told", count);
  live.on("tasks", ({ tasks }) => tasks.some((task) => (task.status === "waiting") !== asking.has(task.task_id)) && count());
}

/** Show how many tasks failed for good in the last day and were not retried. They are counted again when one fails or is retried. */
function countErrors(place) {
  place.classList.add("bad");
  let again = null;
  // The overview asks too when it opens. After a failure no older answer will do.
  let old = SAME_MS;
  const count = throttle(async () => {
    const asked = lastErrors(old);
    old = 0;
    const { total } = await asked.catch(() => ({ total: { dead: 0 } }));
    setText(place, total.dead ? number(total.dead) : "");
    place.title = total.dead ? t("frame.n_failed", { n: total.dead }) : "";
  }, ERRORS_MS);
  live.on("told", count);
  // The history follows the live stream with a short delay.
  const soon = () => (clearTimeout(again), (again = setTimeout(count, LATER_MS)));
  live.on("tasks", ({ tasks }) => tasks.some((task) => task.status === "failed" || task.attempt > 1 || task.type === "celeriac.bulk") && soon());
}

/** Hide what only admins may see or do, and add a button to sign out if the user has signed in. */
async function fitToSession(tools) {
  const { signed_in: signedIn, user_id: user, admin, submit } = await session;
  if (!admin) document.documentElement.dataset.role = "user";
  if (!submit) document.documentElement.dataset.submit = "no";
  if (!signedIn) return;
  const out = async () => {
    // Not a form, because without a referrer a browser sends no origin for it.
    await fetch(new URL("sign-out", ROOT), { method: "POST", redirect: "manual" });
    location.reload();
  };
  const text = user ? t("frame.sign_out_user", { user }) : t("frame.sign_out");
  const button = h("button", { type: "button", onclick: out, "aria-label": text, title: text }, icon("out"), h("span", { class: "clip" }, text));
  tools.insertBefore(button, tools.querySelector(".settings"));
}

// --- keys

const KEYS = [
  [[COMMAND], t("palette.title")],
  [["/"], t("keys.search")],
  [["j", "k"], t("keys.rows")],
  [["Enter"], t("keys.open")],
  [["x"], t("keys.select")],
  [["r"], t("keys.retry")],
  [["c"], t("keys.cancel")],
  [["y"], t("keys.copy_id")],
  [["Esc"], t("keys.leave")],
  [["L"], t("frame.theme")],
  [["Z"], t("keys.times")],
  [["?"], t("keys.help")],
];

function shortcuts() {
  if (document.querySelector("dialog[open]")) return;
  const user = document.documentElement.dataset.role === "user";
  const keys = [...KEYS, ...SECTIONS.filter((section) => !(section.admin && user)).map((section) => [["g", section.key], t(`frame.${section.path}`)])];
  dialog((close) =>
    h(
      "div",
      { class: "inside" },
      h("h2", {}, t("keys.title")),
      h(
        "dl",
        { class: "shortcuts" },
        keys.map(([pressed, text]) => [
          h(
            "dt",
            {},
            pressed.map((key) => h("kbd", {}, key)),
          ),
          h("dd", {}, text),
        ]),
      ),
      h("footer", {}, h("button", { class: "button", type: "button", onclick: () => close(null) }, t("common.close"))),
    ),
  );
}

let going = 0;

function onKey(event) {
  if ((event.metaKey || event.ctrlKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openPalette();
    return;
  }
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape" && typing && !event.target.closest("dialog")) {
    event.target.blur();
    return;
  }
  if (typing || event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (Date.now() - going < 1200) {
    going = 0;
    const section = SECTIONS.find((one) => one.key === event.key);
    if (section) {
      event.preventDefault();
      location.hash = `#/${section.path}`;
      return;
    }
  }
  if (event.key === "g") going = Date.now();
  else if (event.key === "?") shortcuts();
  else if (event.key.toLowerCase() === "l") globalThis.toggleTheme();
  else if (event.key.toLowerCase() === "z") times.mode = TIMES[(TIMES.indexOf(times.mode) + 1) % TIMES.length];
  else if (event.key === "/") {
    event.preventDefault();
    const field = main.querySelector("[data-search]");
    if (field) field.focus();
    else {
      location.hash = "#/tasks?focus=search";
    }
  } else if (event.key === "Escape" && where().id) history.back();
}

addEventListener("hashchange", () => show());
addEventListener("keydown", onKey);
addEventListener("signedout", () => location.reload());
build();
live.start();
show();
