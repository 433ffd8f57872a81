// All workflows: filters in the address, endless rows, and how far each of them is.

import { get, segment } from "../api.js";
import { h, icon, setText, statusBadge } from "../dom.js";
import { ago, duration, exactTime } from "../format.js";
import { countsText } from "../graph/view.js";
import { live } from "../live.js";
import { VirtualList } from "../table.js";
import { capital, t } from "../text.js";
import { complain, debounce, throttle } from "../ui.js";
import { countsBar } from "./workflow.js";

const STATUSES = ["running", "completed", "failed", "cancelled"];
const PAGE = 100;
/** One list keeps at most this many workflows. To find others, use a filter. */
const MOST = 10000;
/** At most this many names are suggested. */
const NAMES = 200;

function renderWorkflow(workflow, row) {
  const counts = workflow.counts ?? {};
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const end = workflow.finished_at ? Date.parse(workflow.finished_at) : Date.now();
  row.replaceChildren(
    h("span", {}, statusBadge(workflow.status)),
    h("span", { class: "what" }, h("b", { class: "clip" }, workflow.name || t("workflow.one")), h("span", { class: "id hide-small" }, workflow.workflow_id.slice(0, 8))),
    h("span", { class: "muted" }, t("workflow.n_nodes", { n: total })),
    h("span", { title: countsText(counts) }, countsBar(counts)),
    h("span", { class: "time" }, duration(end - Date.parse(workflow.created_at))),
    h("span", { class: "time", title: exactTime(workflow.created_at) }, ago(workflow.created_at)),
  );
}

export function show(root, { query: given, ending }) {
  root.classList.add("fill");
  const query = { status: given.get("status") ?? "", name: given.get("name") ?? "" };
  let items = [];
  let cursor = null;
  let loading = null;
  let gone = false;

  const list = new VirtualList({
    render: renderWorkflow,
    key: (workflow) => workflow.workflow_id,
    href: (workflow) => `#/workflows/${segment(workflow.workflow_id)}`,
    label: t("frame.workflows"),
    more: () => more(),
  });
  const none = h("div", { class: "empty", hidden: true });
  const count = h("span", { class: "grow" });
  const tabs = h("div", { class: "status-tabs", role: "group", "aria-label": t("common.status") });
  const search = h("input", { class: "field", type: "search", placeholder: t("workflows.names"), "aria-label": t("workflows.name"), value: query.name, list: "workflow-names", dataset: { search: "" }, autocomplete: "off", spellcheck: "false" });
  // A name is found as a whole: those of the latest workflows are suggested.
  const known = new Set();
  const names = h("datalist", { id: "workflow-names" });

  function suggest(found) {
    const before = known.size;
    for (const { name } of found) if (name && known.size < NAMES) known.add(name);
    if (known.size > before) names.replaceChildren(...[...known].map((name) => h("option", { value: name })));
  }

  function drawTabs() {
    tabs.replaceChildren(
      ...["", ...STATUSES].map((status) =>
        h(
          "button",
          { type: "button", "aria-pressed": String(status === query.status), onclick: () => apply({ status }) },
          status ? capital(t(`status.${status}`)) : t("common.all"),
        ),
      ),
    );
  }

  function set(found) {
    items = found.slice(0, MOST);
    suggest(items);
    none.hidden = items.length > 0;
    list.scroller.hidden = items.length === 0;
    delete none.dataset.broken;
    if (!items.length) {
      none.replaceChildren(
        ...(query.status || query.name
          ? [h("strong", {}, t("workflows.no_match")), h("button", { class: "button small", type: "button", onclick: () => ((search.value = ""), apply({ status: "", name: "" })) }, t("workflows.show_all"))]
          : [h("strong", {}, t("workflows.none")), t("workflows.none_about")]),
      );
    }
    list.set(items);
    const text = t("workflows.n", { n: items.length });
    setText(count, !items.length ? "" : cursor ? t("common.more_as_you_scroll", { text }) : text);
  }

  async function load() {
    loading?.abort();
    const mine = (loading = new AbortController());
    try {
      const page = await get("workflows", { ...query, limit: PAGE }, { signal: mine.signal });
      cursor = page.next_cursor;
      set(page.items);
    } catch (error) {
      if (error.name === "AbortError") return;
      cursor = null;
      set([]);
      none.replaceChildren(h("strong", {}, t("common.unreadable")), error.message);
      none.dataset.broken = "";
    } finally {
      if (loading === mine) loading = null;
    }
  }

  async function more() {
    if (loading || !cursor || items.length >= MOST) return;
    const mine = (loading = new AbortController());
    try {
      const page = await get("workflows", { ...query, limit: PAGE, cursor }, { signal: mine.signal });
      const known = new Set(items.map((one) => one.workflow_id));
      cursor = page.next_cursor;
      loading = null;
      set(items.concat(page.items.filter((one) => !known.has(one.workflow_id))));
    } catch (error) {
      if (error.name !== "AbortError") {
        cursor = null;
        complain(error);
      }
    } finally {
      if (loading === mine) loading = null;
    }
  }

  /** Read the first page again: new workflows come first, known ones in it are renewed. */
  async function renew() {
    if (loading || gone) return;
    const asked = JSON.stringify(query);
    const page = await get("workflows", { ...query, limit: PAGE });
    if (gone || loading || asked !== JSON.stringify(query)) return;
    const fresh = new Set(page.items.map((one) => one.workflow_id));
    if (!cursor && items.length <= PAGE) cursor = page.next_cursor;
    const oldest = page.items.at(-1)?.created_at ?? "";
    // What the first page would have, and has no more, does not match any more.
    set(page.items.concat(items.filter((one) => !fresh.has(one.workflow_id) && page.next_cursor && one.created_at <= oldest)));
  }
  const renewSoon = throttle(() => renew().catch(() => {}), 1000);

  function apply(change) {
    Object.assign(query, change);
    const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
    history.replaceState(null, "", `#/workflows${text ? `?${text}` : ""}`);
    drawTabs();
    load();
  }
  search.addEventListener(
    "input",
    debounce(() => apply({ name: search.value.trim() }), 250),
  );

  root.append(
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, t("frame.workflows")), h("p", {}, t("workflows.about")))),
    h("div", { class: "filters" }, h("div", { class: "search" }, icon("search"), search, names, h("kbd", { class: "hide-small" }, "/"))),
    tabs,
    h(
      "section",
      { class: "card list workflows" },
      h("div", { class: "columns", "aria-hidden": "true" }, [t("common.status"), t("workflows.col_workflow"), t("workflows.col_nodes"), t("workflows.col_progress"), t("workflows.col_took"), t("workflows.col_age")].map((name, i) => h("span", { class: i > 3 ? "number" : "" }, name))),
      h("div", { class: "stage" }, none, list.scroller),
      h("div", { class: "foot" }, count),
    ),
  );
  drawTabs();
  load();
  ending(live.on("tasks", ({ tasks }) => tasks.some((task) => task.workflow_id) && renewSoon()));
  ending(live.on("told", renewSoon));
  const timers = [setInterval(() => document.hidden || list.draw(true), 1000), setInterval(() => document.hidden || renewSoon(), 10000)];
  ending(() => ((gone = true), timers.forEach(clearInterval), loading?.abort(), list.end()));
}
