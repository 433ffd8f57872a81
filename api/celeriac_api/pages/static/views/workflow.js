// One workflow: its graph, which follows each status, its nodes, and the actions on it.

import { address, get, onceKey, post, segment } from "../api.js";
import { h, icon, setText, statusBadge } from "../dom.js";
import { ago, clockTime, duration, exactTime, number, ranFor } from "../format.js";
import { countsText, countStatuses, Graph } from "../graph/view.js";
import { live } from "../live.js";
import { VirtualList } from "../table.js";
import { capital, t } from "../text.js";
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
    { class: "counts-bar", role: "img", "aria-label": countsText(counts) || t("workflow.no_nodes") },
    order.filter((status) => counts[status]).map((status) => h("i", { dataset: { status }, style: { width: `${(100 * counts[status]) / total}%` } })),
  );
}

const moment = (at) => h("time", { datetime: at, title: exactTime(at) }, clockTime(at));
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
  const title = h("span", { class: "clip-lines" }, t("workflow.one"));
  const actions = h("div", { class: "actions" });
  const sums = h("div", { class: "sums" });
  const graph = new Graph({ label: t("workflow.graph_label"), onchoose: choose, onopen: open });
  const details = h("div", { class: "node-details" });
  const tabs = h("div", { class: "status-tabs", role: "group", "aria-label": t("common.status") });
  const search = h("input", { class: "field", type: "search", placeholder: t("workflow.search"), "aria-label": t("common.search"), dataset: { search: "" }, autocomplete: "off", spellcheck: "false" });
  const list = new VirtualList({
    render: renderNode,
    key: (node) => node.task_id,
    href: (node) => `#/tasks/${segment(node.task_id)}`,
    label: t("workflow.nodes"),
  });
  const none = h("div", { class: "empty", hidden: true }, h("strong", {}, t("workflow.no_match")), t("workflow.no_match_about"));
  const nodesCard = h(
    "section",
    { class: "card list nodes" },
    h("div", { class: "columns", "aria-hidden": "true" }, [t("common.status"), t("workflow.col_node"), t("workflow.col_type"), "", t("workflow.col_ran"), t("workflow.col_ended")].map((name, i) => h("span", { class: i > 3 ? "number" : "" }, name))),
    h("div", { class: "stage" }, none, list.scroller),
  );
  const body = h(
    "div",
    { class: "stack", hidden: true },
    sums,
    h(
      "section",
      { class: "card graph-card" },
      h("header", {}, h("h2", {}, t("workflow.graph")), graph.tools),
      h("div", { class: "graph-body" }, graph.element, details),
    ),
    h("div", { class: "filters" }, h("h2", { class: "grow" }, t("workflow.nodes")), h("div", { class: "search" }, icon("search"), search, h("kbd", { class: "hide-small" }, "/"))),
    tabs,
    nodesCard,
  );

  root.append(
    h("nav", { class: "crumbs", "aria-label": t("common.where") }, h("a", { href: "#/workflows" }, t("frame.workflows")), " / ", id),
    h(
      "div",
      { class: "task-head" },
      h(
        "div",
        { class: "grow" },
        h("h1", {}, title, badge),
        h("span", { class: "id" }, id, h("button", { class: "button small quiet icon", type: "button", "aria-label": t("common.copy_id"), title: t("common.copy_id"), onclick: () => copy(id, t("common.id_copied")) }, icon("copy"))),
      ),
      actions,
    ),
    body,
  );

  // --- drawing

  function draw() {
    setText(title, workflow.name || t("workflow.one"));
    document.title = `${workflow.name || t("workflow.one")} · Celeriac`;
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
    setText(badge, t(`status.${status}`));
    const counts = countStatuses(Object.values(nodes));
    const ended = workflow.finished_at;
    const fact = (name, value) => (value ? h("span", {}, h("span", { class: "faint" }, `${name} `), value) : null);
    sums.replaceChildren(
      countsBar(counts),
      h(
        "div",
        { class: "sums-line small" },
        h("span", {}, t("workflow.n_nodes_counts", { n: Object.keys(nodes).length, counts: countsText(counts) })),
        fact(t("workflow.submitted"), moment(workflow.created_at)),
        fact(t("workflow.col_ended"), ended && moment(ended)),
        fact(t("workflow.took"), ended && duration(Date.parse(ended) - Date.parse(workflow.created_at))),
        fact(t("workflow.user"), workflow.user_id && h("span", { class: "clip" }, workflow.user_id)),
        fact(t("workflow.metadata"), Object.keys(workflow.metadata ?? {}).length ? h("code", {}, JSON.stringify(workflow.metadata)) : null),
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
    const wanted = status === "running" ? [button(t("workflow.cancel"), cancel, "danger")] : status === "completed" ? [] : [button(t("workflow.retry"), retry, "primary")];
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
          status ? `${capital(t(`status.${status}`))} ${number(counts[status] ?? 0)}` : t("common.all"),
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
    const names = waits.slice(0, 3).map(nameOf).join(t("common.and"));
    const left = waits.length > 3 ? t("workflow.waits_for_more", { names, n: waits.length - 3 }) : t("workflow.waits_for", { names });
    const about = failed ? node.error.message : node.status === "waiting" && waits.length ? left : "";
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
    ...names.slice(0, NAMED).map((name) => h("div", { class: "named" }, h("i", { class: "dot", dataset: { status: workflow.nodes[name]?.status }, title: workflow.nodes[name] && t(`status.${workflow.nodes[name].status}`) }), link(name), more(name))),
    names.length > NAMED ? h("div", { class: "muted" }, t("common.and_more", { n: names.length - NAMED })) : null,
  ];

  function drawNode(name) {
    const node = workflow.nodes[name];
    const when = new Map((node.after ?? []).map((one) => [nameOf(one), one.when ?? "completed"]));
    const words = { completed: null, failed: t("workflow.must_fail"), ended: t("workflow.must_end") };
    const fact = (text, value) => (value && (!Array.isArray(value) || value.some(Boolean)) ? h("div", {}, h("dt", {}, text), h("dd", {}, value)) : null);
    details.replaceChildren(
      h("h3", {}, name),
      h("div", {}, statusBadge(node.status), " ", h("span", { class: "chip" }, h("span", { class: "clip", title: node.type }, node.type))),
      node.error ? h("p", { class: "error-text" }, h("b", {}, node.error.code), ` ${node.error.message.slice(0, 400)}`) : "",
      h(
        "dl",
        { class: "facts" },
        fact(t("workflow.started"), node.started_at && moment(node.started_at)),
        fact(t("workflow.col_ended"), node.finished_at && moment(node.finished_at)),
        fact(t("workflow.col_ran"), node.started_at && duration(ranFor({ updated_at: node.finished_at ?? new Date().toISOString(), ...node }))),
        fact(t("workflow.after"), named([...when.keys()], (one) => words[when.get(one)] && h("span", { class: "muted" }, words[when.get(one)]))),
        fact(t("workflow.before"), named(children.get(name) ?? [])),
      ),
      h("a", { class: "button small", href: `#/tasks/${segment(node.task_id)}` }, t("workflow.open_task")),
    );
  }

  function drawSeveral() {
    const { key, kind, names } = chosen;
    const counts = countStatuses(names.map((name) => workflow.nodes[name]));
    const urgent = names.filter((name) => ["failed", "processing", "retrying"].includes(workflow.nodes[name].status));
    urgent.sort((a, b) => STATUSES.indexOf(workflow.nodes[a].status) - STATUSES.indexOf(workflow.nodes[b].status));
    details.replaceChildren(
      h("h3", {}, t("workflow.n_nodes", { n: names.length })),
      h("p", { class: "muted" }, kind === "run" ? t("workflow.run_of") : t("workflow.alike")),
      countsBar(counts),
      h("p", {}, countsText(counts)),
      h(
        "div",
        {},
        urgent.slice(0, NAMED).map((name) =>
          h("div", { class: "named" }, h("i", { class: "dot", dataset: { status: workflow.nodes[name].status } }), h("a", { class: "clip", href: `#/tasks/${segment(workflow.nodes[name].task_id)}` }, name)),
        ),
      ),
      h("button", { class: "button small", type: "button", onclick: () => graph.open(key) }, t("workflow.show_nodes", { n: names.length })),
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
    if (await confirm({ title: t("workflow.cancel_title"), text: t("workflow.cancel_about"), action: t("workflow.cancel"), danger: true }))
      await act(() => post(`${path}/cancel`), t("workflow.cancel_requested"));
  }

  async function retry() {
    const text = workflow.status === "cancelled" ? t("workflow.retry_cancelled") : t("workflow.retry_failed");
    if (await confirm({ title: t("workflow.retry_title"), text, action: t("workflow.retry") })) {
      const key = onceKey();
      await act(() => post(`${path}/retry`, {}, { headers: { "Idempotency-Key": key } }), t("workflow.runs_again"));
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
        h("div", { class: "card empty", dataset: failure.status === 404 ? {} : { broken: "" } }, h("strong", {}, failure.status === 404 ? t("workflow.missing") : t("common.not_available")), failure.message),
      );
    });
  ending(live.on("tasks", ({ tasks }) => workflow && !source && tasks.some((one) => one.workflow_id === id) && look()));
  ending(live.on("told", () => workflow && !source && look()));
  const timer = setInterval(() => workflow && !document.hidden && workflow.status === "running" && drawNodes(), 1000);
  ending(() => ((gone = true), clearInterval(timer), clearTimeout(again), source?.close(), graph.end(), list.end()));
}
