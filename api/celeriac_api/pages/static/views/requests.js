// The log of requests: what callers sent to remote workers, and what the workers answered.

import { get, segment } from "../api.js";
import { h, setText, statusBadge } from "../dom.js";
import { ago, duration, exactTime, preview, ranFor } from "../format.js";
import { TaskList } from "../tasklist.js";
import { pieces, t } from "../text.js";
import { throttle } from "../ui.js";

const TYPE = "remote";
/** The rows, from the top, whose payloads and results are read when the live stream has told of them. */
const READ = 60;
const TABS = { "": "all", "pending,waiting,scheduled,retrying": "waiting", processing: "running", completed: "completed", failed: "failed" };

/** Return the request: the last message of a chat, or the data. */
function request(payload) {
  const last = payload?.messages?.at?.(-1);
  return last ? preview(last.content ?? last) : preview(payload?.data ?? payload);
}

function answer(task) {
  if (task.error && task.status !== "completed") return task.error.message;
  const { result } = task;
  return preview(result?.choices?.[0]?.message?.content ?? result?.content ?? result);
}

/** Return whether the row of a task needs what only its record has. */
function lacks(task) {
  return task.payload === undefined || (task.status === "completed" && (task.result ?? null) === null && !task.looked);
}

function render(task, row) {
  if (!row.cells) {
    row.cells = {
      status: statusBadge(task.status),
      asked: h("code", { class: "clip" }),
      answered: h("code", { class: "clip" }),
      ran: h("span", { class: "time" }),
      age: h("span", { class: "time", title: exactTime(task.created_at) }),
    };
    const { status, asked, answered, ran, age } = row.cells;
    row.append(h("span", {}, status), h("span", { class: "clip" }, task.queue), asked, answered, ran, age);
  }
  const { cells } = row;
  cells.status.dataset.status = task.status;
  setText(cells.status, t(`status.${task.status}`));
  setText(cells.asked, task.payload === undefined ? "…" : request(task.payload));
  setText(cells.answered, task.status === "processing" ? (task.worker ?? "") : answer(task));
  cells.answered.classList.toggle("error-text", task.status === "failed");
  setText(cells.ran, task.started_at ? duration(ranFor(task)) : "");
  setText(cells.age, ago(task.created_at));
}

export function show(root, { query: given, ending }) {
  root.classList.add("fill");
  let status = given.get("status") ?? "";
  const list = new TaskList({
    columns: [t("tasks.status"), t("tasks.group"), t("requests.request"), t("requests.response"), t("requests.took"), t("tasks.age")],
    className: "requests",
    render,
    label: t("frame.requests"),
    empty: () => [
      h("strong", {}, t("requests.none")),
      ...pieces("requests.none_hint", { first: h("code", {}, "POST /api/openai"), second: h("code", {}, "/v1/chat/completions") }),
    ],
    onchange: () => read(),
  });
  ending(() => list.end());
  const tabs = h("div", { class: "status-tabs", role: "group", "aria-label": t("tasks.status") });
  const load = () => {
    tabs.replaceChildren(
      ...Object.entries(TABS).map(([value, text]) =>
        h("button", { type: "button", "aria-pressed": String(value === status), onclick: () => ((status = value), load()) }, t(`requests.tab_${text}`)),
      ),
    );
    return list.load({ type: TYPE, status });
  };
  // The live stream has no payloads and results, so those of new and ended rows are read here, one after the other.
  let reading = false;
  const read = throttle(async () => {
    if (reading) return;
    reading = true;
    for (let task; (task = list.items.slice(0, READ).find(lacks)); ) {
      task.looked = task.status === "completed";
      try {
        Object.assign(task, await get(`tasks/${segment(task.task_id)}`));
      } catch {
        task.payload ??= null;
        task.looked = true;
      }
      list.list.refresh(task);
    }
    reading = false;
  }, 800);
  root.append(
    h(
      "div",
      { class: "head" },
      h("div", { class: "grow" }, h("h1", {}, t("frame.requests")), h("p", {}, t("requests.about"))),
    ),
    tabs,
    list.element,
  );
  load();
}
