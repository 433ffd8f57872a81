// One task: its progress, its timeline, its payload and its result, and the actions on it.

import { address, get, onceKey, post, segment } from "../api.js";
import { bar, h, icon, setBar, setText, statusBadge } from "../dom.js";
import { ago, clockTime, duration, fullTime, jsonBlock, number, ranFor, shortId } from "../format.js";
import { live } from "../live.js";
import { TaskFamily } from "../taskfamily.js";
import { TaskLog } from "../tasklog.js";
import { TaskParents } from "../taskparents.js";
import { TaskSteps } from "../tasksteps.js";
import { command, complain, confirm, copy, dialog, note, shellWord, throttle } from "../ui.js";
import { whyLines } from "../why.js";
import { answerForm } from "./waits.js";

const FINAL = ["completed", "failed", "cancelled"];
/** How many events the timeline shows. In a long one, progress reports are left out first. */
const EVENTS = 200;
/** After this time a refused stream is opened again (ms). */
const AGAIN_MS = 3000;
/** How often the page asks why a task waits (ms). */
const WHY_MS = 5000;
/** What became of another submission with the same key of `once`. */
const CONFLICTS = {
  return: "Stands for another submission",
  reject: "Another submission was refused",
  replace: "Replaced by another submission",
  latest: "Another submission brought its payload",
};
/** How many of the tasks that it waits for are named. */
const WAITS = 10;

/** Return what a task waits for: links to tasks, signals, a moment. */
function waitsFor(items) {
  const words = { completed: "to complete", failed: "to fail", ended: "to end" };
  const one = ({ task, when, signal, title, until }) =>
    task
      ? [h("a", { class: "mono", href: `#/tasks/${segment(task)}`, title: task }, task.slice(0, 8)), ` ${words[when] ?? when}`]
      : signal
        ? title || `the signal ${signal}`
        : until && [h("time", { datetime: until, title: fullTime(until) }, fullTime(until))];
  const shown = items.slice(0, WAITS).map((item) => h("div", {}, one(item)));
  return items.length > WAITS ? [...shown, h("div", { class: "muted" }, `and ${number(items.length - WAITS)} more`)] : shown;
}

export function show(root, { id, ending, me }) {
  const path = `tasks/${segment(id)}`;
  let task = null;
  let events = [];
  let source = null;
  let ended = false;
  let heard = false;
  let gone = false;
  let again = null;
  /** Why it waits: an answer of the API, or null. */
  let why = null;

  const badge = statusBadge("pending");
  badge.hidden = true;
  const title = h("span", {}, "Task");
  const actions = h("div", { class: "actions" });
  const percent = h("b", {}, "–");
  const stage = h("span", { class: "muted" });
  const meter = bar(0, null, "progress of the task");
  const progressLine = h("div", { class: "progress-line" }, percent, stage);
  const whyList = h("ul", { class: "why" });
  const whyBox = h("div", { class: "why-box", hidden: true }, h("h2", {}, "Why it waits"), whyList, command(`celeriac why ${shellWord(id)}`));
  const progressCard = h("section", { class: "card" }, h("div", { class: "body" }, progressLine, meter, whyBox));
  const facts = h("dl", { class: "facts" });
  const timeline = h("ol", { class: "timeline" });
  const error = h("section", { class: "card", hidden: true });
  const payload = h("div", { class: "body" });
  const result = h("div", { class: "body" });
  const resultCard = h("section", { class: "card", hidden: true }, h("header", {}, h("h2", {}, "Result"), h("span", { class: "actions" })), result);
  const log = new TaskLog(path);
  const family = new TaskFamily();
  const parents = new TaskParents();
  const steps = new TaskSteps(path, retryFrom);
  const question = h("section", { class: "card", hidden: true });
  const body = h(
    "div",
    { class: "task-body", hidden: true },
    h(
      "div",
      { class: "stack" },
      progressCard,
      question,
      error,
      family.card,
      resultCard,
      steps.card,
      log.card,
      h(
        "section",
        { class: "card" },
        h(
          "header",
          {},
          h("h2", {}, "Payload"),
          h(
            "button",
            { class: "button small quiet", type: "button", onclick: () => copy(JSON.stringify(task.payload, null, 2), "Payload copied") },
            icon("copy"),
            "Copy",
          ),
        ),
        payload,
      ),
    ),
    h(
      "div",
      { class: "stack" },
      h("section", { class: "card" }, h("header", {}, h("h2", {}, "Facts")), h("div", { class: "body" }, facts)),
      h("section", { class: "card" }, h("header", {}, h("h2", {}, "Timeline")), h("div", { class: "body" }, timeline)),
    ),
  );

  root.append(
    h("nav", { class: "crumbs", "aria-label": "Where you are" }, h("a", { href: "#/tasks" }, "Tasks"), " / ", id),
    h(
      "div",
      { class: "task-head" },
      h(
        "div",
        { class: "grow" },
        h("h1", {}, title, badge),
        h(
          "span",
          { class: "id" },
          id,
          h(
            "button",
            { class: "button small quiet icon", type: "button", "aria-label": "Copy the id", title: "Copy the id", onclick: () => copy(id, "Id copied") },
            icon("copy"),
          ),
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
    document.title = `${task.type} · Celeriac`;
    badge.hidden = false;
    badge.dataset.status = status;
    setText(badge, task.cancel_requested && !FINAL.includes(status) ? "cancelling" : status);
    body.hidden = false;
    drawProgress(progress);
    drawFacts();
    drawActions();
    drawQuestion();
    log.follow(!FINAL.includes(status));
    family.follow(task);
    parents.follow(task.depends_on);
    error.hidden = !task.error && !task.damaged;
    if (task.damaged) {
      error.replaceChildren(h("header", {}, h("h2", {}, "This record is damaged")), h("div", { class: "body" }, h("p", { class: "error-text" }, task.damaged)));
    } else if (task.error) {
      error.replaceChildren(
        h(
          "header",
          {},
          h("h2", {}, status === "retrying" || status === "processing" ? "Last attempt failed" : "Error"),
          h("span", { class: "chip" }, h("span", { class: "clip", title: task.error.code }, task.error.code)),
        ),
        h(
          "div",
          { class: "body" },
          task.error.message.includes("\n")
            ? h("pre", { class: "error-text trace", tabindex: 0 }, task.error.message)
            : h("p", { class: "error-text" }, task.error.message),
        ),
      );
    }
    resultCard.hidden = status !== "completed";
    if (status === "completed") {
      result.replaceChildren(task.result === null ? h("p", { class: "muted" }, "The task returned nothing.") : jsonBlock(task.result));
      resultCard
        .querySelector(".actions")
        .replaceChildren(
          ...(task.type === "file_process" || task.result?.result_file_path
            ? [h("a", { class: "button small", href: address(`${path}/file`).href, download: "" }, "Download the file")]
            : []),
          h(
            "button",
            { class: "button small quiet", type: "button", onclick: () => copy(JSON.stringify(task.result, null, 2), "Result copied") },
            icon("copy"),
            "Copy",
          ),
        );
    }
    if (payload.firstChild?.source !== JSON.stringify(task.payload)) {
      const block = jsonBlock(task.payload);
      block.source = JSON.stringify(task.payload);
      payload.replaceChildren(block);
    }
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
      h("header", {}, h("h2", { class: "clip-lines" }, asked.title || asked.signal), asked.expires_at ? h("span", { class: "small muted" }, `until ${fullTime(asked.expires_at)}`) : null),
      h("div", { class: "body" }, answerForm({ task_id: id, ...asked }, () => loadSoon())),
    );
  }

  function drawProgress(progress) {
    const shown = task.status === "completed" ? 100 : progress.percentage;
    // The progress of a task without a report is unknown, not zero.
    const known = shown > 0 || progress.stage || progress.message;
    progressCard.hidden = !known && FINAL.includes(task.status);
    setText(percent, known ? `${Number.isInteger(shown) ? shown : shown.toFixed(1)} %` : "–");
    setText(stage, [progress.stage, progress.message].filter(Boolean).join(" · "));
    // A task that has not begun has no progress to show, only a reason to wait.
    const waits = why !== null && why.reasons.length > 0 && !FINAL.includes(task.status) && task.status !== "processing";
    whyBox.hidden = !waits;
    progressLine.hidden = meter.hidden = waits && !known;
    setBar(meter, shown, task.status);
  }

  function drawFacts() {
    // A definition notes itself in the metadata; others may write there too.
    const definition = task.metadata?.schedule?.task_def_id;
    // A chain comes first, then its last link, whose record this becomes.
    const replaced = [...new Set(events.map((event) => event.replaced_by).filter(Boolean))].slice(-WAITS);
    const fact = (name, value) =>
      value === null || value === undefined || value === false || value === "" || (Array.isArray(value) && !value.length)
        ? null
        : h("div", {}, h("dt", {}, name), h("dd", {}, value));
    const moment = (at) =>
      at &&
      h(
        "time",
        { datetime: at, title: fullTime(at) },
        `${clockTime(at)} (${Date.parse(at) > Date.now() ? ago(at) : `${ago(at)}${ago(at) === "now" ? "" : " ago"}`})`,
      );
    facts.replaceChildren(
      ...[
        fact("Group", h("a", { href: `#/tasks?queue=${segment(task.queue)}` }, task.queue)),
        // A task that was retried by hand has more attempts than it was submitted with.
        fact("Attempt", task.attempt > task.max_retries + 1 ? task.attempt : `${task.attempt} of up to ${task.max_retries + 1}`),
        fact("Worker", task.worker && (me.admin ? h("a", { href: "#/workers", class: "mono" }, task.worker) : h("span", { class: "mono" }, task.worker))),
        fact("Priority", task.priority || null),
        fact("Key", task.key && h("a", { class: "chip", href: `#/tasks?key=${segment(task.key)}` }, h("span", { class: "clip", title: task.key }, task.key))),
        fact("User", task.user_id && h("a", { href: `#/tasks?user_id=${segment(task.user_id)}` }, task.user_id)),
        fact(
          "Tags",
          task.tags.map((tag) => [h("a", { class: "chip", href: `#/tasks?tag=${segment(tag)}` }, h("span", { class: "clip", title: tag }, tag)), " "]),
        ),
        fact("Workflow", task.workflow_id && [h("a", { href: `#/workflows/${segment(task.workflow_id)}`, class: "mono" }, shortId(task.workflow_id)), `, node ${task.node}`]),
        fact("Definition", typeof definition === "string" && h("a", { href: `#/definitions/${segment(definition)}`, class: "mono", title: definition }, shortId(definition))),
        fact("Depends on", task.depends_on && parents.element),
        fact(
          "Replaced by",
          replaced.map((name) => h("div", { class: "mono" }, name)),
        ),
        fact("Waits for", task.waiting_for && waitsFor(task.waiting_for)),
        fact("Submitted", moment(task.created_at)),
        fact("Started", moment(task.started_at)),
        fact("Ended", moment(task.finished_at)),
        fact("Ran", task.started_at && duration(ranFor(task))),
        fact("Runs at", !FINAL.includes(task.status) && moment(task.run_at)),
        fact("Expires", !FINAL.includes(task.status) && moment(task.expires_at)),
        fact("Metadata", Object.keys(task.metadata ?? {}).length ? h("code", {}, JSON.stringify(task.metadata)) : null),
      ].filter(Boolean),
    );
  }

  function drawActions() {
    const wanted = [];
    const button = (text, onclick, kind = "") => h("button", { class: `button submit-only ${kind}`, type: "button", onclick }, text);
    if (task.status === "failed" || task.status === "cancelled") {
      wanted.push(button("Edit and retry", editAndRetry), button("Retry", retry, "primary"));
    } else if (!FINAL.includes(task.status) && !task.cancel_requested) wanted.push(button("Cancel task", cancel, "danger"));
    if (task.type === "file_process") wanted.unshift(h("a", { class: "button", href: address(`${path}/original`).href, download: "" }, "Original"));
    const key = wanted.map((one) => one.textContent).join();
    // Do not replace a button that a user may be pressing.
    if (actions.dataset.key !== key) {
      actions.dataset.key = key;
      actions.replaceChildren(...wanted);
    }
  }

  function drawTimeline() {
    const words = {
      pending: "Waits for a worker",
      waiting: "Waits",
      scheduled: "Scheduled",
      processing: "Started",
      retrying: "Attempt failed, will retry",
      completed: "Completed",
      failed: "Failed",
      cancelled: "Cancelled",
    };
    const shown = events.length > EVENTS ? events.filter((event, i) => event.kind !== "progress" || i > events.length - EVENTS) : events;
    timeline.replaceChildren(
      ...shown
        .slice(-EVENTS)
        .reverse()
        .map((event) =>
          event.kind === "status"
            ? h(
                "li",
                { dataset: { status: event.status, kind: "status" } },
                h("b", {}, words[event.status] ?? event.status, event.attempt > 1 && event.status === "processing" ? ` (attempt ${event.attempt})` : ""),
                h("time", { datetime: event.at, title: fullTime(event.at) }, clockTime(event.at)),
                event.error ? h("p", {}, event.error.message.slice(0, 400)) : event.worker ? h("p", { class: "mono" }, event.worker) : null,
                event.replaced_by ? h("p", {}, "Replaced by ", h("span", { class: "mono" }, event.replaced_by)) : null,
              )
            : event.kind === "deduplicated"
            ? h(
                "li",
                { dataset: { kind: "deduplicated" } },
                h("span", {}, event.on_conflict === "latest" && event.next ? "Another submission runs after it" : (CONFLICTS[event.on_conflict] ?? CONFLICTS.return)),
                h("time", { datetime: event.at, title: fullTime(event.at) }, clockTime(event.at)),
                event.next ? h("p", {}, h("a", { class: "mono", href: `#/tasks/${segment(event.next)}`, title: event.next }, shortId(event.next))) : null,
              )
            : h(
                "li",
                { dataset: { kind: "progress" } },
                h("span", {}, `${Math.round(event.percentage)} %`, event.stage ? ` · ${event.stage}` : ""),
                h("time", { datetime: event.at }, clockTime(event.at)),
                event.message ? h("p", {}, event.message) : null,
              ),
        ),
    );
  }
  const timelineSoon = throttle(drawTimeline, 250);

  // --- reading

  async function load() {
    task = await get(path);
    draw();
    loadWhy().catch(() => {});
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
  const loadSoon = throttle(() => load().catch(complain), 400);

  async function loadEvents() {
    let cursor = null;
    const found = [];
    do {
      const page = await get(`${path}/events`, { limit: 1000, cursor });
      found.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor && found.length < 20000);
    const seen = new Set(found.map((event) => event.id));
    events = found.concat(events.filter((event) => !seen.has(event.id) && (!found.length || event.timestamp_ms > found.at(-1).timestamp_ms)));
    drawTimeline();
  }

  /** Follow the stream of this task. It has every report, and continues where it was after a lost connection. */
  function follow() {
    source?.close();
    if (gone) return;
    ended = false;
    source = new EventSource(address(`${path}/progress/stream`, { include: "status", last_event_id: events.at(-1)?.id ?? "" }));
    const hear = (kind) => (message) => {
      const data = JSON.parse(message.data);
      if (!message.lastEventId || events.some((event) => event.id === message.lastEventId)) return;
      events.push({ ...data, id: message.lastEventId, kind, at: new Date(Number(message.lastEventId.split("-")[0])).toISOString() });
      if (kind === "progress") {
        task.progress = data;
        drawProgress(data);
      } else {
        task.status = data.status;
        loadSoon();
      }
      timelineSoon();
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
    const text =
      task.status === "processing" ? "The task is running. It is asked to stop, and ends shortly after." : "The task has not begun, and will not run.";
    if (await confirm({ title: "Cancel this task?", text, action: "Cancel task", danger: true }))
      await act(() => post(`${path}/cancel`), "Cancellation requested");
  }

  async function retry() {
    if (
      await confirm({ title: "Run this task again?", text: "The task goes back to its group with the same payload and all its attempts.", action: "Retry" })
    ) {
      const key = onceKey();
      await act(() => post(`${path}/retry`, {}, { headers: { "Idempotency-Key": key } }), "The task waits for a worker again");
    }
  }

  async function retryFrom(step) {
    if (
      await confirm({
        title: `Run again from ${step}?`,
        text: "This step and all later ones are forgotten, and run again. Earlier steps keep their results.",
        action: "Retry",
      })
    ) {
      const key = onceKey();
      await act(() => post(`${path}/retry`, { from_step: step }, { headers: { "Idempotency-Key": key } }), "The task waits for a worker again");
    }
  }

  async function editAndRetry() {
    const changed = await dialog((close) => {
      const field = h("textarea", { class: "field", rows: 14, spellcheck: "false", "aria-label": "Payload", value: JSON.stringify(task.payload, null, 2) });
      const trouble = h("p", { class: "error-text", role: "alert" });
      const key = onceKey();
      const send = async (event) => {
        event.preventDefault();
        try {
          const document = JSON.parse(field.value);
          await post(`${path}/retry`, { payload: document }, { headers: { "Idempotency-Key": key } });
          close(true);
        } catch (failure) {
          field.setAttribute("aria-invalid", "true");
          setText(trouble, failure instanceof SyntaxError ? `The payload is not JSON: ${failure.message}` : failure.message);
        }
      };
      return h(
        "form",
        { method: "dialog", onsubmit: send },
        h("h2", {}, "Edit the payload and retry"),
        field,
        trouble,
        h(
          "footer",
          {},
          h("button", { class: "button", type: "button", onclick: () => close(null) }, "Keep as it is"),
          h("button", { class: "button primary", type: "submit" }, "Retry with this payload"),
        ),
      );
    });
    if (changed) await act(async () => {}, "The task waits for a worker again, with the new payload");
  }

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
          h("strong", {}, failure.status === 404 ? "This task does not exist" : "Not available"),
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
  const timer = setInterval(() => task && !document.hidden && (drawFacts(), FINAL.includes(task.status) || drawProgress(task.progress)), 1000);
  const asking = setInterval(() => document.hidden || loadWhy().catch(() => {}), WHY_MS);
  ending(() => ((gone = true), clearInterval(timer), clearInterval(asking), clearTimeout(again), source?.close(), log.end(), family.end(), parents.end()));
}
