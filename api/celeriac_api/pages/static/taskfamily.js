// The part of a workflow around one of its tasks: what it came after, and what comes after it.

import { get, segment } from "./api.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import { Graph } from "./graph/view.js";
import { live } from "./live.js";
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

/** A card with the tasks around a task. It is hidden until `follow` is called for a task of a workflow. */
export class TaskFamily {
  #task = null;
  #nodes = {};
  #asked = null;
  #count = h("span", { class: "small muted clip-lines" });
  #link = h("a", { class: "button small" }, "Whole workflow");
  #graph = new Graph({ label: "Tasks around this one", direct: true, onopen: (item) => this.#open(item) });
  #stop;

  constructor() {
    this.card = h("section", { class: "card family", hidden: true }, h("header", {}, h("h2", {}, "Workflow"), this.#count, this.#link), this.#graph.element);
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
    this.#count.textContent = `${workflow.name ? `${workflow.name}: ` : ""}${number(total)} ${total === 1 ? "node" : "nodes"}, this one is ${node}`;
    this.#link.href = `#/workflows/${segment(id)}`;
    this.card.hidden = false;
    this.#graph.set(this.#nodes);
    this.#graph.show(node);
  }

  #hear(tasks) {
    for (const { workflow_id: id, node, status } of tasks) {
      if (!this.#task?.workflow_id || id !== this.#task.workflow_id) continue;
      const known = this.#nodes[node];
      if (known && known.status !== status) {
        known.status = status;
        this.#graph.update(node);
      } else if (!known && node && parentOf(node) === this.#task.node) this.#soon();
    }
  }

  #open(item) {
    if (item.kind !== "node") this.#graph.open(item.key);
    else if (item.names[0] !== this.#task.node) location.hash = `#/tasks/${segment(this.#nodes[item.names[0]].task_id)}`;
  }
}
