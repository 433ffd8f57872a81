// Definitions: the schedules that create tasks, their next runs, and how the last ones ended.

import { get, onceKey, post, segment } from "../api.js";
import { h, setText, statusBadge } from "../dom.js";
import { ago, duration, fullTime, jsonBlock, number, preview } from "../format.js";
import { newDefinition } from "../new-definition.js";
import { complain, confirm, note } from "../ui.js";

const PAGE = 100;
/** How many definitions the calendar shows: those that run next. */
const DRAWN = 30;
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const dayOfYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });

const moment = (at) => (at ? h("time", { datetime: at, title: fullTime(at) }, ago(at)) : h("span", { class: "faint" }, "–"));

/** Return a trigger in one line: `0 7 * * 1 Europe/Berlin`, `every 90 s`. */
function schedule(item) {
  const args = item.trigger_args ?? {};
  const names = Object.keys(args).join();
  if (item.trigger_type === "LOOP" && names === "interval") return [`every ${duration(1000 * args.interval).replace(".0 ", " ")}`];
  if (item.trigger_type === "SCHEDULED" && names === "run_at" && /(Z|[+-]\d\d:?\d\d)$/.test(args.run_at)) return [`once, ${fullTime(args.run_at)}`];
  if (args.cron ?? args.expression)
    return [h("code", {}, args.cron ?? args.expression), args.timezone ? h("span", { class: "small faint" }, ` ${args.timezone}`) : null];
  const text = Object.entries(args)
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
  return [h("span", {}, item.trigger_type.toLowerCase()), text ? h("div", { class: "small faint mono" }, text.slice(0, 90)) : null];
}

/** Return the buttons of a definition; `after` is called after an action. */
function actions(item, after) {
  const act = async (action, done, options) => {
    try {
      await post(`definitions/${segment(item.task_def_id)}/${action}`, {}, options);
      note(done);
      await after();
    } catch (error) {
      complain(error);
    }
  };
  const button = (text, onclick, kind = "") => h("button", { class: `button small submit-only ${kind}`, type: "button", onclick }, text);
  const status = item.status.toLowerCase();
  const owner = item.source === "code" ? `schedule= of ${item.metadata.code}` : "Celery's beat_schedule";
  const readOnly = h("span", { class: "chip", title: `Change or remove it in ${owner}.` }, "read only");
  if (["completed", "cancelled", "failed"].includes(status)) return [];
  return [
    button("Run now", () => act("trigger", "An instance was started", { headers: { "Idempotency-Key": onceKey() } })),
    status === "paused"
      ? button("Resume", () => act("resume", "The definition was resumed"), "primary")
      : button("Pause", () => act("pause", "The definition was paused")),
    item.read_only
      ? readOnly
      : button(
          "Cancel",
          async () =>
            (await confirm({
              title: "Cancel this definition?",
              text: "It creates no more tasks, and its waiting and running tasks are cancelled.",
              action: "Cancel definition",
              danger: true,
            })) && act("cancel", "The definition was cancelled"),
          "danger",
        ),
  ];
}

/** Return the coming runs by day. */
function calendar(runs) {
  const days = new Map();
  for (const run of runs.sort((a, b) => (a.at < b.at ? -1 : 1)).slice(0, 60)) {
    const at = new Date(run.at);
    const name = (at.getFullYear() === new Date().getFullYear() ? day : dayOfYear).format(at);
    if (!days.has(name)) days.set(name, []);
    days.get(name).push(run);
  }
  if (!days.size) return h("p", { class: "muted" }, "There are no coming runs.");
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
                h("time", { datetime: run.at }, hour.format(new Date(run.at))),
                h("a", { href: `#/definitions/${segment(run.id)}`, class: "clip" }, run.name),
              ),
            ),
        ),
        list.length > 6 ? h("p", { class: "small faint" }, `and ${number(list.length - 6)} more`) : null,
      ),
    ),
  );
}

/** Return what an instance runs as. */
function runsAs(item) {
  return item.task?.type ?? `remote workers of ${item.group}`;
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
  const more = h("button", { class: "button small", type: "button", hidden: true, onclick: () => load(true).catch(complain) }, "Show more");
  const count = h("span", { class: "grow" });
  const table = h(
    "section",
    { class: "card", hidden: true },
    h(
      "div",
      { class: "scroll-x" },
      h(
        "table",
        { class: "plain" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Definition", "Status", "Trigger", "Next", "Last run"].map((name) => h("th", {}, name)),
            h("th", {}, h("span", { class: "visually-hidden" }, "Actions")),
          ),
        ),
        body,
      ),
    ),
    h("div", { class: "foot" }, count, more),
  );
  const calendarCard = h("section", { class: "card", hidden: true }, h("header", {}, h("h2", {}, "Coming runs")), coming);
  root.append(
    h(
      "div",
      { class: "head" },
      h("div", { class: "grow" }, h("h1", {}, "Definitions"), h("p", {}, "Schedules that create tasks.")),
      h("button", { class: "button primary submit-only", type: "button", onclick: () => newDefinition(me) }, "New definition"),
    ),
    empty,
    calendarCard,
    table,
  );
  let items = [];
  let cursor = null;

  async function load(next = false) {
    try {
      const page = await get("definitions", { limit: PAGE, cursor: next ? cursor : null });
      items = next ? items.concat(page.items) : page.items;
      cursor = page.next_cursor;
    } catch (error) {
      table.hidden = calendarCard.hidden = true;
      empty.hidden = false;
      empty.replaceChildren(h("strong", {}, "No definitions here"), error.message);
      empty.dataset.broken = "";
      return;
    }
    delete empty.dataset.broken;
    more.hidden = !cursor;
    table.hidden = items.length === 0;
    empty.hidden = items.length > 0;
    empty.replaceChildren(h("strong", {}, "No definitions"), "A definition creates tasks by a rule: each morning, every 30 seconds, once on Friday.");
    setText(count, `${number(items.length)} ${items.length === 1 ? "definition" : "definitions"}`);
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
            { class: "nowrap" },
            item.last_outcome
              ? h("a", { href: `#/tasks/${segment(item.last_outcome.task_id)}` }, statusBadge(item.last_outcome.status))
              : moment(item.last_run_at),
          ),
          h("td", { class: "actions-cell" }, h("span", { class: "actions" }, actions(item, load))),
        ),
      ),
    );
    await loadComing();
  }

  async function loadComing() {
    const soon = items
      .filter((item) => item.next_run_at && ["active", "running"].includes(item.status.toLowerCase()))
      .sort((a, b) => (a.next_run_at < b.next_run_at ? -1 : 1))
      .slice(0, DRAWN);
    const previews = await Promise.all(
      soon.map((item) =>
        get(`definitions/${segment(item.task_def_id)}/preview`, { count: 10 }).then(
          (found) => found.items.map((run) => ({ at: run.due_at ?? run.scheduled_at, id: item.task_def_id, name: nameOf(item) })),
          () => [],
        ),
      ),
    );
    const runs = previews.flat();
    calendarCard.hidden = runs.length === 0;
    coming.replaceChildren(calendar(runs));
  }

  load().catch(complain);
  const timer = setInterval(() => document.hidden || root.contains(document.activeElement) || items.length > PAGE || load().catch(() => {}), 10000);
  ending(() => clearInterval(timer));
}

function showOne(root, { id, ending }) {
  const path = `definitions/${segment(id)}`;
  const head = h("div", { class: "task-head" });
  const main = h("div", { class: "stack" });
  const side = h("div", { class: "stack" });
  root.append(
    h("nav", { class: "crumbs", "aria-label": "Where you are" }, h("a", { href: "#/definitions" }, "Definitions"), " / ", id),
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
      h("div", { class: "actions" }, actions(item, load)),
    );
    const card = (title, ...content) => h("section", { class: "card" }, h("header", {}, h("h2", {}, title)), ...content);
    const fact = (name, value) => (value === null || value === undefined || value === "" ? null : h("div", {}, h("dt", {}, name), h("dd", {}, value)));
    const { warnings = [] } = item;
    main.replaceChildren(
      ...warnings.map((warning) => h("p", { class: "notice warn", role: "status" }, `Its tasks would wait: ${warning.text}`)),
      card(
        "Instances",
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
                      h("td", { class: "muted" }, one.trigger),
                      h("td", { class: "muted clip" }, one.error?.message ?? ""),
                    ),
                  ),
                ),
              ),
            )
          : h("div", { class: "empty" }, h("strong", {}, "No instances yet"), "The instances of this definition will be listed here."),
      ),
      card("Content", h("div", { class: "body" }, jsonBlock(item.content ?? null))),
      card(
        "Changes",
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
                h("span", {}, h("b", {}, one.action), ` by ${one.actor}`),
                h("time", { datetime: one.at, title: fullTime(one.at) }, ago(one.at)),
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
        "Schedule",
        h(
          "div",
          { class: "body" },
          h(
            "dl",
            { class: "facts" },
            fact("Trigger", h("span", {}, schedule(item))),
            fact("Runs", runsAs(item)),
            fact("Group", h("a", { href: `#/tasks?queue=${segment(item.group)}` }, item.group)),
            fact("User", item.user_id),
            fact("Overlap", item.overlap),
            fact("Misfire", item.misfire),
            fact("Next", item.next_run_at && fullTime(item.next_run_at)),
            fact("Begins", item.start_at && fullTime(item.start_at)),
            fact("Ends", item.end_at && fullTime(item.end_at)),
            fact("Most runs", item.max_runs),
            counters.map(([name, value]) => fact(name.replaceAll("_", " "), number(value))),
          ),
        ),
      ),
      card("Coming runs", h("div", { class: "body" }, calendar(coming.items.map((run) => ({ at: run.due_at ?? run.scheduled_at, id, name: nameOf(item) }))))),
    );
  }

  const failed = (error) =>
    head.replaceChildren(
      h(
        "div",
        { class: "card empty grow", dataset: error.status === 404 ? {} : { broken: "" } },
        h("strong", {}, error.status === 404 ? "This definition does not exist" : "Not available"),
        error.message,
      ),
    );
  load().catch(failed);
  const timer = setInterval(() => document.hidden || root.contains(document.activeElement) || load().catch(() => {}), 5000);
  ending(() => clearInterval(timer));
}
