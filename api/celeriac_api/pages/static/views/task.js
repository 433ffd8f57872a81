// One task: where its time went, why it waits, its log, its payload and its result, and the actions on it.

import { address, get, onceKey, post, segment } from "../api.js";
import { copyAsButtons, hasMask, submissionOf } from "../copy-as.js";
import { bar, h, icon, setBar, setText, statusBadge } from "../dom.js";
import { duration, exactTime, fullTime, longTime, number, ranFor, shortId } from "../format.js";
import { live } from "../live.js";
import { TaskFamily } from "../taskfamily.js";
import { TaskLog } from "../tasklog.js";
import { TaskParents } from "../taskparents.js";
import { TaskSteps } from "../tasksteps.js";
import { t } from "../text.js";
import { command, complain, confirm, copy, dialog, note, shellWord, throttle } from "../ui.js";
import { jsonValue, payloadOf, resultOf } from "../values.js";
import { Waterfall } from "../waterfall.js";
import { whyLines } from "../why.js";
import { answerForm } from "./waits.js";

const FINAL = ["completed", "failed", "cancelled"];
/** How many events are kept: changes of status and of the stage. */
const EVENTS = 2000;
/** After this time a refused stream is opened again (ms). */
const AGAIN_MS = 3000;
/** How often the page asks why a task waits (ms). */
const WHY_MS = 5000;
/** How many of the tasks that it waits for are named, and how many children. */
const WAITS = 10;
/** The type of the tasks that act on all tasks of a filter. */
const BULK = "celeriac.bulk";
/** Conditions of a filter that the list takes from its search only. */
const FINISHED = ["finished_after", "finished_before"];
/** What the name of a task that was made by another one is called in the metadata. */
const COPY_OF = "copy_of";

/** Return what a task waits for: links to tasks, signals, a moment. */
function waitsFor(items) {
  const one = ({ task, when, signal, title, until }) =>
    task
      ? [h("a", { class: "mono", href: `#/tasks/${segment(task)}`, title: task }, task.slice(0, 8)), " ", ["completed", "failed", "ended"].includes(when) ? t(`task.waits.${when}`) : when]
      : signal
        ? title || t("task.waits.signal", { name: signal })
        : until && [h("time", { datetime: until, title: exactTime(until) }, fullTime(until))];
  const shown = items.slice(0, WAITS).map((item) => h("div", {}, one(item)));
  return items.length > WAITS ? [...shown, h("div", { class: "muted" }, t("task.and_more", { n: items.length - WAITS }))] : shown;
}

/** Return the events with the first report of each stage and the latest report, and no more than are kept. */
function fold(events) {
  let stage = null;
  const latest = events.findLast((event) => event.kind === "progress");
  const kept = events.filter((event) => {
    if (event.kind === "status") stage = null;
    if (event.kind !== "progress") return true;
    const changed = event.stage !== stage;
    stage = event.stage;
    return changed || event === latest;
  });
  const spare = kept.length - EVENTS;
  if (spare <= 0) return kept;
  // If there are too many, stages go first.
  let left = spare;
  return kept.filter((event) => event.kind === "status" || left-- <= 0).slice(-EVENTS);
}

export function show(root, { id, query, ending, me }) {
  const path = `tasks/${segment(id)}`;
  let task = null;
  let events = [];
  /** The id of the last event that was heard, also of a report that is not kept. */
  let last = "";
  let source = null;
  let ended = false;
  let heard = false;
  let gone = false;
  let again = null;
  /** Why it waits: an answer of the API, or null. */
  let why = null;
  /** The tasks that "Run again" made of this one. */
  let copies = [];
  /** The definitions that were asked for their names, by id. */
  const definitions = {};
  /** Who cancelled it: an entry of the audit, or null. */
  let canceller = null;

  const badge = statusBadge("pending");
  badge.hidden = true;
  const title = h("span", {}, t("task.title"));
  const about = h("p", { class: "about clip", hidden: true });
  const actions = h("div", { class: "actions" });
  const percent = h("b", {}, "–");
  const stage = h("span", { class: "muted" });
  const meter = bar(0, null, t("task.progress_label"));
  const progressLine = h("div", { class: "progress-line" }, percent, stage);
  const whyList = h("ul", { class: "why" });
  const whyBox = h("div", { class: "why-box", hidden: true }, h("h2", {}, t("task.why")), whyList, command(`celeriac why ${shellWord(id)}`));
  const progressCard = h("section", { class: "card" }, h("div", { class: "body" }, progressLine, meter, whyBox));
  const facts = h("dl", { class: "facts" });
  const error = h("section", { class: "card", hidden: true });
  const payload = h("div", { class: "body" });
  const metadata = h("div", { class: "body" });
  const result = h("div", { class: "body" });
  const button = (text, onclick, kind = "") => h("button", { class: `button submit-only ${kind}`, type: "button", onclick }, text);
  const copyButton = (read, done) => h("button", { class: "button small quiet", type: "button", onclick: () => copy(JSON.stringify(read(), null, 2), done) }, icon("copy"), t("common.copy"));
  const resultCard = h("section", { class: "card", hidden: true }, h("header", {}, h("h2", {}, t("task.result")), h("span", { class: "actions" })), result);
  const metadataCard = h("section", { class: "card", hidden: true }, h("header", {}, h("h2", {}, t("task.metadata")), copyButton(() => task.metadata, t("task.metadata_copied"))), metadata);
  const log = new TaskLog(id, { marked: query?.get("line"), heard: () => logHeard() });
  const waterfall = new Waterfall((line) => log.link(line));
  const family = new TaskFamily(() => (waterfall.set({ children: family.children }), task && drawFacts()));
  const parents = new TaskParents();
  const steps = new TaskSteps(path, retryFrom, (known) => waterfall.set({ steps: known }));
  const question = h("section", { class: "card", hidden: true });
  const small = (text, name, onclick) => h("button", { class: "button small quiet icon", type: "button", "aria-label": text, title: text, onclick }, icon(name));
  const body = h(
    "div",
    { class: "task-body", hidden: true },
    h(
      "div",
      { class: "stack" },
      progressCard,
      question,
      error,
      waterfall.card,
      resultCard,
      family.card,
      steps.card,
      log.card,
      h("section", { class: "card" }, h("header", {}, h("h2", {}, t("task.payload")), h("span", { class: "actions" }, copyAsButtons(() => submissionOf(task)), copyButton(() => task.payload, t("task.payload_copied")))), payload),
      metadataCard,
    ),
    h("div", { class: "stack" }, h("section", { class: "card" }, h("header", {}, h("h2", {}, t("task.facts"))), h("div", { class: "body" }, facts))),
  );

  root.append(
    h("nav", { class: "crumbs", "aria-label": t("task.crumbs") }, h("a", { href: "#/tasks" }, t("frame.tasks")), " / ", id),
    h(
      "div",
      { class: "task-head" },
      h(
        "div",
        { class: "grow" },
        h("h1", {}, title, badge),
        about,
        h(
          "span",
          { class: "id" },
          id,
          small(t("task.copy_id"), "copy", () => copy(id, t("task.id_copied"))),
          small(t("task.copy_link"), "link", () => copy(new URL(`#/tasks/${segment(id)}`, location.href).href, t("task.link_copied"))),
        ),
      ),
      actions,
    ),
    body,
  );

  // --- drawing

  function draw() {
    const { status, progress } = task;
    setText(title, task.type);
    setText(about, task.title ?? "");
    about.hidden = !task.title;
    about.title = task.title ?? "";
    document.title = `${[task.type, task.title].filter(Boolean).join(" · ")} · Celeriac`;
    badge.hidden = false;
    badge.dataset.status = status;
    setText(badge, task.cancel_requested && !FINAL.includes(status) ? t("status.cancelling") : t(`status.${status}`));
    body.hidden = false;
    drawProgress(progress);
    drawFacts();
    drawActions();
    drawQuestion();
    log.follow(!FINAL.includes(status));
    family.follow(task);
    parents.follow(task.depends_on);
    drawError();
    drawResult();
    drawOnce(payload, task.payload, () => payloadOf(task));
    metadataCard.hidden = !Object.keys(task.metadata ?? {}).length;
    if (!metadataCard.hidden) drawOnce(metadata, task.metadata, () => [jsonValue(task.metadata, t("task.metadata"))]);
  }

  /** Draw a value, unless it is there: what a user has opened in it stays open. */
  function drawOnce(element, value, make) {
    const key = JSON.stringify(value) ?? "";
    if (element.drawn === key) return;
    element.drawn = key;
    element.replaceChildren(...make());
  }

  function drawResult() {
    resultCard.hidden = task.status !== "completed";
    if (task.status !== "completed") return;
    drawOnce(result, [task.result, task.finished_at], () => resultOf(task));
    const file = task.type === "file_process" || task.result?.result_file_path;
    const key = `${Boolean(file)}`;
    const buttons = resultCard.querySelector(".actions");
    if (buttons.dataset.key === key) return;
    buttons.dataset.key = key;
    buttons.replaceChildren(
      ...(file ? [h("a", { class: "button small", href: address(`${path}/file`).href, download: "" }, t("task.download"))] : []),
      copyButton(() => task.result, t("task.result_copied")),
    );
  }

  function drawError() {
    const trace = log.firstTrace;
    const key = JSON.stringify([task.damaged, task.error, task.status, trace?.id, canceller]);
    if (error.dataset.key === key) return;
    error.dataset.key = key;
    error.hidden = !task.error && !task.damaged;
    error.classList.toggle("calm", task.status === "cancelled" && !task.damaged);
    if (task.damaged) {
      error.replaceChildren(h("header", {}, h("h2", {}, t("task.damaged"))), h("div", { class: "body" }, h("p", { class: "error-text" }, task.damaged)));
      return;
    }
    if (!task.error) return;
    const { message, code } = task.error;
    const head = (text) => h("header", {}, h("h2", {}, text), code === "cancelled" ? null : h("span", { class: "chip" }, h("span", { class: "clip", title: code }, code)));
    if (task.status === "cancelled") {
      const by = canceller && h("p", { class: "muted" }, t("task.cancelled_by", { actor: canceller.actor, at: fullTime(canceller.at) }), canceller.address ? ` (${canceller.address})` : "");
      error.replaceChildren(head(t("task.cancelled")), h("div", { class: "body" }, h("p", { class: "breaks" }, message), by));
      return;
    }
    const again = task.status === "retrying" || task.status === "processing" || task.status === "pending" || task.status === "waiting";
    error.replaceChildren(
      head(again ? t("task.last_failed") : t("task.error")),
      h(
        "div",
        { class: "body" },
        message.includes("\n") ? h("pre", { class: "error-text trace", tabindex: 0 }, message) : h("p", { class: "error-text" }, message),
        trace ? [h("p", { class: "small muted" }, t("task.first_trace", { n: trace.attempt }), " ", h("a", { href: log.link(trace.id) }, t("task.in_log"))), h("pre", { class: "trace first-trace", tabindex: 0 }, trace.data.traceback)] : null,
      ),
    );
  }

  /** The form for an answer that the task waits for. One that a user fills in stays as it is. */
  function drawQuestion() {
    const asked = task.waiting_for?.find((one) => one.signal);
    const key = asked ? JSON.stringify([task.attempt, asked]) : "";
    if (question.dataset.key === key) return;
    question.dataset.key = key;
    question.hidden = !asked;
    if (!asked) return question.replaceChildren();
    return question.replaceChildren(
      h("header", {}, h("h2", { class: "clip-lines" }, asked.title || asked.signal), asked.expires_at ? h("span", { class: "small muted" }, t("task.until", { at: fullTime(asked.expires_at) })) : null),
      h("div", { class: "body" }, answerForm({ task_id: id, ...asked }, () => loadSoon())),
    );
  }

  function drawProgress(progress) {
    // Where the time went says more of an ended task than "100 %".
    const over = FINAL.includes(task.status);
    const shown = progress.percentage;
    // The progress of a task without a report is unknown, not zero.
    const known = shown > 0 || progress.stage || progress.message;
    setText(percent, known ? `${Number.isInteger(shown) ? shown : shown.toFixed(1)} %` : "–");
    setText(stage, [progress.stage, progress.message].filter(Boolean).join(" · "));
    // A task that has not begun has no progress to show, only a reason to wait.
    const waits = why !== null && why.reasons.length > 0 && !over && task.status !== "processing";
    whyBox.hidden = !waits;
    progressLine.hidden = meter.hidden = !known && (waits || task.status !== "processing");
    progressCard.hidden = task.status === "completed" || task.status === "cancelled" || (whyBox.hidden && progressLine.hidden) || (over && !known);
    setBar(meter, shown, task.status);
  }

  /** A link to the definition that made the task: by its name, once that is known. */
  function definitionLink(id) {
    definitions[id] ??= { name: "", asked: get(`definitions/${segment(id)}`).then(({ name }) => ((definitions[id].name = name ?? ""), drawFacts()), () => {}) };
    const { name } = definitions[id];
    return h("a", { href: `#/definitions/${segment(id)}`, class: name ? "" : "mono", title: id }, name || shortId(id));
  }

  function drawFacts() {
    // A definition notes itself in the metadata; others may write there too.
    const definition = task.metadata?.schedule?.task_def_id;
    const original = task.metadata?.[COPY_OF];
    // A chain comes first, then its last link, whose record this becomes.
    const replaced = [...new Set(events.map((event) => event.replaced_by).filter(Boolean))].slice(-WAITS);
    const nexts = [...new Set(events.map((event) => event.next).filter(Boolean))].slice(-WAITS);
    const link = (name) => h("a", { href: `#/tasks/${segment(name)}`, class: "mono", title: name }, shortId(name));
    const fact = (name, value) =>
      value === null || value === undefined || value === false || value === "" || (Array.isArray(value) && !value.length)
        ? null
        : h("div", {}, h("dt", {}, t(`task.fact.${name}`)), h("dd", {}, value));
    const moment = (at) => at && h("time", { datetime: at, title: exactTime(at) }, longTime(at));
    const list = (items, make) => [...items.slice(0, WAITS).map((one) => h("div", {}, make(one))), items.length > WAITS ? h("div", { class: "muted" }, t("task.and_more", { n: items.length - WAITS })) : null].filter(Boolean);
    facts.replaceChildren(
      ...[
        fact("type", h("a", { href: `#/types/${segment(task.type)}` }, task.type)),
        fact("group", h("a", { href: `#/tasks?queue=${segment(task.queue)}` }, task.queue)),
        // A task that was retried by hand has more attempts than it was submitted with.
        fact("attempt", task.attempt > task.max_retries + 1 ? number(task.attempt) : t("task.attempt_of", { n: task.attempt, most: task.max_retries + 1 })),
        fact("worker", task.worker && (me.admin ? h("a", { href: "#/workers", class: "mono" }, task.worker) : h("span", { class: "mono" }, task.worker))),
        fact("priority", task.priority || null),
        fact("key", task.key && h("a", { class: "chip", href: `#/tasks?key=${segment(task.key)}` }, h("span", { class: "clip", title: task.key }, task.key))),
        fact("user", task.user_id && h("a", { href: `#/tasks?user_id=${segment(task.user_id)}` }, task.user_id)),
        fact(
          "tags",
          task.tags.map((tag) => [h("a", { class: "chip", href: `#/tasks?tag=${segment(tag)}` }, h("span", { class: "clip", title: tag }, tag)), " "]),
        ),
        fact("workflow", task.workflow_id && [h("a", { href: `#/workflows/${segment(task.workflow_id)}`, class: "mono" }, shortId(task.workflow_id)), t("task.node", { node: task.node })]),
        fact("parent", family.parent && h("a", { href: family.parent.href }, family.parent.name)),
        fact(
          "children",
          list(family.children, (child) => [h("a", { href: child.href }, child.name), " ", statusBadge(child.status)]),
        ),
        fact("definition", typeof definition === "string" && definitionLink(definition)),
        fact("copy_of", typeof original === "string" && link(original)),
        fact("copies", list(copies, (one) => [link(one.task_id), " ", statusBadge(one.status)])),
        fact("depends_on", task.depends_on && parents.element),
        fact("next", list(nexts, link)),
        fact("replaced_by", list(replaced, (name) => h("span", { class: "mono" }, name))),
        fact("bulk", task.type === BULK && task.payload?.filter && h("a", { href: `#/tasks?${new URLSearchParams(plainFilter(task.payload.filter))}` }, t("task.bulk_tasks"))),
        fact("waits_for", task.waiting_for && waitsFor(task.waiting_for)),
        fact("submitted", moment(task.created_at)),
        fact("started", moment(task.started_at)),
        fact("ended", moment(task.finished_at)),
        fact("ran", task.started_at && duration(ranFor(task))),
        fact("runs_at", !FINAL.includes(task.status) && moment(task.run_at)),
        fact("expires", !FINAL.includes(task.status) && moment(task.expires_at)),
      ].filter(Boolean),
    );
  }

  /** A filter as the address of the list has it: lists with commas, and moments that have no field there as a search. */
  function plainFilter(filter) {
    const texts = Object.entries(filter)
      .map(([name, value]) => [name, [value].flat().filter((one) => one !== null && typeof one !== "object").join(",")])
      .filter(([, text]) => text);
    const sought = texts.filter(([name]) => FINISHED.includes(name));
    const shown = texts.filter(([name]) => !FINISHED.includes(name) && name !== "q");
    const words = [filter.q, ...sought.map(([name, text]) => `${name}:${text}`)].filter((one) => typeof one === "string");
    return words.length ? [...shown, ["q", words.join(" ")]] : shown;
  }

  function drawActions() {
    const wanted = [];
    const over = FINAL.includes(task.status);
    if (over) wanted.push(button(t("task.again"), runAgain, task.status === "completed" ? "primary" : ""));
    if (task.status === "failed" || task.status === "cancelled") {
      wanted.push(button(t("task.edit_retry"), editAndRetry), button(t("task.retry"), retry, "primary"));
    } else if (!over && !task.cancel_requested) {
      if (task.status === "scheduled" || task.status === "retrying") wanted.push(button(t("task.run_now"), runNow));
      wanted.push(button(t("task.cancel"), cancel, "danger"));
    }
    if (task.type === "file_process") wanted.unshift(h("a", { class: "button", href: address(`${path}/original`).href, download: "" }, t("task.original")));
    const key = wanted.map((one) => one.textContent).join();
    // Do not replace a button that a user may be pressing.
    if (actions.dataset.key !== key) {
      actions.dataset.key = key;
      actions.replaceChildren(...wanted);
    }
  }

  const waterfallSoon = throttle(() => waterfall.set({ events }), 250);
  function logHeard() {
    waterfall.set({ marks: log.marks });
    if (task) drawError();
  }

  // --- reading

  async function load() {
    task = await get(path);
    draw();
    loadWhy().catch(() => {});
    loadCanceller().catch(() => {});
    loadCopies().catch(() => {});
    // Without a right to read them, or before the first one, the card is hidden.
    steps.read(FINAL.includes(task.status)).catch(() => {});
  }

  async function loadWhy() {
    const waits = task && task.status !== "processing" && !FINAL.includes(task.status);
    const asked = waits ? await get(`${path}/why`) : null;
    const told = asked && asked.status === task.status ? asked : null;
    if (JSON.stringify(told) === JSON.stringify(why)) return;
    why = told;
    if (why !== null) whyList.replaceChildren(...whyLines(why));
    drawProgress(task.progress);
  }

  /** Only admins may read who did what. */
  async function loadCanceller() {
    if (!me.admin || task.status !== "cancelled" || canceller) return;
    const { items } = await get("audit", { task_id: id, limit: 10 });
    canceller = items.find((one) => one.action === "task.cancel") ?? null;
    drawError();
  }

  /** The search knows of which task another one is a copy. */
  async function loadCopies() {
    if (!FINAL.includes(task.status)) return;
    const { items } = await get("tasks", { q: `"${id}"`, fields: "status,metadata", limit: WAITS + 1 });
    copies = items.filter((one) => one.metadata?.[COPY_OF] === id);
    drawFacts();
  }

  const loadSoon = throttle(() => load().catch(complain), 400);

  async function loadEvents() {
    let cursor = null;
    const found = [];
    do {
      const page = await get(`${path}/events`, { limit: 1000, cursor, progress: "stages" });
      found.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor && found.length < EVENTS);
    const seen = new Set(found.map((event) => event.id));
    const after = found.at(-1)?.timestamp_ms ?? 0;
    const later = events.filter((event) => !seen.has(event.id) && event.timestamp_ms > after);
    last = later.at(-1)?.id ?? found.at(-1)?.id ?? last;
    events = fold([...found, ...later]);
    waterfall.set({ events });
    drawFacts();
  }

  /** Follow the stream of this task. It has every report, and continues where it was after a lost connection. */
  function follow() {
    source?.close();
    if (gone) return;
    ended = false;
    source = new EventSource(address(`${path}/progress/stream`, { include: "status", last_event_id: last }));
    const hear = (kind) => (message) => {
      const data = JSON.parse(message.data);
      if (!message.lastEventId || message.lastEventId === last || events.at(-1)?.id === message.lastEventId) return;
      last = message.lastEventId;
      events = fold([...events, { ...data, id: last, kind, at: new Date(Number(last.split("-")[0])).toISOString() }]);
      if (kind === "progress") {
        task.progress = data;
        drawSoon();
      } else {
        task.status = data.status;
        loadSoon();
      }
      waterfallSoon();
    };
    source.addEventListener("progress", hear("progress"));
    source.addEventListener("status", hear("status"));
    source.addEventListener("done", () => {
      source.close();
      ended = true;
      load().then(loadEvents).catch(complain);
    });
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      // It was refused: the record is gone, the server is starting, or its store is unavailable.
      ended = true;
      clearTimeout(again);
      again = setTimeout(resume, AGAIN_MS);
    };
  }

  const drawSoon = throttle(() => drawProgress(task.progress), 100);

  /** Check whether another user has retried the ended task. It may have ended again since. */
  async function look() {
    const { status, attempt } = task;
    await load();
    if (task.status === status && task.attempt === attempt) return;
    await loadEvents();
    if (!FINAL.includes(task.status)) follow();
  }

  /** Follow the task if it has not ended, as soon as the server answers. */
  async function resume() {
    try {
      await load();
      await loadEvents();
      if (!FINAL.includes(task.status)) follow();
    } catch {
      if (!gone) again = setTimeout(resume, AGAIN_MS);
    }
  }

  // --- acting

  async function act(work, done) {
    try {
      await work();
      note(done);
      await load();
      await loadEvents();
      if (!FINAL.includes(task.status) && (ended || !source)) follow();
    } catch (failure) {
      complain(failure);
    }
  }

  async function cancel() {
    const text = task.status === "processing" ? t("task.cancel_running") : t("task.cancel_waiting");
    if (await confirm({ title: t("task.cancel_title"), text, action: t("task.cancel"), danger: true })) await act(() => post(`${path}/cancel`), t("task.cancel_done"));
  }

  async function retry() {
    if (await confirm({ title: t("task.retry_title"), text: t("task.retry_text"), action: t("task.retry") })) {
      const key = onceKey();
      await act(() => post(`${path}/retry`, {}, { headers: { "Idempotency-Key": key } }), t("task.retry_done"));
    }
  }

  async function retryFrom(step) {
    if (await confirm({ title: t("task.from_title", { step }), text: t("task.from_text"), action: t("task.retry") })) {
      const key = onceKey();
      await act(() => post(`${path}/retry`, { from_step: step }, { headers: { "Idempotency-Key": key } }), t("task.retry_done"));
    }
  }

  async function runNow() {
    if (await confirm({ title: t("task.now_title"), text: task.status === "retrying" ? t("task.now_retrying") : t("task.now_scheduled"), action: t("task.run_now") }))
      await act(() => post(`${path}/run-now`), t("task.now_done"));
  }

  /** Let the user edit the payload; `send(document)` does something with it, and resolves with the answer of the dialog. */
  function editPayload({ title, text = null, action, send }) {
    return dialog((close) => {
      const field = h("textarea", { class: "field", rows: 14, spellcheck: "false", "aria-label": t("task.payload"), value: JSON.stringify(task.payload, null, 2) });
      const trouble = h("p", { class: "error-text", role: "alert" });
      const go = async (event) => {
        event.preventDefault();
        try {
          close(await send(JSON.parse(field.value)));
        } catch (failure) {
          field.setAttribute("aria-invalid", "true");
          setText(trouble, failure instanceof SyntaxError ? t("task.no_json", { problem: failure.message }) : failure.message);
        }
      };
      return h(
        "form",
        { method: "dialog", onsubmit: go },
        h("h2", {}, title),
        text ? h("p", { class: "muted" }, text) : null,
        field,
        trouble,
        h("footer", {}, h("button", { class: "button", type: "button", onclick: () => close(null) }, t("common.keep")), h("button", { class: "button primary", type: "submit" }, action)),
      );
    });
  }

  async function editAndRetry() {
    const key = onceKey();
    const changed = await editPayload({
      title: t("task.edit_title"),
      action: t("task.edit_action"),
      send: async (document) => {
        await post(`${path}/retry`, { payload: document }, { headers: { "Idempotency-Key": key } });
        return true;
      },
    });
    if (changed) await act(async () => {}, t("task.edit_done"));
  }

  /** Submit a task like this one. It has an id and a history of its own. */
  async function runAgain() {
    const key = onceKey();
    const made = await editPayload({
      title: t("task.again_title"),
      text: hasMask(task.payload) ? t("task.again_secrets") : t("task.again_text"),
      action: t("task.again"),
      send: async (document) => {
        if (hasMask(document)) throw new Error(t("task.again_masked"));
        const like = submissionOf(task);
        const answer = await post("tasks", { ...like, payload: document, metadata: { ...like.metadata, [COPY_OF]: id } }, { headers: { "Idempotency-Key": key } });
        if (answer.deduplicated) note(t("task.again_known"));
        return answer.task_id;
      },
    });
    if (made) location.hash = `#/tasks/${segment(made)}`;
  }

  /** Do what a key means for this task. */
  function onKey(event) {
    if (!task || event.metaKey || event.ctrlKey || event.altKey || event.target.closest?.("input, textarea, select, [contenteditable]") || document.querySelector("dialog[open]")) return;
    const over = FINAL.includes(task.status);
    const works = { r: task.status === "completed" ? runAgain : over ? retry : null, c: over || task.cancel_requested ? null : cancel };
    if (event.key === "y") copy(id, t("task.id_copied"));
    else if (works[event.key] && document.documentElement.dataset.submit !== "no") {
      // The letter is not for a field of the dialog that opens.
      event.preventDefault();
      works[event.key]();
    }
  }
  addEventListener("keydown", onKey);
  ending(() => removeEventListener("keydown", onKey));

  // --- life

  load()
    .then(async () => {
      ended = FINAL.includes(task.status);
      await loadEvents();
      if (!ended) follow();
      else if (heard) await look();
    })
    .catch((failure) => {
      body.replaceWith(
        h(
          "div",
          { class: "card empty", dataset: failure.status === 404 ? {} : { broken: "" } },
          h("strong", {}, failure.status === 404 ? t("task.unknown") : t("task.not_available")),
          failure.message,
        ),
      );
    });
  ending(
    live.on("tasks", ({ tasks }) => {
      const mine = tasks.find((one) => one.task_id === id);
      if (!mine) return;
      heard = true;
      if (task && ended && (mine.status !== task.status || mine.attempt !== task.attempt)) look().catch(complain);
    }),
  );
  // The task may have changed before the stream was complete.
  ending(live.on("told", () => ((heard = true), task && ended && look().catch(() => {}))));
  const timer = setInterval(() => task && !document.hidden && (drawFacts(), FINAL.includes(task.status) || (drawProgress(task.progress), waterfall.draw())), 1000);
  const asking = setInterval(() => document.hidden || loadWhy().catch(() => {}), WHY_MS);
  ending(() => ((gone = true), clearInterval(timer), clearInterval(asking), clearTimeout(again), source?.close(), log.end(), family.end(), parents.end()));
}
