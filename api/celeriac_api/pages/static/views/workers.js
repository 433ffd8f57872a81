// Workers of every kind, and what each one runs.

import { get, post, segment } from "../api.js";
import { bar, h, setBar, setText, statusBadge } from "../dom.js";
import { duration, number, ranFor, when } from "../format.js";
import { live } from "../live.js";
import { t } from "../text.js";
import { complain, confirm, note, throttle } from "../ui.js";

const SLOTS = 40;
const LISTED = 8;
const MIB = 2 ** 20;

/** What a worker does and takes, as far as it says so. */
function figures({ ended_per_minute: rate, memory_bytes: bytes }) {
  const ended = rate === null || rate === undefined ? null : t("workers.rate", { n: number(rate < 10 ? rate : Math.round(rate)) });
  const memory = bytes ? t("workers.memory", { mib: number(Math.round(bytes / MIB)) }) : null;
  return [ended, memory].filter(Boolean).join(" · ");
}

const stateOf = (worker, busy) => (worker.drained ? (busy ? "draining" : "drained") : busy ? "busy" : "online");

export function show(root, { ending }) {
  const cards = h("div", { class: "cards" });
  const summary = h("p", {});
  const empty = h("div", { class: "card empty", hidden: true }, h("strong", {}, t("workers.none")), t("workers.start"), " ", h("code", {}, "celeriac worker"));
  root.append(h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, t("workers.title")), summary)), empty, cards);
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
        : bar((100 * busy) / worker.concurrency, null, t("workers.slots", { n: busy, most: worker.concurrency }));
    element.dataset.drained = String(worker.drained);
    element.replaceChildren(
      ...[
        h("div", { class: "top" }, h("b", { class: "clip", title: worker.worker_id }, worker.worker_id), statusBadge(stateOf(worker, busy))),
        h(
          "div",
          { class: "meta" },
          h("span", { class: "chip" }, worker.kind || "worker"),
          worker.groups.slice(0, 8).map((name) => h("span", { class: "chip" }, h("span", { class: "clip", title: name }, name === "*" ? t("workers.all_groups") : name))),
        ),
        h(
          "div",
          {},
          h(
            "div",
            { class: "small muted" },
            `${t("workers.slots", { n: busy, most: worker.concurrency })} · ${t("workers.since", { time: when(worker.started_at) })} · ${worker.host}`,
            worker.pid ? ` · pid ${worker.pid}` : "",
          ),
          h("div", { class: "small muted figures" }, figures(worker)),
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
        worker.drainable
          ? h("div", { class: "acts admin-only" }, h("button", { class: "button small", type: "button", onclick: () => (worker.drained ? turn(worker, "resume") : drain(worker)) }, worker.drained ? t("workers.resume") : t("workers.drain")))
          : null,
        mine.length > LISTED ? h("a", { class: "small", href: "#/tasks?status=processing" }, t("workers.more", { n: mine.length - LISTED })) : null,
      ].filter(Boolean),
    );
  }

  async function drain(worker) {
    const text = worker.groups.length ? t("workers.drain_text", { groups: worker.groups.slice(0, LISTED).join(", ") }) : t("workers.drain_any");
    if (await confirm({ title: t("workers.drain_title", { id: worker.worker_id }), text, action: t("workers.drain") })) await turn(worker, "drain");
  }

  async function turn({ worker_id: id }, action) {
    try {
      const changed = await post(`workers/${segment(id)}/${action}`);
      workers = workers.map((one) => (one.worker_id === id ? changed : one));
      note(action === "drain" ? t("workers.drained", { id }) : t("workers.resumed", { id }));
      const element = known.get(id);
      if (!element) return;
      drawCard(changed, element);
      element.querySelector(".acts button")?.focus();
    } catch (error) {
      complain(error);
    }
  }

  function draw() {
    const slots = workers.reduce((sum, one) => sum + one.concurrency, 0);
    setText(
      summary,
      workers.length
        ? `${t("workers.online", { n: workers.length })} · ${t("workers.slots", { n: workers.reduce((sum, one) => sum + one.running, 0), most: slots })}`
        : "",
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
      // A link with the keyboard focus is not replaced, but for a worker that has been drained or resumed.
      if (!element.contains(document.activeElement)) drawCard(worker, element);
      else if (element.dataset.drained !== String(worker.drained)) {
        drawCard(worker, element);
        element.querySelector(".acts button")?.focus();
      }
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
