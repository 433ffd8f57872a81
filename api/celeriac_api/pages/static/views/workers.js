// Workers of every kind, and what each one runs.

import { get } from "../api.js";
import { bar, h, setBar, setText, statusBadge } from "../dom.js";
import { ago, duration, number, ranFor } from "../format.js";
import { live } from "../live.js";
import { complain, throttle } from "../ui.js";

const SLOTS = 40;
const LISTED = 8;

export function show(root, { ending }) {
  const cards = h("div", { class: "cards" });
  const summary = h("p", {});
  const empty = h("div", { class: "card empty", hidden: true }, h("strong", {}, "No worker is online"), "Start one: ", h("code", {}, "celeriac worker"));
  root.append(h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, "Workers"), summary)), empty, cards);
  const running = new Map();
  const known = new Map();
  let workers = live.workers ?? [];

  function drawCard(worker, element) {
    const mine = [...running.values()].filter((task) => task.worker === worker.worker_id).sort((a, b) => (a.started_at < b.started_at ? 1 : -1));
    const busy = Math.max(worker.running, mine.length);
    const slots =
      worker.concurrency <= SLOTS
        ? h(
            "div",
            { class: "slots", "aria-hidden": "true" },
            Array.from({ length: worker.concurrency }, (_, i) => h("i", { class: i < busy ? "on" : "" })),
          )
        : bar((100 * busy) / worker.concurrency, null, "slots in use");
    element.replaceChildren(
      ...[
        h("div", { class: "top" }, h("b", { class: "clip", title: worker.worker_id }, worker.worker_id), statusBadge(busy ? "busy" : "online")),
        h(
          "div",
          { class: "meta" },
          h("span", { class: "chip" }, worker.kind || "worker"),
          worker.groups.slice(0, 8).map((name) => h("span", { class: "chip" }, h("span", { class: "clip", title: name }, name === "*" ? "all groups" : name))),
        ),
        h(
          "div",
          {},
          h(
            "div",
            { class: "small muted" },
            `${number(busy)} of ${number(worker.concurrency)} in use · since ${ago(worker.started_at)} · ${worker.host}`,
            worker.pid ? ` · pid ${worker.pid}` : "",
          ),
        ),
        slots,
        mine.length
          ? h(
              "ul",
              {},
              mine
                .slice(0, LISTED)
                .map((task) =>
                  h(
                    "li",
                    {},
                    h(
                      "a",
                      { href: `#/tasks/${encodeURIComponent(task.task_id)}` },
                      h("span", { class: "clip" }, task.type),
                      bar(task.progress.percentage, null),
                      h("span", { class: "small muted number" }, duration(ranFor(task))),
                    ),
                  ),
                ),
            )
          : null,
        mine.length > LISTED ? h("a", { class: "small", href: "#/tasks?status=processing" }, `and ${number(mine.length - LISTED)} more`) : null,
      ].filter(Boolean),
    );
  }

  function draw() {
    const slots = workers.reduce((sum, one) => sum + one.concurrency, 0);
    setText(
      summary,
      workers.length ? `${number(workers.length)} online, ${number(workers.reduce((sum, one) => sum + one.running, 0))} of ${number(slots)} slots in use` : "",
    );
    empty.hidden = workers.length > 0;
    const ids = new Set(workers.map((one) => one.worker_id));
    for (const [id, element] of known) {
      if (!ids.has(id)) {
        element.remove();
        known.delete(id);
      }
    }
    for (const worker of workers) {
      let element = known.get(worker.worker_id);
      if (!element) {
        element = h("article", { class: "card worker", dataset: { worker: worker.worker_id } });
        known.set(worker.worker_id, element);
        cards.append(element);
      }
      // A link with the keyboard focus is not replaced.
      if (!element.contains(document.activeElement)) drawCard(worker, element);
    }
  }
  const soon = throttle(draw, 600);

  async function load() {
    const found = await get("running", { limit: 500 });
    running.clear();
    for (const task of found.tasks) running.set(task.task_id, task);
    soon();
  }
  if (live.workers === null)
    get("workers")
      .then((found) => ((workers = found.workers), soon()))
      .catch(complain);
  load().catch(complain);
  draw();
  ending(live.on("state", (state) => ((workers = state.workers), soon())));
  ending(
    live.on("tasks", ({ tasks, left_out: leftOut }) => {
      for (const task of tasks) task.status === "processing" ? running.set(task.task_id, task) : running.delete(task.task_id);
      if (leftOut) reload();
      soon();
    }),
  );
  const reload = throttle(() => load().catch(() => {}), 3000);
  const timers = [setInterval(() => document.hidden || soon(), 1000), setInterval(() => document.hidden || reload(), 10000)];
  ending(() => timers.forEach(clearInterval));
}
