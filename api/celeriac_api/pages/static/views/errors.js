// Errors: failures that are alike as one line, with an example's traceback, and a retry of those that are failed now.

import { get, onceKey, post, segment } from "../api.js";
import { sparkline } from "../chart.js";
import { bar, h, icon, setText, statusBadge } from "../dom.js";
import { ago, exactTime, number } from "../format.js";
import { live } from "../live.js";
import { pieces, t } from "../text.js";
import { complain, confirm, debounce, note, oneOf, throttle } from "../ui.js";

const BULK = "celeriac.bulk";
const PAGE = 25;
/** Spans of time, in hours. */
const SPANS = { hour: 1, day: 24, week: 168, month: 720 };
const SPAN_KEY = "celeriac.errors.span";
const HOUR_MS = 3600e3;

export function show(root, { query: given, ending }) {
  let span = sessionStorage.getItem(SPAN_KEY) in SPANS ? sessionStorage.getItem(SPAN_KEY) : "day";
  if (given.get("span") in SPANS) span = given.get("span");
  let sort = "-last_seen";
  let loading = null;
  let shown = PAGE;
  /** The lines by group: `{element, set(item)}`. */
  const lines = new Map();

  const field = (attributes) => h("input", { class: "field", autocomplete: "off", spellcheck: "false", ...attributes });
  const search = field({ type: "search", placeholder: t("errors.search"), "aria-label": t("errors.search"), value: given.get("q") ?? "", dataset: { search: "" } });
  const select = (label, first, chosen) => {
    const element = h("select", { class: "field", "aria-label": label }, h("option", { value: "" }, first));
    if (chosen) element.append(h("option", { selected: true }, chosen));
    return element;
  };
  const type = select(t("errors.type"), t("errors.all_types"), given.get("type"));
  const queue = select(t("errors.group"), t("errors.all_groups"), given.get("queue"));
  const taskKey = field({ class: "field short", placeholder: t("errors.key"), "aria-label": t("errors.key"), value: given.get("key") ?? "" });
  const user = field({ class: "field short admin-only", placeholder: t("errors.user"), "aria-label": t("errors.user"), value: given.get("user_id") ?? "" });
  const fill = (element, names) => {
    const there = new Set([...element.options].map((one) => one.value));
    element.append(...names.filter((name) => !there.has(name)).map((name) => h("option", {}, name)));
  };
  get("task-types").then(
    ({ task_types: types }) => fill(type, types.map((one) => one.name)),
    () => {},
  );
  get("groups").then(
    ({ groups }) => fill(queue, groups.map((one) => one.name)),
    () => {},
  );

  const summary = h("p", { role: "status" });
  const list = h("ul", { class: "errors" });
  const none = h("div", { class: "empty", hidden: true });
  const more = h("button", { class: "button small", type: "button", hidden: true, onclick: () => ((shown += PAGE), load().catch(trouble)) }, t("errors.more"));
  const retryAll = h("button", { class: "button submit-only", type: "button", disabled: true, onclick: () => retry(filter(), null) }, t("errors.retry_all"));
  const card = h("section", { class: "card", "aria-label": t("frame.errors") }, none, list, h("div", { class: "foot" }, h("span", { class: "grow" }, summary), more));

  const conditions = () => {
    const wanted = { type: type.value, queue: queue.value, key: taskKey.value.trim(), user_id: user.value.trim() };
    return Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
  };
  let from = null;
  /** What a retry selects, as far as the page shows it. A list that words select is retried group by group. */
  const filter = () => ({ ...conditions(), status: ["failed"], finished_after: from });

  async function load() {
    loading?.abort();
    const mine = (loading = new AbortController());
    const since = new Date(Date.now() - SPANS[span] * HOUR_MS).toISOString();
    const asked = { from: since, ...conditions(), q: search.value.trim(), sort };
    let page = await get("errors", { ...asked, limit: Math.min(shown, 100) }, { signal: mine.signal });
    const items = page.items;
    while (page.next_cursor && items.length < shown) {
      page = await get("errors", { ...asked, limit: Math.min(shown - items.length, 100), cursor: page.next_cursor }, { signal: mine.signal });
      items.push(...page.items);
    }
    if (mine.signal.aborted) return;
    from = page.from;
    draw(items, page.total);
    more.hidden = !page.next_cursor;
  }

  function draw(items, total) {
    for (const item of items) {
      if (!lines.has(item.error_group)) lines.set(item.error_group, line());
      lines.get(item.error_group).set(item);
    }
    const wanted = items.map((item) => lines.get(item.error_group).element);
    // Elements that are in place are not moved: one of them may have the focus.
    if (wanted.length !== list.children.length || wanted.some((one, i) => list.children[i] !== one)) list.replaceChildren(...wanted);
    delete none.dataset.broken;
    list.hidden = !items.length;
    none.hidden = items.length > 0;
    const filtered = Object.keys(conditions()).length > 0 || search.value.trim();
    none.replaceChildren(h("strong", {}, filtered ? t("errors.none_match") : t("errors.none")), filtered ? t("errors.none_match_more") : t("errors.none_more"));
    setText(summary, items.length ? t("errors.summary", { n: total.groups, failures: total.failures, dead: total.dead }) : "");
    retryAll.disabled = !total.dead || Boolean(search.value.trim());
    retryAll.title = search.value.trim() ? t("errors.retry_all_words") : total.dead ? "" : t("errors.retry_all_none");
  }

  function line() {
    let item = null;
    const parts = {
      message: h("p", { class: "message clip-lines" }),
      type: h("a", {}),
      code: h("span", { class: "chip" }),
      fresh: h("span", { class: "chip new" }, t("errors.new")),
      counts: h("span", { class: "spark" }),
      failures: h("b", {}),
      dead: h("span", { class: "small" }),
      last: h("span", {}),
      first: h("span", { class: "faint" }),
      show: h("a", { class: "button small" }, t("errors.show")),
      retry: h("button", { class: "button small submit-only", type: "button", onclick: () => retry({ ...filter(), error_group: item.error_group }, item) }),
    };
    const example = h("div", { class: "example", hidden: true });
    const toggle = async () => {
      const open = example.hidden;
      example.hidden = !open;
      look.setAttribute("aria-expanded", String(open));
      if (open) await showExample(example, item).catch(complain);
    };
    const look = h("button", { class: "button small quiet", type: "button", "aria-expanded": "false", onclick: toggle }, t("errors.example"));
    const element = h(
      "li",
      {},
      h("div", { class: "what" }, parts.message, h("div", { class: "meta" }, parts.type, parts.code, parts.fresh)),
      h("div", { class: "when" }, parts.counts, h("div", { class: "small muted" }, parts.last, " · ", parts.first)),
      h("div", { class: "number" }, parts.failures, parts.dead),
      h("div", { class: "actions" }, look, parts.show, parts.retry),
      example,
    );
    return {
      element,
      set(next) {
        item = next;
        element.dataset.group = item.error_group;
        setText(parts.message, item.message || t("errors.no_message"));
        setText(parts.type, item.type || "–");
        parts.type.href = `#/types/${segment(item.type)}`;
        setText(parts.code, item.code || "–");
        parts.fresh.hidden = Date.now() - Date.parse(item.first_seen) > 24 * HOUR_MS;
        const counts = item.counts.join();
        if (parts.counts.dataset.counts !== counts) {
          parts.counts.dataset.counts = counts;
          parts.counts.replaceChildren(sparkline(item.counts, { width: 132, height: 30, tone: "bad" }));
        }
        setText(parts.failures, t("errors.failed", { n: item.failures }));
        setText(parts.dead, t("errors.dead", { n: item.dead }));
        setText(parts.last, t("errors.last", { ago: ago(item.last_seen) }));
        setText(parts.first, t("errors.first", { ago: ago(item.first_seen) }));
        parts.last.title = exactTime(item.last_seen);
        parts.first.title = exactTime(item.first_seen);
        parts.show.href = `#/tasks?${new URLSearchParams({ error_group: item.error_group, ...(item.dead ? { status: "failed" } : {}) })}`;
        look.hidden = !item.last_task_id;
        parts.retry.hidden = !item.dead;
        setText(parts.retry, t("errors.retry", { n: item.dead }));
      },
    };
  }

  async function showExample(place, item) {
    const id = item.last_task_id;
    const path = `tasks/${segment(id)}`;
    const [task, log] = await Promise.all([get(path), get(`${path}/log`, { level: "error", limit: 200 }).catch(() => ({ items: [] }))]);
    const traces = log.items.filter((one) => one.data?.traceback);
    const said = task.error ? `${task.error.code}: ${task.error.message}` : item.message;
    place.replaceChildren(
      h("p", { class: "small muted" }, ...pieces("errors.example_of", { task: h("a", { href: `#/tasks/${segment(id)}` }, id) })),
      h("pre", { class: "code trace", tabindex: 0 }, traces.length ? traces.at(-1).data.traceback : said),
    );
  }

  /** Ask with the exact number, then start the bulk operation. */
  async function retry(chosen, item) {
    try {
      const { matched } = await post("bulk", { action: "retry", filter: chosen, dry_run: true });
      if (!matched) return note(t("errors.nothing_to_retry"));
      const sure = await confirm({
        title: t("errors.retry_title", { n: matched }),
        text: item ? t("errors.retry_text", { type: item.type, message: item.message }) : t("errors.retry_all_text"),
        action: t("errors.retry", { n: matched }),
      });
      if (!sure) return undefined;
      const { task_id: id } = await post("bulk", { action: "retry", filter: chosen }, { headers: { "Idempotency-Key": onceKey() } });
      note(h("span", {}, ...pieces("errors.retry_runs", { task: h("a", { href: `#/tasks/${segment(id)}` }, t("errors.a_task")) })));
      return loadBulk();
    } catch (error) {
      return complain(error);
    }
  }

  // --- bulk operations
  const jobs = h("tbody", {});
  const jobsCard = h(
    "section",
    { class: "card", hidden: true },
    h("header", {}, h("h2", {}, t("errors.bulk")), h("a", { class: "small", href: `#/tasks?type=${BULK}` }, t("errors.bulk_all"))),
    h("div", { class: "scroll-x" }, h("table", { class: "plain" }, jobs)),
  );
  async function loadBulk() {
    const listed = (await get("tasks", { type: BULK, limit: 4 })).items;
    // The history is slightly behind; the record of a task is not.
    const items = await Promise.all(listed.map((task) => (task.finished_at ? task : get(`tasks/${segment(task.task_id)}`))));
    jobsCard.hidden = items.length === 0;
    jobs.replaceChildren(
      ...items.map((task) => {
        const { done, matched, skipped } = task.result ?? {};
        const { action = "bulk", filter: what } = task.payload ?? {};
        const result = skipped ? t("errors.bulk_skipped", { n: matched, done, skipped }) : t("errors.bulk_done", { n: matched, done });
        return h(
          "tr",
          {},
          h("td", {}, h("a", { href: `#/tasks/${segment(task.task_id)}` }, `${action} ${what?.type ?? ""}`)),
          h("td", {}, statusBadge(task.status)),
          h("td", {}, bar(task.status === "completed" ? 100 : task.progress.percentage, task.status)),
          h("td", { class: "muted nowrap" }, task.result ? result : task.progress.message || task.progress.stage),
          h("td", { class: "number faint", title: exactTime(task.created_at) }, ago(task.created_at)),
        );
      }),
    );
  }

  const trouble = (error) => {
    if (error.name === "AbortError") return;
    list.hidden = true;
    none.hidden = false;
    none.dataset.broken = "";
    none.replaceChildren(h("strong", {}, t("errors.unreadable")), error.message);
  };
  const apply = () => {
    shown = PAGE;
    const text = new URLSearchParams({ ...conditions(), ...(search.value.trim() ? { q: search.value.trim() } : {}) }).toString();
    history.replaceState(null, "", `#/errors${text ? `?${text}` : ""}`);
    load().catch(trouble);
  };
  for (const one of [search, taskKey, user]) one.addEventListener("input", debounce(apply, 250));
  for (const one of [type, queue]) one.addEventListener("change", apply);
  const choices = Object.keys(SPANS).map((value) => ({ value, text: t(`errors.span_${value}`) }));
  const spans = oneOf(t("errors.span"), choices, span, (name) => {
    span = name;
    sessionStorage.setItem(SPAN_KEY, name);
    apply();
  });
  const orders = [
    { value: "-last_seen", text: t("errors.sort_latest") },
    { value: "-failures", text: t("errors.sort_most") },
  ];
  const sorts = oneOf(t("errors.sort"), orders, sort, (name) => {
    sort = name;
    apply();
  });

  root.append(
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, t("frame.errors")), h("p", {}, t("errors.about"))), spans, retryAll),
    h(
      "div",
      { class: "filters" },
      h("div", { class: "search" }, icon("search"), search, h("kbd", { class: "hide-small" }, "/")),
      type,
      queue,
      taskKey,
      user,
      sorts,
      h("a", { class: "button", href: "#/tasks?status=failed" }, t("errors.every_task")),
    ),
    jobsCard,
    card,
  );
  const asks = given.has("retry");
  if (asks) history.replaceState(null, "", "#/errors");
  // Only what the page shows is retried.
  load().then(() => asks && retry(filter(), null), trouble);
  const bulkSoon = throttle(() => loadBulk().catch(() => {}), 1000);
  const soon = throttle(() => load().catch(trouble), 3000);
  bulkSoon();
  ending(
    live.on("tasks", ({ tasks }) => {
      if (tasks.some((task) => task.type === BULK)) bulkSoon();
      if (tasks.some((task) => task.status === "failed" || task.type === BULK)) soon();
    }),
  );
  // The history follows the live stream with a short delay.
  const timer = setInterval(() => document.hidden || soon(), 6000);
  ending(() => (clearInterval(timer), loading?.abort()));
}
