// Definitions: the schedules that create tasks, their next runs, and how the last ones ended.

import { get, onceKey, post, segment } from "../api.js";
import { h, setText, statusBadge } from "../dom.js";
import { ago, dayName, duration, exactTime, fullTime, jsonBlock, minuteTime, number, preview, timeElement, zoneTime } from "../format.js";
import { cronWords } from "../cron.js";
import { menu } from "../menu.js";
import { newDefinition } from "../new-definition.js";
import { pieces, t } from "../text.js";
import { times } from "../times.js";
import { complain, confirm, note } from "../ui.js";

const PAGE = 100;
/** How many definitions the calendar shows: those that run next. */
const DRAWN = 30;
/** How many coming and how many last runs of each are shown. */
const COMING = 10;
const RUNS = 30;
/** What the API counts of a definition, and why an instance was made. */
const COUNTERS = ["fired", "skipped", "missed", "buffered", "triggered", "backfilled", "succeeded", "failed", "cancelled", "failures_in_row"];
const TRIGGERS = ["schedule", "manual", "backfill"];

const moment = (at) => (at ? h("time", { datetime: at, title: exactTime(at) }, ago(at)) : h("span", { class: "faint" }, "–"));

/** Return a trigger: in words where it has some, and as it is written. */
function schedule(item) {
  const args = item.trigger_args ?? {};
  const names = Object.keys(args).join();
  if (item.trigger_type === "LOOP" && names === "interval") return [t("definitions.every", { time: duration(1000 * args.interval).replace(".0 ", " ") })];
  if (item.trigger_type === "SCHEDULED" && names === "run_at" && /(Z|[+-]\d\d:?\d\d)$/.test(args.run_at))
    return [t("definitions.once", { time: fullTime(args.run_at) })];
  const rule = args.cron ?? args.expression;
  if (rule) {
    const words = cronWords(rule);
    const written = [h("code", {}, rule), args.timezone ? h("span", { class: "small faint" }, ` ${args.timezone}`) : null];
    return words ? [h("div", {}, words), h("div", { class: "small" }, written)] : written;
  }
  const text = Object.entries(args)
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
  return [h("span", {}, item.trigger_type.toLowerCase()), text ? h("div", { class: "small faint mono" }, text.slice(0, 90)) : null];
}

/** Return what can be done with a definition, in one menu; `after` is called after an action. */
function actions(item, me, after) {
  const status = item.status.toLowerCase();
  if (["completed", "cancelled", "failed"].includes(status)) return null;
  const act = async (action, done, options) => {
    try {
      await post(`definitions/${segment(item.task_def_id)}/${action}`, {}, options);
      note(done);
      await after();
    } catch (error) {
      complain(error);
    }
  };
  const owner = item.source === "code" ? `schedule= of ${item.metadata.code}` : "Celery's beat_schedule";
  const cancel = async () =>
    (await confirm({ title: t("definitions.cancel_title"), text: t("definitions.cancel_text"), action: t("definitions.cancel_action"), danger: true })) &&
    act("cancel", t("definitions.cancelled"));
  return menu(t("definitions.actions", { name: nameOf(item) }), [
    { text: t("definitions.run_now"), act: () => act("trigger", t("definitions.started"), { headers: { "Idempotency-Key": onceKey() } }) },
    status === "paused"
      ? { text: t("definitions.resume"), act: () => act("resume", t("definitions.resumed")) }
      : { text: t("definitions.pause"), act: () => act("pause", t("definitions.paused")) },
    ...(item.read_only
      ? [{ text: t("definitions.read_only"), about: t("definitions.read_only_why", { owner }) }]
      : [
          { text: t("definitions.edit"), act: async () => (await newDefinition(me, item)) && after() },
          { text: t("definitions.cancel"), act: cancel, danger: true },
        ]),
  ]);
}

/** Return the last runs, the newest on the right: green if they went well, red if not, higher if they took longer. */
function strip(runs) {
  const took = (run) => (run.started_at && run.finished_at ? Date.parse(run.finished_at) - Date.parse(run.started_at) : null);
  const most = Math.max(1, ...runs.map((run) => took(run) ?? 0));
  return h(
    "span",
    { class: "strip", role: "img", "aria-label": t("definitions.strip", { n: runs.length, failed: runs.filter((run) => run.status === "failed").length }) },
    runs.toReversed().map((run) => {
      const ms = took(run);
      const text = [t(`status.${run.status}`), fullTime(run.created_at), ms === null ? null : duration(ms)].filter(Boolean).join(" · ");
      return h("i", { title: text, dataset: { status: run.status }, style: { height: `${Math.round(8 + (10 * (ms ?? 0)) / most)}px` } });
    }),
  );
}

/** The time of a run in the zone of its rule, if that is another time than the calendar's. */
function elsewhere({ at, zone }) {
  const own = zone ? zoneTime(at, zone) : "";
  return own && own !== minuteTime(at) ? h("span", { class: "small faint" }, ` ${own} ${zone}`) : null;
}

/** Return the coming runs by day. */
function calendar(runs) {
  const days = new Map();
  for (const run of runs.sort((a, b) => (a.at < b.at ? -1 : 1)).slice(0, 60)) {
    const name = dayName(run.at);
    if (!days.has(name)) days.set(name, []);
    days.get(name).push(run);
  }
  if (!days.size) return h("p", { class: "muted" }, t("definitions.none_coming"));
  return h(
    "div",
    { class: "calendar" },
    [...days].slice(0, 10).map(([name, list]) =>
      h(
        "section",
        {},
        h("h3", {}, name, list.length > 1 ? h("span", { class: "faint" }, ` ${number(list.length)}`) : null),
        h(
          "ul",
          {},
          list
            .slice(0, 6)
            .map((run) =>
              h(
                "li",
                {},
                timeElement(run.at, minuteTime),
                h("a", { href: `#/definitions/${segment(run.id)}`, class: "clip" }, run.name, elsewhere(run)),
              ),
            ),
        ),
        list.length > 6 ? h("p", { class: "small faint" }, t("definitions.more", { n: list.length - 6 })) : null,
      ),
    ),
  );
}

/** Return what an instance runs as. */
function runsAs(item) {
  return item.task?.type ?? t("definitions.remote", { group: item.group });
}

function nameOf(item) {
  return item.name || preview(typeof item.content === "string" ? item.content : item.content?.title, 80) || item.task?.type || item.task_def_id;
}

export function show(root, place) {
  if (place.id) showOne(root, place);
  else showAll(root, place);
}

function showAll(root, { ending, me }) {
  const body = h("tbody", {});
  const coming = h("div", { class: "body" });
  const empty = h("div", { class: "card empty", hidden: true });
  const more = h("button", { class: "button small", type: "button", hidden: true, onclick: () => load(true).catch(complain) }, t("definitions.show_more"));
  const count = h("span", { class: "grow" });
  const table = h(
    "section",
    { class: "card", hidden: true },
    h(
      "div",
      { class: "scroll-x" },
      h(
        "table",
        { class: "plain definitions" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["definition", "status", "trigger", "next", "last"].map((name) => h("th", {}, t(`definitions.column.${name}`))),
            h("th", {}, h("span", { class: "visually-hidden" }, t("definitions.column.actions"))),
          ),
        ),
        body,
      ),
    ),
    h("div", { class: "foot" }, count, more),
  );
  const calendarCard = h("section", { class: "card", hidden: true }, h("header", {}, h("h2", {}, t("definitions.coming")), h("span", { class: "small faint" }, times.zoneText)), coming);
  root.append(
    h(
      "div",
      { class: "head" },
      h("div", { class: "grow" }, h("h1", {}, t("definitions.title")), h("p", {}, t("definitions.about"))),
      h("button", { class: "button primary submit-only", type: "button", onclick: () => newDefinition(me) }, t("definitions.new")),
    ),
    empty,
    calendarCard,
    table,
  );
  let items = [];
  let cursor = null;

  async function load(next = false) {
    try {
      const page = await get("definitions", { limit: PAGE, cursor: next ? cursor : null, next_runs: COMING, last_runs: RUNS });
      items = next ? items.concat(page.items) : page.items;
      cursor = page.next_cursor;
    } catch (error) {
      table.hidden = calendarCard.hidden = true;
      empty.hidden = false;
      empty.replaceChildren(h("strong", {}, t("definitions.unread")), error.message);
      empty.dataset.broken = "";
      return;
    }
    delete empty.dataset.broken;
    more.hidden = !cursor;
    table.hidden = items.length === 0;
    empty.hidden = items.length > 0;
    empty.replaceChildren(h("strong", {}, t("definitions.none")), t("definitions.none_about"));
    setText(count, t("definitions.count", { n: items.length }));
    body.replaceChildren(
      ...items.map((item) =>
        h(
          "tr",
          {},
          h(
            "td",
            {},
            h("a", { href: `#/definitions/${segment(item.task_def_id)}` }, h("b", {}, nameOf(item))),
            h("div", { class: "small faint" }, runsAs(item)),
          ),
          h("td", {}, statusBadge(item.status.toLowerCase())),
          h("td", {}, schedule(item)),
          h("td", { class: "nowrap" }, moment(item.next_run_at)),
          h(
            "td",
            { class: "nowrap runs" },
            item.last_runs.length ? strip(item.last_runs) : null,
            item.last_outcome
              ? h("a", { href: `#/tasks/${segment(item.last_outcome.task_id)}` }, statusBadge(item.last_outcome.status))
              : moment(item.last_run_at),
          ),
          h("td", { class: "actions-cell" }, actions(item, me, load)),
        ),
      ),
    );
    drawComing();
  }

  function drawComing() {
    const soon = items
      .filter((item) => item.next_run_at && ["active", "running"].includes(item.status.toLowerCase()))
      .sort((a, b) => (a.next_run_at < b.next_run_at ? -1 : 1))
      .slice(0, DRAWN);
    const runs = soon.flatMap((item) => item.next_runs.map((run) => ({ at: run.due_at ?? run.scheduled_at, id: item.task_def_id, name: nameOf(item), zone: item.trigger_args?.timezone })));
    calendarCard.hidden = runs.length === 0;
    coming.replaceChildren(calendar(runs));
  }

  load().catch(complain);
  const timer = setInterval(() => document.hidden || root.contains(document.activeElement) || items.length > PAGE || load().catch(() => {}), 10000);
  ending(() => clearInterval(timer));
}

function showOne(root, { id, me, ending }) {
  const path = `definitions/${segment(id)}`;
  const head = h("div", { class: "task-head" });
  const main = h("div", { class: "stack" });
  const side = h("div", { class: "stack" });
  root.append(
    h("nav", { class: "crumbs", "aria-label": t("common.where") }, h("a", { href: "#/definitions" }, t("definitions.title")), " / ", id),
    head,
    h("div", { class: "task-body" }, main, side),
  );

  async function load() {
    const [item, instances, changes, coming] = await Promise.all([
      get(path),
      get(`${path}/instances`, { limit: 50 }),
      get(`${path}/changes`, { limit: 50 }).catch(() => ({ items: [] })),
      get(`${path}/preview`, { count: 10 }).catch(() => ({ items: [] })),
    ]);
    head.replaceChildren(
      h("div", { class: "grow" }, h("h1", {}, nameOf(item), statusBadge(item.status.toLowerCase())), item.note ? h("p", { class: "muted" }, item.note) : null),
      h("div", { class: "actions" }, actions(item, me, load)),
    );
    const card = (title, ...content) => h("section", { class: "card" }, h("header", {}, h("h2", {}, title)), ...content);
    const fact = (name, value) => (value === null || value === undefined || value === "" ? null : h("div", {}, h("dt", {}, name), h("dd", {}, value)));
    const { warnings = [] } = item;
    main.replaceChildren(
      ...warnings.map((warning) => h("p", { class: "notice warn", role: "status" }, t("definitions.warning", { text: warning.text }))),
      card(
        t("definitions.instances"),
        instances.items.length
          ? h(
              "div",
              { class: "scroll-x" },
              h(
                "table",
                { class: "plain" },
                h(
                  "tbody",
                  {},
                  instances.items.map((one) =>
                    h(
                      "tr",
                      {},
                      h("td", {}, h("a", { href: `#/tasks/${segment(one.task_id)}` }, statusBadge(one.status))),
                      h("td", { class: "nowrap" }, one.scheduled_at ? fullTime(one.scheduled_at) : "–"),
                      h("td", { class: "muted" }, TRIGGERS.includes(one.trigger) ? t(`definitions.trigger.${one.trigger}`) : one.trigger),
                      h("td", { class: "muted wide" }, h("div", { class: "clip", title: one.error?.message ?? "" }, one.error?.message ?? "")),
                    ),
                  ),
                ),
              ),
            )
          : h("div", { class: "empty" }, h("strong", {}, t("definitions.no_instances")), t("definitions.no_instances_about")),
      ),
      item.task
        ? card(t("task.payload"), h("div", { class: "body" }, jsonBlock(item.task.payload ?? {})))
        : card(t("definitions.content"), h("div", { class: "body" }, jsonBlock(item.content ?? null))),
      card(
        t("definitions.changes"),
        h(
          "div",
          { class: "body" },
          h(
            "ol",
            { class: "timeline" },
            changes.items.map((one) =>
              h(
                "li",
                {},
                h("span", {}, pieces("definitions.change", { action: h("code", {}, one.action), actor: one.actor })),
                h("time", { datetime: one.at, title: exactTime(one.at) }, ago(one.at)),
                one.note ? h("p", {}, one.note) : null,
              ),
            ),
          ),
        ),
      ),
    );
    const counters = Object.entries(item.counters ?? {}).filter(([, value]) => value);
    side.replaceChildren(
      card(
        t("definitions.schedule"),
        h(
          "div",
          { class: "body" },
          h(
            "dl",
            { class: "facts" },
            fact(t("definitions.column.trigger"), h("span", {}, schedule(item))),
            fact(t("definitions.fact.runs"), item.task ? h("a", { href: `#/types/${segment(item.task.type)}` }, item.task.type) : runsAs(item)),
            fact(t("definitions.fact.group"), h("a", { href: `#/tasks?queue=${segment(item.group)}` }, item.group)),
            fact(t("definitions.fact.user"), item.user_id),
            fact(t("definitions.fact.overlap"), h("code", {}, item.overlap)),
            fact(t("definitions.fact.misfire"), item.misfire),
            fact(t("definitions.column.next"), item.next_run_at && fullTime(item.next_run_at)),
            fact(t("definitions.fact.begins"), item.start_at && fullTime(item.start_at)),
            fact(t("definitions.fact.ends"), item.end_at && fullTime(item.end_at)),
            fact(t("definitions.fact.most"), item.max_runs),
            counters.map(([name, value]) => fact(COUNTERS.includes(name) ? t(`definitions.counter.${name}`) : name.replaceAll("_", " "), number(value))),
          ),
        ),
      ),
      card(t("definitions.coming"), h("div", { class: "body" }, calendar(coming.items.map((run) => ({ at: run.due_at ?? run.scheduled_at, id, name: nameOf(item), zone: item.trigger_args?.timezone }))))),
    );
  }

  const failed = (error) =>
    head.replaceChildren(
      h(
        "div",
        { class: "card empty grow", dataset: error.status === 404 ? {} : { broken: "" } },
        h("strong", {}, error.status === 404 ? t("definitions.missing") : t("definitions.unread")),
        error.message,
      ),
    );
  load().catch(failed);
  const timer = setInterval(() => document.hidden || root.contains(document.activeElement) || load().catch(() => {}), 5000);
  ending(() => clearInterval(timer));
}
