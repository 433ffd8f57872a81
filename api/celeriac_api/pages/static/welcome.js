// The welcome on an empty installation: what Celeriac is, and an example task to watch.

import { ROOT, address, get, onceKey, post } from "./api.js";
import { h } from "./dom.js";
import { t } from "./text.js";
import { command, complain } from "./ui.js";

/** Fill `place` and show it if there are no tasks yet. */
export async function greet(place, me) {
  const { items } = await get("tasks", { limit: 1 });
  if (items.length) return;
  const { first } = me.submit ? await get("../../dashboard/examples") : {};
  const key = onceKey();
  const run = async (event) => {
    event.target.disabled = true;
    try {
      const { task_id: id } = await post("tasks", first, { headers: { "Idempotency-Key": key } });
      location.hash = `#/tasks/${encodeURIComponent(id)}`;
    } catch (error) {
      event.target.disabled = false;
      complain(error);
    }
  };
  const line = first && `curl -sw '\\n' -X POST ${address("tasks").href} -H 'Content-Type: application/json' -d '${JSON.stringify(first)}'`;
  place.replaceChildren(
    h(
      "section",
      { class: "card welcome", "aria-labelledby": "welcome" },
      h("h2", { id: "welcome" }, t("welcome.title")),
      h("p", { class: "muted" }, t("welcome.about")),
      h(
        "div",
        { class: "actions" },
        first ? h("button", { class: "button primary", type: "button", onclick: run }, t("welcome.run")) : null,
        h("a", { class: "button", href: new URL("docs", ROOT).href }, t("frame.docs")),
        h("a", { class: "button", href: new URL("test-worker", ROOT).href }, t("welcome.worker")),
      ),
      line
        ? h(
            "div",
            {},
            h("p", { class: "small muted" }, t("welcome.terminal")),
            command(line),
          )
        : null,
    ),
  );
  place.hidden = false;
}
