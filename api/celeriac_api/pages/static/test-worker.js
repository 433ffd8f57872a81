// A worker in the browser: a person takes the tasks of a group and answers them by hand.

import { ROOT, post } from "./api.js";
import { h, icon, setText } from "./dom.js";
import { clockTime, duration, jsonBlock, shortId } from "./format.js";
import { pieces, t } from "./text.js";
import { languageSwitch, note } from "./ui.js";
import { RemoteWorker, SkipRetry, TaskError } from "./worker-sdk/celeriac-worker.js";

/** How many messages the log keeps. */
const KEPT = 300;
/** How many ended tasks stay visible. */
const ENDED = 3;

const main = document.getElementById("main");
document.title = `${t("frame.worker")} · Celeriac`;
let worker = null;
let entries = 0;

// --- connect

const badge = h("span", { class: "status", dataset: { status: "offline" }, role: "status" }, t("worker.offline"));
const identity = h("span", { class: "mono muted" });

const fields = {
  group: h("input", { class: "field", value: "default", name: "group", required: true, maxlength: 200, spellcheck: "false" }),
  models: h("input", { class: "field", name: "models", placeholder: t("worker.models_example"), spellcheck: "false" }),
  concurrency: h("input", { class: "field", name: "concurrency", type: "number", min: 1, max: 100, value: 1, required: true }),
  token: h("input", { class: "field", name: "token", type: "password", placeholder: t("worker.no_token"), autocomplete: "off" }),
};
const choices = h(
  "fieldset",
  {},
  h("label", { class: "label" }, t("worker.group"), fields.group),
  h("label", { class: "label" }, t("worker.models"), fields.models),
  h("label", { class: "label" }, t("worker.at_once"), fields.concurrency),
  h("label", { class: "label" }, t("worker.token"), fields.token),
);
const connectButton = h("button", { class: "button primary", type: "submit" }, icon("plug"), t("worker.connect"));

function connect(event) {
  event.preventDefault();
  if (worker !== null) {
    connectButton.disabled = true;
    worker.stop();
    return;
  }
  const models = fields.models.value
    .split(",")
    .map((name) => name.trim())
    .filter(Boolean);
  try {
    worker = new RemoteWorker(ROOT.href, take, {
      group: fields.group.value,
      concurrency: Number(fields.concurrency.value),
      models,
      token: fields.token.value.trim() || undefined,
      name: "a browser",
      drainTimeoutMs: 1000,
      log: (level, text) => level === "warn" && remember("warn", text, null),
      onMessage: (direction, message) => remember(direction, message.type, message),
      onState: show,
    });
  } catch (error) {
    note(error.message, "bad");
    return;
  }
  choices.disabled = true;
  connectButton.replaceChildren(t("worker.disconnect"));
  connectButton.classList.remove("primary");
  worker
    .run()
    .catch((error) => note(error.message, "bad"))
    .finally(() => {
      worker = null;
      choices.disabled = false;
      connectButton.disabled = false;
      connectButton.classList.add("primary");
      connectButton.replaceChildren(icon("plug"), t("worker.connect"));
      document.dispatchEvent(new CustomEvent("workerended"));
    });
}

const STATES = {
  connecting: ["pending", t("worker.connecting")],
  connected: ["online", t("worker.connected")],
  draining: ["paused", t("worker.finishing")],
  waiting: ["retrying", t("worker.again")],
  stopped: ["offline", t("worker.offline")],
};

function show(state, detail) {
  const [status, text] = STATES[state];
  badge.dataset.status = status;
  setText(badge, text);
  setText(identity, state === "connected" ? detail : "");
}

// --- tasks

const tasks = h("div", { class: "column", role: "group", "aria-live": "polite", "aria-label": t("worker.tasks") });
const nothing = h("section", { class: "card empty" }, h("strong", {}, t("worker.no_task")), t("worker.no_task_about"));
const automatic = h("input", { type: "checkbox" });

/** The handler of tasks: shows a task, and returns or throws what the person decides. */
function take(task) {
  if (automatic.checked) return { echo: task.data ?? task.messages };
  return new Promise((resolve, reject) => {
    const card = taskCard(task, resolve, reject);
    tasks.prepend(card.element);
    nothing.hidden = true;
    const end = (status, text) => {
      card.end(status, text);
      document.removeEventListener("workerended", gone);
      const left = [...tasks.querySelectorAll(".ended")].slice(ENDED);
      for (const old of left) old.remove();
    };
    const gone = () => (end("cancelled", t("worker.given_back")), reject(new Error("the page disconnected")));
    document.addEventListener("workerended", gone);
    task.signal.addEventListener("abort", () => {
      end("cancelled", task.signal.reason === "shutdown" ? t("worker.given_back") : t("worker.taken_back", { reason: task.signal.reason }));
      reject(task.signal.reason);
    });
    card.answered = end;
  });
}

function taskCard(task, resolve, reject) {
  const began = Date.now();
  const state = h("span", { class: "status", dataset: { status: "processing" } }, t("worker.in_hand"));
  const time = h("span", { class: "muted small nowrap" });
  const tell = () => {
    const taken = duration(1000 * Math.floor((Date.now() - began) / 1000)).replace(".0", "");
    setText(time, task.timeoutMs ? t("worker.time_of", { time: taken, limit: duration(task.timeoutMs) }) : taken);
  };
  const clock = setInterval(tell, 1000);
  tell();

  const id = `task-${++entries}`;
  const percent = h("output", { for: id }, "0 %");
  const message = h("input", { class: "field", placeholder: t("worker.message"), "aria-label": t("worker.progress_message") });
  const slider = h("input", { type: "range", min: 0, max: 100, value: 0, id });
  const report = () => {
    setText(percent, `${slider.value} %`);
    task.progress(Number(slider.value), message.value);
  };
  slider.addEventListener("input", report);
  message.addEventListener("change", report);

  const part = h("input", { class: "field", "aria-label": t("worker.part") });
  const sendPart = (event) => {
    event.preventDefault();
    if (part.value === "") return;
    task.delta(part.value);
    result.value = JSON.stringify(`${readText(result.value)}${part.value}`);
    part.value = "";
    part.focus();
  };

  const result = h("textarea", { class: "field", spellcheck: "false", value: '{"ok": true}' });
  const complete = (event) => {
    event.preventDefault();
    let value;
    try {
      value = JSON.parse(result.value);
      result.removeAttribute("aria-invalid");
    } catch (error) {
      result.setAttribute("aria-invalid", "true");
      note(t("worker.not_json", { error: error.message }), "bad");
      return;
    }
    card.answered("completed", t("status.completed"));
    resolve(value);
  };

  const reason = h("textarea", { class: "field", value: t("worker.it_failed") });
  const again = h("input", { type: "checkbox", checked: true });
  const fail = (event) => {
    event.preventDefault();
    card.answered("failed", t("status.failed"));
    const Failure = again.checked ? TaskError : SkipRetry;
    reject(new Failure(reason.value || "failed", { code: "by_hand" }));
  };

  const controls = h(
    "div",
    { class: "body" },
    jsonBlock(task.payload),
    h("div", { class: "sliding" }, h("label", { class: "muted small", for: id }, t("worker.progress")), slider, percent, message),
    h(
      "form",
      { class: "row", onsubmit: sendPart },
      h("label", { class: "label" }, t("worker.part_about"), part),
      h("button", { class: "button", type: "submit" }, t("worker.send_part")),
    ),
    h(
      "div",
      { class: "answers" },
      h(
        "form",
        { class: "answer", onsubmit: complete },
        h("label", { class: "label" }, t("worker.result"), result),
        h("div", {}, h("button", { class: "button primary", type: "submit" }, t("worker.complete"))),
      ),
      h(
        "form",
        { class: "answer", onsubmit: fail },
        h("label", { class: "label" }, t("worker.error"), reason),
        h("label", { class: "check" }, again, t("worker.may_help")),
        h("div", {}, h("button", { class: "button danger", type: "submit" }, t("worker.fail"))),
      ),
    ),
  );
  const element = h(
    "section",
    { class: "card task", "aria-label": t("worker.task", { id: task.id }) },
    h(
      "header",
      {},
      h("h2", {}, h("a", { class: "mono", href: new URL(`dashboard#/tasks/${encodeURIComponent(task.id)}`, ROOT).href, title: task.id }, shortId(task.id))),
      task.model === "default" ? null : h("span", { class: "chip" }, task.model),
      task.attempt > 1 ? h("span", { class: "chip" }, t("worker.attempt", { n: task.attempt })) : null,
      time,
      state,
    ),
    controls,
  );
  const card = {
    element,
    answered: () => {},
    end(status, text) {
      clearInterval(clock);
      tell();
      tasks.insertBefore(element, tasks.querySelector(".ended"));
      controls.remove();
      element.classList.add("ended");
      state.dataset.status = status;
      setText(state, text);
      nothing.hidden = tasks.querySelector(".task:not(.ended)") !== null;
    },
  };
  return card;
}

/** Return the text of the parts so far, if the result is a text. */
function readText(json) {
  try {
    const value = JSON.parse(json);
    return typeof value === "string" ? value : "";
  } catch {
    return "";
  }
}

// --- a task to try it with

const tryData = h("textarea", { class: "field", spellcheck: "false", value: '{"hello": "world"}' });

async function submit(event) {
  event.preventDefault();
  let data;
  try {
    data = JSON.parse(tryData.value);
  } catch (error) {
    note(t("worker.not_json", { error: error.message }), "bad");
    return;
  }
  try {
    const { task_id: id } = await post("tasks", { type: "remote", queue: fields.group.value, timeout: 300, payload: { model: "default", data } });
    note(h("span", {}, pieces("worker.submitted", { task: h("a", { href: new URL(`dashboard#/tasks/${id}`, ROOT).href }, shortId(id)) })));
  } catch (error) {
    note(error.message, "bad");
  }
}

// --- the log

const lines = h("ol", { class: "log", tabindex: "0", "aria-label": t("worker.messages") });
const silence = h("p", { class: "empty" }, t("worker.silence"));

function remember(direction, what, message) {
  silence.hidden = true;
  const arrow = { sent: "→", received: "←", warn: "!" }[direction];
  const about = message?.taskId ? shortId(message.taskId) : (message?.workerId ?? message?.message ?? "");
  const line = h(
    "summary",
    {},
    h("span", { class: "way", title: t(`worker.${direction}`) }, arrow),
    h("span", { class: direction === "warn" ? "warn" : "mono" }, what),
    h("span", { class: "faint clip" }, about),
    h("time", {}, clockTime(Date.now())),
  );
  const entry = h("details", { class: direction }, line);
  // The text is built only when it is opened.
  if (message !== null) entry.addEventListener("toggle", () => entry.append(jsonBlock(message)), { once: true });
  lines.prepend(h("li", {}, entry));
  while (lines.children.length > KEPT) lines.lastElementChild.remove();
}

function forget() {
  lines.replaceChildren();
  silence.hidden = false;
}

// --- the page

document
  .getElementById("tools")
  .append(
    h("a", { class: "button quiet", href: new URL("dashboard", ROOT).href }, t("worker.dashboard")),
    h(
      "button",
      { class: "button quiet icon", type: "button", onclick: () => globalThis.toggleTheme(), "aria-label": t("frame.theme"), title: t("frame.theme") },
      icon("theme"),
    ),
    languageSwitch(),
  );

main.replaceChildren(
  h(
    "div",
    { class: "title" },
    h("h1", {}, t("frame.worker")),
    badge,
    identity,
    h("p", {}, t("worker.about")),
  ),
  h("section", { class: "card", "aria-label": t("worker.connection") }, h("form", { class: "body connect", onsubmit: connect }, choices, connectButton)),
  h(
    "div",
    { class: "columns" },
    h("div", { class: "column" }, nothing, tasks),
    h(
      "div",
      { class: "column" },
      h(
        "section",
        { class: "card" },
        h("header", {}, h("h2", {}, t("worker.to_yourself"))),
        h(
          "form",
          { class: "body try", onsubmit: submit },
          h("label", { class: "label" }, t("worker.data"), tryData),
          h("label", { class: "check" }, automatic, t("worker.automatic")),
          h("div", {}, h("button", { class: "button", type: "submit" }, t("worker.submit"))),
        ),
      ),
      h(
        "section",
        { class: "card" },
        h("header", {}, h("h2", {}, t("worker.messages")), h("button", { class: "button quiet small", type: "button", onclick: forget }, t("worker.clear"))),
        silence,
        lines,
      ),
    ),
  ),
);
