// The frame of the dashboard: navigation, routes in the address after `#`, keys, the state of the live stream.

import { ROOT, get } from "./api.js";
import { h, icon, setText } from "./dom.js";
import { live } from "./live.js";
import { session } from "./session.js";
import { dialog, throttle } from "./ui.js";
import { number } from "./format.js";
import * as dead from "./views/dead.js";
import * as definitions from "./views/definitions.js";
import * as groups from "./views/groups.js";
import * as limit from "./views/limit.js";
import * as limits from "./views/limits.js";
import * as overview from "./views/overview.js";
import * as requests from "./views/requests.js";
import * as task from "./views/task.js";
import * as tasks from "./views/tasks.js";
import * as waits from "./views/waits.js";
import * as workers from "./views/workers.js";
import * as workflow from "./views/workflow.js";
import * as workflows from "./views/workflows.js";

// All views are loaded at once, so that they still open after the server has gone away.
const SECTIONS = [
  { path: "overview", name: "Overview", key: "o", view: overview },
  { path: "tasks", name: "Tasks", key: "t", view: tasks, one: task },
  { path: "workflows", name: "Workflows", key: "k", view: workflows, one: workflow },
  { path: "waits", name: "Waiting for you", key: "a", view: waits },
  { path: "requests", name: "Requests", key: "r", view: requests },
  { path: "groups", name: "Groups", key: "g", view: groups },
  { path: "limits", name: "Limits", key: "l", view: limits, one: limit },
  { path: "workers", name: "Workers", key: "w", admin: true, view: workers },
  { path: "dead", name: "Dead letters", key: "d", view: dead },
  { path: "definitions", name: "Definitions", key: "f", view: definitions },
];

/** How many questions are counted, and how often at most (ms). */
const QUESTIONS = 100;
const QUESTIONS_MS = 5000;

const nav = document.getElementById("nav");
const main = document.getElementById("main");
let leave = () => {};
let visit = 0;

// --- the address

/** Return `{section, id, query}` of `#/tasks/ID?status=failed`. */
function where() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [section = "", ...rest] = path.split("/");
  return { section: section || "overview", id: rest.length ? decodeURIComponent(rest.join("/")) : null, query: new URLSearchParams(query) };
}

async function show() {
  const mine = ++visit;
  const place = where();
  const section = SECTIONS.find((one) => one.path === place.section) ?? SECTIONS[0];
  for (const link of nav.querySelectorAll(".links a")) {
    if (link.dataset.path === section.path) {
      link.setAttribute("aria-current", "page");
      // Not scrollIntoView, because that would scroll the page too.
      const strip = link.parentElement;
      if (strip.scrollWidth > strip.clientWidth) strip.scrollLeft = link.offsetLeft - strip.clientWidth / 2 + link.clientWidth / 2;
    } else link.removeAttribute("aria-current");
  }
  const me = await session;
  if (mine !== visit) return;
  leave();
  const root = h("div", { class: "view" });
  const endings = [];
  leave = () => endings.splice(0).forEach((end) => end());
  main.replaceChildren(root);
  document.title = `${place.id ?? section.name} · Celeriac`;
  scrollTo(0, 0);
  // As after loading a page: keyboard and screen reader users are at the beginning of the new view.
  if (mine > 1) main.focus({ preventScroll: true });
  if (section.admin && !me.admin) {
    root.append(
      h("div", { class: "head" }, h("h1", {}, section.name)),
      h("div", { class: "card empty" }, h("strong", {}, "Only admins see this"), "It shows the tasks of all users."),
    );
    return;
  }
  const view = (place.id && section.one) || section.view;
  view.show(root, { ...place, me, ending: (end) => endings.push(end) });
}

// --- the frame

function build() {
  const counts = {};
  nav.append(
    h("a", { class: "brand", href: "#/overview" }, h("img", { src: new URL("mark.svg", import.meta.url).href, alt: "" }), "Celeriac"),
    h(
      "div",
      { class: "links" },
      SECTIONS.map((section) =>
        h(
          "a",
          { href: `#/${section.path}`, class: section.admin ? "admin-only" : null, dataset: { path: section.path } },
          icon(section.path),
          section.name,
          (counts[section.path] = h("span", { class: "count hide-small" })),
        ),
      ),
    ),
    h(
      "div",
      { class: "tools" },
      h("div", { class: "link-state", dataset: { state: "connecting" } }, h("i"), h("span", {}, "Connecting")),
      h("a", { href: new URL("test-worker", ROOT).href, title: "A worker in this browser" }, icon("plug"), h("span", {}, "Test worker")),
      h("a", { href: new URL("docs", ROOT).href, title: "API reference" }, icon("docs"), h("span", {}, "API reference")),
      h(
        "button",
        { type: "button", onclick: () => globalThis.toggleTheme(), title: "Light or dark" },
        icon("theme"),
        h("span", {}, "Light or dark"),
        h("kbd", { "aria-hidden": "true" }, "L"),
      ),
      h(
        "button",
        { type: "button", onclick: shortcuts, title: "Keyboard shortcuts" },
        icon("help"),
        h("span", {}, "Shortcuts"),
        h("kbd", { "aria-hidden": "true" }, "?"),
      ),
    ),
  );
  const state = nav.querySelector(".link-state");
  const texts = { live: "Live", lost: "Connection lost", silent: "Store does not answer", connecting: "Connecting", paused: "Paused" };
  let lost = false;
  live.on("link", (now) => {
    state.dataset.state = now;
    state.title = texts[now];
    setText(state.lastElementChild, texts[now]);
    // Load again what could not be shown.
    if (now === "live" && lost && main.querySelector("[data-broken]")) show();
    lost = now === "lost" || now === "silent" || (lost && now !== "live");
  });
  live.on("state", ({ groups, workers }) => {
    const waiting = groups.reduce((sum, group) => sum + group.waiting, 0);
    setText(counts.groups, waiting ? number(waiting) : "");
    counts.groups.title = `${waiting} waiting`;
    setText(counts.workers, workers.length || "");
    counts.workers.title = `${workers.length} online`;
  });
  countQuestions(counts.waits);
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
    place.title = items.length ? "Questions to answer" : "";
  }, QUESTIONS_MS);
  live.on("told", count);
  live.on("tasks", ({ tasks }) => tasks.some((task) => (task.status === "waiting") !== asking.has(task.task_id)) && count());
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
  tools.append(
    h(
      "button",
      { type: "button", onclick: out, "aria-label": "Sign out", title: user ? `Sign out ${user}` : "Sign out" },
      icon("out"),
      h("span", { class: "clip" }, user ? `Sign out ${user}` : "Sign out"),
    ),
  );
}

// --- keys

const KEYS = [
  [["/"], "Search"],
  [["j", "k"], "Next, previous row"],
  [["Enter"], "Open the selected row"],
  [["Esc"], "Leave the field, or go back"],
  [["L"], "Light or dark"],
  [["?"], "This help"],
];

function shortcuts() {
  if (document.querySelector("dialog[open]")) return;
  const user = document.documentElement.dataset.role === "user";
  const keys = [...KEYS, ...SECTIONS.filter((section) => !(section.admin && user)).map((section) => [["g", section.key], section.name])];
  dialog((close) =>
    h(
      "div",
      { class: "inside" },
      h("h2", {}, "Keyboard shortcuts"),
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
      h("footer", {}, h("button", { class: "button", type: "button", onclick: () => close(null) }, "Close")),
    ),
  );
}

let going = 0;

function onKey(event) {
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
  else if (event.key === "/") {
    event.preventDefault();
    const field = main.querySelector("[data-search]");
    if (field) field.focus();
    else {
      location.hash = "#/tasks?focus=search";
    }
  } else if (event.key === "Escape" && where().id) history.back();
}

addEventListener("hashchange", show);
addEventListener("keydown", onKey);
addEventListener("signedout", () => location.reload());
build();
live.start();
show();
