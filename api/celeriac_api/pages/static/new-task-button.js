// The button for a new task. Its form is loaded when somebody opens it.

import { h } from "./dom.js";
import { t } from "./text.js";
import { complain } from "./ui.js";

/** Open the form: see `newTask` in `new-task.js`. */
export const openNewTask = (...given) => import("./new-task.js").then(({ newTask }) => newTask(...given)).catch(complain);

export const newTaskButton = (kind = "primary", type = null) =>
  h("button", { class: `button ${kind} submit-only`, type: "button", onclick: () => openNewTask(null, type) }, t("newtask.title"));
