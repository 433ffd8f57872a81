// The tasks that a task depends on, with what has become of them.

import { get, segment } from "./api.js";
import { h, setText, statusBadge } from "./dom.js";
import { shortId } from "./format.js";
import { live } from "./live.js";
import { t } from "./text.js";

/** How many of them are shown; a task may have 1,000. */
const SHOWN = 10;

/** The parents of a task: links, each with its status, which follows. */
export class TaskParents {
  element = h("div", { class: "parents" });
  #key = "";
  #badges = new Map();
  #stops;

  constructor() {
    this.#stops = [
      live.on("tasks", ({ tasks }) => {
        for (const { task_id: id, status } of tasks) this.#say(id, status);
      }),
      // The stream does not repeat what happened while it was away.
      live.on("told", () => this.#read()),
    ];
  }

  /** Show the parents of a task: a list of `{task, when}`, or null. */
  follow(parents) {
    const shown = (parents ?? []).slice(0, SHOWN);
    const key = JSON.stringify(shown);
    if (key === this.#key) return;
    this.#key = key;
    this.#badges = new Map(shown.map(({ task }) => [task, h("span", { class: "small muted" }, "…")]));
    this.element.replaceChildren(
      ...shown.map(({ task, when }) =>
        h(
          "div",
          {},
          h("a", { class: "mono", href: `#/tasks/${segment(task)}`, title: task }, shortId(task)),
          " ",
          this.#badges.get(task),
          when === "completed" ? null : h("span", { class: "small muted" }, ` (${when === "failed" ? t("parents.if_failed") : t("parents.any_end")})`),
        ),
      ),
      ...(parents?.length > SHOWN ? [h("div", { class: "muted" }, t("task.and_more", { n: parents.length - SHOWN }))] : []),
    );
    this.#read();
  }

  end() {
    for (const stop of this.#stops) stop();
    this.#badges = new Map();
  }

  #read() {
    for (const id of this.#badges.keys()) {
      get(`tasks/${segment(id)}/progress`).then(
        ({ status }) => this.#say(id, status),
        (failure) => failure.status === 404 && this.#badges.has(id) && this.#badges.get(id).replaceChildren(t("parents.gone")),
      );
    }
  }

  #say(id, status) {
    const badge = this.#badges.get(id);
    if (!badge) return;
    if (badge.dataset.status) {
      badge.dataset.status = status;
      setText(badge, t(`status.${status}`));
      return;
    }
    const fresh = statusBadge(status);
    badge.replaceWith(fresh);
    this.#badges.set(id, fresh);
  }
}
