// A worker in the browser: a person takes the tasks of a group and answers them by hand.

import { ROOT, post } from "./api.js";
import { h, icon, setText } from "./dom.js";
import { clockTime, duration, jsonBlock, shortId } from "./format.js";
import { note } from "./ui.js";
import { RemoteWorker, SkipRetry, TaskError } from "./worker-sdk/celeriac-worker.js";

/** How many messages the log keeps. */
const KEPT = 300;
/** How many ended tasks stay visible. */
const ENDED = 3;

const main = document.getElementById("main");
let worker = null;
let entries = 0;

// --- connect

const badge = h("span", { class: "status", dataset: { status: "offline" }, role: "status" }, "not connected");
const identity = h("span", { class: "mono muted" });

const fields = {
  group: h("input", { class: "field", value: "default", name: "group", required: true, maxlength: 200, spellcheck: "false" }),
  models: h("input", { class: "field", name: "models", placeholder: "one, another", spellcheck: "false" }),
  concurrency: h("input", { class: "field", name: "concurrency", type: "number", min: 1, max: 100, value: 1, required: true }),
  token: h("input", { class: "field", name: "token", type: "password", placeholder: "not needed", autocomplete: "off" }),
};
const choices = h(
  "fieldset",
  {},
  h("label", { class: "label" }, "Group", fields.group),
  h("label", { class: "label" }, "Models", fields.models),
  h("label", { class: "label" }, "Tasks at once", fields.concurrency),
  h("label", { class: "label" }, "Token", fields.token),
);
const connectButton = h("button", { class: "button primary", type: "submit" }, icon("plug"), "Connect");

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
      token: fields.token.value || undefined,
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
  connectButton.replaceChildren("Disconnect");
  connectButton.classList.remove("primary");
  worker
    .run()
    .catch((error) => note(error.message, "bad"))
    .finally(() => {
      worker = null;
      choices.disabled = false;
      connectButton.disabled = false;
      connectButton.classList.add("primary");
      connectButton.replaceChildren(icon("plug"), "Connect");
      document.dispatchEvent(new CustomEvent("workerended"));
    });
}

const STATES = {
  connecting: ["pending", "connecting"],
  connected: ["online", "connected"],
  draining: ["paused", "finishing"],
  waiting: ["retrying", "connecting again"],
  stopped: ["offline", "not connected"],
};

function show(state, detail) {
  const [status, text] = STATES[state];
  badge.dataset.status = status;
  setText(badge, text);
  setText(identity, state === "connected" ? detail : "");
}

// --- tasks

const tasks = h("div", { class: "column", role: "group", "aria-live": "polite", "aria-label": "Tasks" });
const nothing = h("section", { class: "card empty" }, h("strong", {}, "No task"), "Connect, and the tasks of the group appear here, one after the other.");
const automatic = h("input", { type: "checkbox" });

/** The handler of tasks: shows a task, and returns or throws what the person decides. */
function take(task) {
  if (automatic.checked) return { echo: task.data ?? task.messages };
  return new Promise((resolve, reject) => {
    const card = taskCard(task, resolve, reject);
    tasks.prepend(card.element);
    nothing.hidden = true;
    const end = (text) => {
      card.end(text);
      document.removeEventListener("workerended", gone);
      const left = [...tasks.querySelectorAll(".ended")].slice(ENDED);
      for (const old of left) old.remove();
    };
    const gone = () => (end("given back"), reject(new Error("the page disconnected")));
    document.addEventListener("workerended", gone);
    task.signal.addEventListener("abort", () => {
      end(task.signal.reason === "shutdown" ? "given back" : `taken back: ${task.signal.reason}`);
      reject(task.signal.reason);
    });
    card.answered = end;
  });
}

function taskCard(task, resolve, reject) {
  const began = Date.now();
  const state = h("span", { class: "status", dataset: { status: "processing" } }, "in hand");
  const time = h("span", { class: "muted small nowrap" });
  const limit = task.timeoutMs ? ` of ${duration(task.timeoutMs)}` : "";
  const tell = () => setText(time, `${Math.floor((Date.now() - began) / 1000)} s${limit}`);
  const clock = setInterval(tell, 1000);
  tell();

  const id = `task-${++entries}`;
  const percent = h("output", { for: id }, "0 %");
  const message = h("input", { class: "field", placeholder: "message", "aria-label": "Progress message" });
  const slider = h("input", { type: "range", min: 0, max: 100, value: 0, id });
  const report = () => {
    setText(percent, `${slider.value} %`);
    task.progress(Number(slider.value), message.value);
  };
  slider.addEventListener("input", report);
  message.addEventListener("change", report);

  const part = h("input", { class: "field", "aria-label": "Part of the result" });
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
      note(`The result is not JSON: ${error.message}`, "bad");
      return;
    }
    card.answered("completed");
    resolve(value);
  };

  const reason = h("textarea", { class: "field", value: "it did not work" });
  const again = h("input", { type: "checkbox", checked: true });
  const fail = (event) => {
    event.preventDefault();
    card.answered("failed");
    const Failure = again.checked ? TaskError : SkipRetry;
    reject(new Failure(reason.value || "failed", { code: "by_hand" }));
  };

  const controls = h(
    "div",
    { class: "body" },
    jsonBlock(task.payload),
    h("div", { class: "sliding" }, h("label", { class: "muted small", for: id }, "Progress"), slider, percent, message),
    h(
      "form",
      { class: "row", onsubmit: sendPart },
      h("label", { class: "label" }, "Part of the result, for callers that stream", part),
      h("button", { class: "button", type: "submit" }, "Send part"),
    ),
    h(
      "div",
      { class: "answers" },
      h(
        "form",
        { class: "answer", onsubmit: complete },
        h("label", { class: "label" }, "Result, as JSON", result),
        h("div", {}, h("button", { class: "button primary", type: "submit" }, "Complete")),
      ),
      h(
        "form",
        { class: "answer", onsubmit: fail },
        h("label", { class: "label" }, "Error", reason),
        h("label", { class: "check" }, again, "Another attempt may help"),
        h("div", {}, h("button", { class: "button danger", type: "submit" }, "Fail")),
      ),
    ),
  );
  const element = h(
    "section",
    { class: "card task", "aria-label": `Task ${task.id}` },
    h(
      "header",
      {},
      h("h2", {}, h("a", { class: "mono", href: new URL(`dashboard#/tasks/${encodeURIComponent(task.id)}`, ROOT).href, title: task.id }, shortId(task.id))),
      task.model === "default" ? null : h("span", { class: "chip" }, task.model),
      task.attempt > 1 ? h("span", { class: "chip" }, `attempt ${task.attempt}`) : null,
      time,
      state,
    ),
    controls,
  );
  const card = {
    element,
    answered: () => {},
    end(text) {
      clearInterval(clock);
      tell();
      tasks.insertBefore(element, tasks.querySelector(".ended"));
      controls.remove();
      element.classList.add("ended");
      state.dataset.status = text === "completed" || text === "failed" ? text : "cancelled";
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
    note(`The data is not JSON: ${error.message}`, "bad");
    return;
  }
  try {
    const { task_id: id } = await post("tasks", { type: "remote", queue: fields.group.value, timeout: 300, payload: { model: "default", data } });
    note(h("span", {}, "Submitted ", h("a", { href: new URL(`dashboard#/tasks/${id}`, ROOT).href }, shortId(id))));
  } catch (error) {
    note(error.message, "bad");
  }
}

// --- the log

const lines = h("ol", { class: "log", tabindex: "0", "aria-label": "Messages" });
const silence = h("p", { class: "empty" }, "Messages between this page and the server appear here.");

function remember(direction, what, message) {
  silence.hidden = true;
  const arrow = { sent: "→", received: "←", warn: "!" }[direction];
  const about = message?.taskId ? shortId(message.taskId) : (message?.workerId ?? message?.message ?? "");
  const line = h(
    "summary",
    {},
    h("span", { class: "way", title: direction }, arrow),
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
    h("a", { class: "button quiet", href: new URL("dashboard", ROOT).href }, "Dashboard"),
    h(
      "button",
      { class: "button quiet icon", type: "button", onclick: () => globalThis.toggleTheme(), "aria-label": "Light or dark", title: "Light or dark" },
      icon("theme"),
    ),
  );

main.replaceChildren(
  h(
    "div",
    { class: "title" },
    h("h1", {}, "Test worker"),
    badge,
    identity,
    h("p", {}, "This page is a remote worker. It takes the tasks of a group, and you answer them by hand."),
  ),
  h("section", { class: "card", "aria-label": "Connection" }, h("form", { class: "body connect", onsubmit: connect }, choices, connectButton)),
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
        h("header", {}, h("h2", {}, "Submit a task to yourself")),
        h(
          "form",
          { class: "body try", onsubmit: submit },
          h("label", { class: "label" }, "Data, as JSON", tryData),
          h("label", { class: "check" }, automatic, "Answer automatically with the data that was sent"),
          h("div", {}, h("button", { class: "button", type: "submit" }, "Submit")),
        ),
      ),
      h(
        "section",
        { class: "card" },
        h("header", {}, h("h2", {}, "Messages"), h("button", { class: "button quiet small", type: "button", onclick: forget }, "Clear")),
        silence,
        lines,
      ),
    ),
  ),
);
