// One workflow: its graph, which follows each status, its nodes, and the actions on it.

import { address, get, onceKey, post, segment } from "../api.js";
import { h, icon, setText, statusBadge } from "../dom.js";
import { ago, clockTime, duration, fullTime, number, ranFor } from "../format.js";
import { countsText, countStatuses, Graph } from "../graph/view.js";
import { live } from "../live.js";
import { VirtualList } from "../table.js";
import { complain, confirm, copy, debounce, note, throttle } from "../ui.js";

const STATUSES = ["failed", "processing", "retrying", "pending", "waiting", "scheduled", "completed", "cancelled"];
const FINAL = ["completed", "failed", "cancelled"];
/** After this time a refused stream is opened again (ms). */
const AGAIN_MS = 3000;
/** How many nodes are named in the details of one, and how long a list may be without a scroller of its own (rows). */
const NAMED = 8;
const SHORT = 7;

/** Return the nodes of a workflow by status, as a bar. */
export function countsBar(counts) {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const order = ["completed", "failed", "cancelled", "processing", "retrying", "pending", "scheduled", "waiting"];
  return h(
    "div",
    { class: "counts-bar", role: "img", "aria-label": countsText(counts) || "no nodes" },
    order.filter((status) => counts[status]).map((status) => h("i", { dataset: { status }, style: { width: `${(100 * counts[status]) / total}%` } })),
  );
}

const moment = (at) => h("time", { datetime: at, title: fullTime(at) }, clockTime(at));
const nameOf = (one) => (typeof one === "string" ? one : one.node);

export function show(root, { id, ending }) {
  const path = `workflows/${segment(id)}`;
  let workflow = null;
  let children = new Map();
  let source = null;
  let position = "";
  let again = null;
  let gone = false;
  let chosen = null;
  const filter = { status: "", q: "" };

  const badge = statusBadge("running");
  badge.hidden = true;
  const title = h("span", { class: "clip-lines" }, "Workflow");
  const actions = h("div", { class: "actions" });
  const sums = h("div", { class: "sums" });
  const graph = new Graph({ label: "Graph of the workflow", onchoose: choose, onopen: open });
  const details = h("div", { class: "node-details" });
  const tabs = h("div", { class: "status-tabs", role: "group", "aria-label": "Status" });
  const search = h("input", { class: "field", type: "search", placeholder: "Name, type, or words of an error", "aria-label": "Search", dataset: { search: "" }, autocomplete: "off", spellcheck: "false" });
  const list = new VirtualList({
    render: renderNode,
    key: (node) => node.task_id,
    href: (node) => `#/tasks/${segment(node.task_id)}`,
    label: "Nodes",
  });
  const none = h("div", { class: "empty", hidden: true }, h("strong", {}, "No node matches"), "Try another status or other words.");
  const nodesCard = h(
    "section",
    { class: "card list nodes" },
    h("div", { class: "columns", "aria-hidden": "true" }, ["Status", "Node", "Type", "", "Ran", "Ended"].map((name, i) => h("span", { class: i > 3 ? "number" : "" }, name))),
    h("div", { class: "stage" }, none, list.scroller),
  );
  const body = h(
    "div",
    { class: "stack", hidden: true },
    sums,
    h(
      "section",
      { class: "card graph-card" },
      h("header", {}, h("h2", {}, "Graph"), graph.tools),
      h("div", { class: "graph-body" }, graph.element, details),
    ),
    h("div", { class: "filters" }, h("h2", { class: "grow" }, "Nodes"), h("div", { class: "search" }, icon("search"), search, h("kbd", { class: "hide-small" }, "/"))),
    tabs,
    nodesCard,
  );

  root.append(
    h("nav", { class: "crumbs", "aria-label": "Where you are" }, h("a", { href: "#/workflows" }, "Workflows"), " / ", id),
    h(
      "div",
      { class: "task-head" },
      h(
        "div",
        { class: "grow" },
        h("h1", {}, title, badge),
        h("span", { class: "id" }, id, h("button", { class: "button small quiet icon", type: "button", "aria-label": "Copy the id", title: "Copy the id", onclick: () => copy(id, "Id copied") }, icon("copy"))),
      ),
      actions,
    ),
    body,
  );

  // --- drawing

  function draw() {
    setText(title, workflow.name || "Workflow");
    document.title = `${workflow.name || "Workflow"} · Celeriac`;
    body.hidden = false;
    children = new Map(Object.keys(workflow.nodes).map((name) => [name, []]));
    for (const [name, node] of Object.entries(workflow.nodes)) for (const one of node.after ?? []) children.get(nameOf(one))?.push(name);
    graph.set(workflow.nodes);
    drawState();
  }

  function drawState() {
    const { status, nodes } = workflow;
    badge.hidden = false;
    badge.dataset.status = status;
    setText(badge, status);
    const counts = countStatuses(Object.values(nodes));
    const ended = workflow.finished_at;
    const fact = (name, value) => (value ? h("span", {}, h("span", { class: "faint" }, `${name} `), value) : null);
    sums.replaceChildren(
      countsBar(counts),
      h(
        "div",
        { class: "sums-line small" },
        h("span", {}, `${number(Object.keys(nodes).length)} ${Object.keys(nodes).length === 1 ? "node" : "nodes"}: ${countsText(counts)}`),
        fact("Submitted", moment(workflow.created_at)),
        fact("Ended", ended && moment(ended)),
        fact("Took", ended && duration(Date.parse(ended) - Date.parse(workflow.created_at))),
        fact("User", workflow.user_id && h("span", { class: "clip" }, workflow.user_id)),
        fact("Metadata", Object.keys(workflow.metadata ?? {}).length ? h("code", {}, JSON.stringify(workflow.metadata)) : null),
      ),
    );
    drawActions();
    drawTabs(counts);
    drawNodes();
    drawDetails();
  }
  const stateSoon = throttle(() => workflow && drawState(), 250);

  function drawActions() {
    const { status } = workflow;
    const button = (text, onclick, kind = "") => h("button", { class: `button submit-only ${kind}`, type: "button", onclick }, text);
    const wanted = status === "running" ? [button("Cancel workflow", cancel, "danger")] : status === "completed" ? [] : [button("Retry", retry, "primary")];
    // Do not replace a button that a user may be pressing.
    if (actions.dataset.key !== status) {
      actions.dataset.key = status;
      actions.replaceChildren(...wanted);
    }
  }

  function drawTabs(counts) {
    const shown = ["", ...STATUSES.filter((status) => counts[status] || status === filter.status)];
    const wanted = JSON.stringify([shown.map((status) => counts[status]), shown, filter.status]);
    if (tabs.dataset.key === wanted) return;
    tabs.dataset.key = wanted;
    const held = tabs.contains(document.activeElement) ? document.activeElement.dataset.status : null;
    tabs.replaceChildren(
      ...shown.map((status) =>
        h(
          "button",
          {
            type: "button",
            dataset: { status },
            "aria-pressed": String(status === filter.status),
            onclick: () => {
              filter.status = status;
              drawState();
            },
          },
          status ? `${status[0].toUpperCase()}${status.slice(1)} ${number(counts[status] ?? 0)}` : "All",
        ),
      ),
    );
    if (held !== null) tabs.querySelector(`[data-status="${held}"]`)?.focus();
  }

  function drawNodes() {
    const words = filter.q.toLowerCase();
    const found = Object.entries(workflow.nodes)
      .map(([name, node]) => Object.assign(node, { name }))
      .filter((node) => !filter.status || node.status === filter.status)
      .filter((node) => !words || [node.name, node.type, node.error?.message ?? "", node.task_id].some((text) => text.toLowerCase().includes(words)));
    none.hidden = found.length > 0;
    list.scroller.hidden = found.length === 0;
    nodesCard.classList.toggle("short", found.length <= SHORT);
    list.set(found);
  }

  function renderNode(node, row) {
    const failed = node.error && node.status !== "completed";
    const waits = (node.after ?? []).filter((one) => !FINAL.includes(workflow.nodes[nameOf(one)]?.status));
    const about = failed ? node.error.message : node.status === "waiting" && waits.length ? `waits for ${waits.slice(0, 3).map(nameOf).join(", ")}${waits.length > 3 ? ` and ${number(waits.length - 3)} more` : ""}` : "";
    row.replaceChildren(
      h("span", {}, statusBadge(node.status)),
      h("span", { class: "what" }, h("b", { class: "clip", title: node.name }, node.name)),
      h("span", { class: "muted clip" }, node.type),
      h("span", { class: `about clip ${failed ? "bad" : ""}` }, about),
      h("span", { class: "time" }, node.started_at ? duration(ranFor({ updated_at: node.finished_at ?? new Date().toISOString(), ...node })) : ""),
      h("span", { class: "time" }, node.finished_at ? ago(node.finished_at) : ""),
    );
  }

  /** The chosen box: one node, or several that are shown as one. */
  function choose(item) {
    chosen = item;
    if (workflow) drawDetails();
  }

  function open(item) {
    if (item.kind === "node") location.hash = `#/tasks/${segment(workflow.nodes[item.names[0]].task_id)}`;
    else graph.open(item.key);
  }

  function drawDetails() {
    details.hidden = !chosen;
    const { names = [] } = chosen ?? {};
    const near = names.length === 1 ? [...(workflow.nodes[names[0]].after ?? []).map(nameOf), ...(children.get(names[0]) ?? [])] : [];
    const state = JSON.stringify([chosen?.key, names.length === 1 && workflow.nodes[names[0]], [...names, ...near].map((name) => workflow.nodes[name]?.status)]);
    // Do not replace a button that a user may be pressing.
    if (details.state === state) return;
    details.state = state;
    const held = details.contains(document.activeElement);
    if (!chosen) details.replaceChildren();
    else if (chosen.kind === "node") drawNode(names[0]);
    else drawSeveral();
    if (held) details.querySelector("a, button")?.focus();
  }

  const link = (name) => h("button", { class: "link", type: "button", onclick: () => graph.show(name) }, h("span", { class: "clip" }, name));
  const named = (names, more = () => null) => [
    ...names.slice(0, NAMED).map((name) => h("div", { class: "named" }, h("i", { class: "dot", dataset: { status: workflow.nodes[name]?.status }, title: workflow.nodes[name]?.status }), link(name), more(name))),
    names.length > NAMED ? h("div", { class: "muted" }, `and ${number(names.length - NAMED)} more`) : null,
  ];

  function drawNode(name) {
    const node = workflow.nodes[name];
    const when = new Map((node.after ?? []).map((one) => [nameOf(one), one.when ?? "completed"]));
    const words = { completed: null, failed: "must fail", ended: "must end" };
    const fact = (text, value) => (value && (!Array.isArray(value) || value.some(Boolean)) ? h("div", {}, h("dt", {}, text), h("dd", {}, value)) : null);
    details.replaceChildren(
      h("h3", {}, name),
      h("div", {}, statusBadge(node.status), " ", h("span", { class: "chip" }, h("span", { class: "clip", title: node.type }, node.type))),
      node.error ? h("p", { class: "error-text" }, h("b", {}, node.error.code), ` ${node.error.message.slice(0, 400)}`) : "",
      h(
        "dl",
        { class: "facts" },
        fact("Started", node.started_at && moment(node.started_at)),
        fact("Ended", node.finished_at && moment(node.finished_at)),
        fact("Ran", node.started_at && duration(ranFor({ updated_at: node.finished_at ?? new Date().toISOString(), ...node }))),
        fact("After", named([...when.keys()], (one) => words[when.get(one)] && h("span", { class: "muted" }, words[when.get(one)]))),
        fact("Before", named(children.get(name) ?? [])),
      ),
      h("a", { class: "button small", href: `#/tasks/${segment(node.task_id)}` }, "Open the task"),
    );
  }

  function drawSeveral() {
    const { key, kind, names } = chosen;
    const counts = countStatuses(names.map((name) => workflow.nodes[name]));
    const urgent = names.filter((name) => ["failed", "processing", "retrying"].includes(workflow.nodes[name].status));
    urgent.sort((a, b) => STATUSES.indexOf(workflow.nodes[a].status) - STATUSES.indexOf(workflow.nodes[b].status));
    details.replaceChildren(
      h("h3", {}, `${number(names.length)} nodes`),
      h("p", { class: "muted" }, kind === "run" ? "They run one after the other." : "They have the same type, and wait for the same nodes."),
      countsBar(counts),
      h("p", {}, countsText(counts)),
      h(
        "div",
        {},
        urgent.slice(0, NAMED).map((name) =>
          h("div", { class: "named" }, h("i", { class: "dot", dataset: { status: workflow.nodes[name].status } }), h("a", { class: "clip", href: `#/tasks/${segment(workflow.nodes[name].task_id)}` }, name)),
        ),
      ),
      h("button", { class: "button small", type: "button", onclick: () => graph.open(key) }, `Show the ${number(names.length)} nodes`),
    );
  }

  // --- reading

  async function load() {
    const found = await get(path);
    if (gone) return;
    workflow = found;
    draw();
  }
  const loadSoon = throttle(() => load().catch(complain), 500);

  /** Follow the changes of the nodes. The stream continues where it was after a lost connection. */
  function follow() {
    source?.close();
    clearTimeout(again);
    if (gone) return;
    source = new EventSource(address(`${path}/stream`, { last_event_id: position }));
    const mine = source;
    mine.addEventListener("node", (message) => {
      position = message.lastEventId || position;
      const { node: name, status, started_at: started, finished_at: finished, error, timestamp_ms: at } = JSON.parse(message.data);
      const node = workflow.nodes[name];
      if (!node) return loadSoon();
      // The stream begins with what the workflow as it was read has already.
      if (at < Date.parse(node.finished_at ?? node.started_at)) return undefined;
      Object.assign(node, { status, started_at: started, finished_at: finished, error });
      graph.update(name);
      stateSoon();
      return undefined;
    });
    mine.addEventListener("done", (message) => {
      position = message.lastEventId || position;
      mine.close();
      if (source === mine) source = null;
      // It may have been an earlier end: a retry goes on after it.
      resume();
    });
    mine.onerror = () => {
      if (mine.readyState !== EventSource.CLOSED || source !== mine) return;
      // It was refused: the server is starting, or its store is unavailable.
      source = null;
      again = setTimeout(resume, AGAIN_MS);
    };
  }

  async function resume() {
    try {
      await load();
      if (workflow.status === "running") follow();
    } catch (failure) {
      if (!gone && failure.status !== 404) again = setTimeout(resume, AGAIN_MS);
    }
  }
  /** Another user may have retried it after its end. */
  const look = throttle(() => resume(), 1000);

  // --- acting

  async function act(work, done) {
    try {
      await work();
      note(done);
      await load();
      if (workflow.status === "running" && !source) follow();
    } catch (failure) {
      complain(failure);
    }
  }

  async function cancel() {
    if (await confirm({ title: "Cancel this workflow?", text: "Nodes that have not begun will not run. Those that run are asked to stop.", action: "Cancel workflow", danger: true }))
      await act(() => post(`${path}/cancel`), "Cancellation requested");
  }

  async function retry() {
    const text = workflow.status === "cancelled" ? "The cancelled nodes run again." : "The failed nodes run again, and those that they had cancelled after them. Nodes that are completed keep their results.";
    if (await confirm({ title: "Run this workflow again?", text, action: "Retry" })) {
      const key = onceKey();
      await act(() => post(`${path}/retry`, {}, { headers: { "Idempotency-Key": key } }), "The workflow runs again");
    }
  }

  // --- life

  search.addEventListener(
    "input",
    debounce(() => {
      filter.q = search.value.trim();
      drawNodes();
    }, 150),
  );
  load()
    .then(() => workflow && workflow.status === "running" && follow())
    .catch((failure) => {
      body.replaceWith(
        h("div", { class: "card empty", dataset: failure.status === 404 ? {} : { broken: "" } }, h("strong", {}, failure.status === 404 ? "This workflow does not exist" : "Not available"), failure.message),
      );
    });
  ending(live.on("tasks", ({ tasks }) => workflow && !source && tasks.some((one) => one.workflow_id === id) && look()));
  ending(live.on("told", () => workflow && !source && look()));
  const timer = setInterval(() => workflow && !document.hidden && workflow.status === "running" && drawNodes(), 1000);
  ending(() => ((gone = true), clearInterval(timer), clearTimeout(again), source?.close(), graph.end(), list.end()));
}
