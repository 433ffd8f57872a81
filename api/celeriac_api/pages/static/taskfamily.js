// The part of a workflow around one of its tasks: what it came after, and what comes after it.

import { get, segment } from "./api.js";
import { h } from "./dom.js";
import { Graph } from "./graph/view.js";
import { live } from "./live.js";
import { t } from "./text.js";
import { throttle } from "./ui.js";

const AGAIN_MS = 3000;
const nameOf = (one) => (typeof one === "string" ? one : one.node);
const parentOf = (name) => name.slice(0, Math.max(0, name.lastIndexOf("/")));

/** Return the nodes beside the node `name`, and itself, with the conditions between them: `{NAME: {type, status, after, task_id}}`. */
export function around(nodes, name) {
  const me = nodes[name];
  if (!me) return {};
  const alone = (one) => !nodes[one].after?.length;
  const near = new Set([name, ...(me.after ?? []).map(nameOf)]);
  if (alone(name) && nodes[parentOf(name)]) near.add(parentOf(name));
  for (const [one, node] of Object.entries(nodes)) {
    if ((node.after ?? []).some((other) => nameOf(other) === name) || (alone(one) && parentOf(one) === name)) near.add(one);
  }
  // Lines between its parents, or between its children, belong to the whole graph.
  const kept = (one) => (other) => (one === name || nameOf(other) === name) && near.has(nameOf(other));
  return Object.fromEntries([...near].filter((one) => nodes[one]).map((one) => [one, { ...nodes[one], after: (nodes[one].after ?? []).filter(kept(one)) }]));
}

/** A card with the tasks around a task. It is hidden until `follow` is called for a task of a workflow. `heard()` is called when they were read. */
export class TaskFamily {
  #task = null;
  #nodes = {};
  #asked = null;
  #heard;
  #count = h("span", { class: "small muted clip-lines" });
  #link = h("a", { class: "button small" }, t("family.whole"));
  #graph = new Graph({ label: t("family.around"), direct: true, onopen: (item) => this.#open(item) });
  #stop;

  /** The task that started this one from its handler: `{name, href}`, or null. */
  parent = null;
  /** The tasks that the handler started: `{name, href, status, started_at, finished_at}`. */
  children = [];

  constructor(heard = () => {}) {
    this.#heard = heard;
    this.card = h("section", { class: "card family", hidden: true }, h("header", {}, h("h2", {}, t("family.workflow")), this.#count, this.#link), this.#graph.element);
    this.#stop = live.on("tasks", ({ tasks }) => this.#hear(tasks));
  }

  /** Show what is around the task, of which only the status may have changed. */
  follow(task) {
    this.#task = task;
    if (!task.workflow_id) return;
    if (this.#asked !== task.workflow_id) this.#soon();
    this.#asked = task.workflow_id;
  }

  end() {
    this.#task = null;
    this.#stop();
    this.#graph.end();
  }

  #soon = throttle(() => this.#load().catch(() => {}), AGAIN_MS);

  async #load() {
    const { workflow_id: id, node } = this.#task;
    const workflow = await get(`workflows/${segment(id)}`);
    if (!this.#task) return;
    this.#nodes = around(workflow.nodes, node);
    const total = Object.keys(workflow.nodes).length;
    const known = ([name, one]) => ({ name, href: `#/tasks/${segment(one.task_id)}`, status: one.status, started_at: one.started_at, finished_at: one.finished_at });
    const above = parentOf(node);
    this.parent = workflow.nodes[above] ? known([above, workflow.nodes[above]]) : null;
    this.children = Object.entries(workflow.nodes)
      .filter(([name]) => parentOf(name) === node)
      .map(known);
    const about = t("family.nodes", { n: total, node });
    this.#count.textContent = workflow.name ? `${workflow.name}: ${about}` : about;
    this.#link.href = `#/workflows/${segment(id)}`;
    this.card.hidden = false;
    this.#graph.set(this.#nodes);
    this.#graph.show(node);
    this.#heard();
  }

  #hear(tasks) {
    for (const { workflow_id: id, node, status } of tasks) {
      if (!this.#task?.workflow_id || id !== this.#task.workflow_id) continue;
      const known = this.#nodes[node];
      if (known && known.status !== status) {
        known.status = status;
        this.#graph.update(node);
        // When it began and ended is to be read.
        if (parentOf(node) === this.#task.node) this.#soon();
      } else if (!known && node && parentOf(node) === this.#task.node) this.#soon();
    }
  }

  #open(item) {
    if (item.kind !== "node") this.#graph.open(item.key);
    else if (item.names[0] !== this.#task.node) location.hash = `#/tasks/${segment(this.#nodes[item.names[0]].task_id)}`;
  }
}
