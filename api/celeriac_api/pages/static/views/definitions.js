// Definitions: what makes tasks by a schedule.

import { get, post, segment } from "../api.js";
import { h, statusBadge } from "../dom.js";
import { ago, fullTime } from "../format.js";
import { complain, confirm, note } from "../ui.js";

export function show(root, { ending }) {
  const body = h("tbody", {});
  const table = h("section", { class: "card scroll-x", hidden: true }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ["Definition", "Status", "Schedule", "Next", "Last", ""].map((name) => h("th", {}, name)))), body));
  const empty = h("div", { class: "card empty", hidden: true });
  root.append(h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, "Definitions"), h("p", {}, "Tasks that are made by a schedule: when, and what they last did."))), table, empty);

  async function act(item, action, text) {
    if (action === "cancel" && !(await confirm({ title: "Cancel this definition?", text: "It makes no more tasks.", action: "Cancel it", danger: true }))) return;
    try {
      await post(`definitions/${segment(item.id)}/${action}`);
      note(text);
      await load();
    } catch (error) {
      complain(error);
    }
  }

  async function load() {
    try {
      const found = await get("definitions", { limit: 200 });
      const items = found.items ?? found.definitions ?? [];
      table.hidden = items.length === 0;
      empty.hidden = items.length > 0;
      empty.replaceChildren(h("strong", {}, "No definitions"), "Make one: ", h("code", {}, "celeriac definitions create --help"));
      body.replaceChildren(...items.map((item) => row(item)));
    } catch (error) {
      table.hidden = true;
      empty.hidden = false;
      empty.replaceChildren(h("strong", {}, "No schedules here"), error.status === 404 ? "This installation offers none." : error.message);
    }
  }

  function row(raw) {
    const item = { ...raw, id: raw.id ?? raw.definition_id };
    const next = item.next_run_at ?? item.next_at ?? item.next?.[0] ?? null;
    const last = item.last_run_at ?? item.last_at ?? item.last?.[0] ?? null;
    const moment = (at) => (at ? h("time", { datetime: at, title: fullTime(at) }, ago(at)) : "–");
    const paused = item.status === "paused";
    const button = (text, action, done) => h("button", { class: "button small quiet", type: "button", onclick: () => act(item, action, done) }, text);
    return h("tr", {},
      h("td", {}, h("a", { href: `#/tasks?definition_id=${segment(item.id)}` }, item.name ?? item.title ?? item.id), h("div", { class: "small faint" }, item.task ?? item.task_type ?? item.group ?? "")),
      h("td", {}, statusBadge(String(item.status ?? "active").toLowerCase())),
      h("td", { class: "mono" }, typeof item.schedule === "string" ? item.schedule : JSON.stringify(item.schedule ?? item.trigger ?? "")),
      h("td", { class: "nowrap" }, moment(next)), h("td", { class: "nowrap" }, moment(last)),
      h("td", { class: "actions-cell" }, button("Run now", "trigger", "It runs now"), paused ? button("Resume", "resume", "It goes on") : button("Pause", "pause", "It is paused"), button("Cancel", "cancel", "It is cancelled")));
  }

  load();
  const timer = setInterval(() => document.hidden || load(), 10000);
  ending(() => clearInterval(timer));
}
