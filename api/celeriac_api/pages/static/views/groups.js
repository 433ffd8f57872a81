// Groups: what waits and runs, who serves them; hold one up and let it go on.

import { get, post, segment } from "../api.js";
import { bar, h, statusBadge } from "../dom.js";
import { ago, number } from "../format.js";
import { live } from "../live.js";
import { complain, confirm, note } from "../ui.js";

export function show(root, { ending }) {
  const body = h("tbody", {});
  const rows = new Map();
  root.append(
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, "Groups"), h("p", {}, "A group is who runs a task. While one is paused its tasks are accepted and wait."))),
    h("section", { class: "card scroll-x" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, h("th", {}, "Group"), h("th", { class: "number" }, "Waiting"), h("th", { class: "hide-small" }, "Of its limit"), h("th", { class: "number hide-small" }, "Running"), h("th", { class: "number" }, "Workers"), h("th", { class: "admin-only" }, h("span", { class: "visually-hidden" }, "Actions")))),
      body)),
  );

  async function pause(name) {
    const text = await confirm({ title: `Pause ${name}?`, text: "What runs goes on. What waits, and what comes, waits until you resume.", action: "Pause", noteLabel: "Note for others (optional)" });
    if (text === null) return;
    await change(name, "pause", { note: text || null }, `${name} is paused`);
  }

  async function change(name, action, body_, done) {
    try {
      const group = await post(`groups/${segment(name)}/${action}`, body_);
      draw((live.groups ?? []).map((one) => (one.name === name ? group : one)));
      note(done);
    } catch (error) {
      complain(error);
    }
  }

  function draw(groups) {
    const seen = new Set();
    for (const group of groups) {
      seen.add(group.name);
      const key = JSON.stringify(group);
      const known = rows.get(group.name);
      if (known?.key === key) continue;
      const share = (100 * group.waiting) / group.max_queue_length;
      const cells = [
        h("td", {}, h("a", { href: `#/tasks?queue=${segment(group.name)}` }, h("b", {}, group.name)),
          group.paused ? h("div", { class: "small muted" }, statusBadge("paused"), ` ${group.paused.at ? `${ago(group.paused.at)} ago`.replace("now ago", "now") : ""}${group.paused.note ? ` · ${group.paused.note}` : ""}`) : null),
        h("td", { class: "number" }, number(group.waiting)),
        h("td", { class: "hide-small", title: `at most ${number(group.max_queue_length)} may wait` }, bar(Math.max(share, group.waiting ? 1.5 : 0), share > 80 ? "failed" : null, "of its limit")),
        h("td", { class: "number hide-small" }, number(group.running)),
        h("td", { class: "number" }, group.workers ? number(group.workers) : group.waiting ? h("span", { class: "error-text" }, "none") : "0"),
        h("td", { class: "actions-cell admin-only" }, group.paused
          ? h("button", { class: "button small primary", type: "button", onclick: () => change(group.name, "resume", {}, `${group.name} goes on`) }, "Resume")
          : h("button", { class: "button small", type: "button", onclick: () => pause(group.name) }, "Pause")),
      ];
      if (known) {
        known.row.replaceChildren(...cells);
        known.key = key;
      } else {
        const row = h("tr", { dataset: { group: group.name } }, cells);
        rows.set(group.name, { row, key });
      }
    }
    for (const [name, { row }] of rows) {
      if (!seen.has(name)) {
        row.remove();
        rows.delete(name);
      }
    }
    const order = groups.map((group) => rows.get(group.name).row);
    if (order.some((row, i) => body.children[i] !== row)) body.replaceChildren(...order);
  }

  if (live.groups) draw(live.groups);
  else get("groups").then(({ groups }) => draw(groups)).catch(complain);
  ending(live.on("state", ({ groups }) => draw(groups)));
}
