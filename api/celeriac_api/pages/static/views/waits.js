// What waits for a person: each question with the form that answers it.

import { get, onceKey, post, segment } from "../api.js";
import { h, setText } from "../dom.js";
import { fullTime, shortId, when } from "../format.js";
import { live } from "../live.js";
import { schemaForm } from "../schema-form.js";
import { pieces, t } from "../text.js";
import { complain, note, throttle } from "../ui.js";

const PAGE = 50;
/** How often the list is read again, because what waits can also be answered elsewhere (ms). */
const AGAIN_MS = 10000;

/** Return the form that answers what a task waits for; `done()` is called after the answer. */
export function answerForm({ task_id: id, signal, schema }, done) {
  const form = schemaForm(schema);
  const trouble = h("p", { class: "error-text", role: "alert" });
  const button = h("button", { class: "button primary submit-only", type: "submit" }, t("waits.answer"));
  let sent = {};
  const send = async (event) => {
    event.preventDefault();
    setText(trouble, "");
    button.disabled = true;
    try {
      const value = form.read();
      // The same answer again, because the server did not answer, is the same request.
      if (sent.body !== JSON.stringify(value)) sent = { body: JSON.stringify(value), key: onceKey() };
      await post(`tasks/${segment(id)}/signals/${segment(signal)}`, value, { headers: { "Idempotency-Key": sent.key } });
      note(t("waits.answered"));
      done();
    } catch (error) {
      // The question is over: its form goes away, so a note says why.
      if (error.status === 404 || error.status === 409) {
        complain(error);
        done();
      } else setText(trouble, [error.message, ...(error.errors ?? []).map((one) => `${one.field}: ${one.message}`)].join("\n"));
    } finally {
      button.disabled = false;
    }
  };
  return h("form", { class: "answer", novalidate: true, onsubmit: send }, form.element, trouble, h("div", { class: "actions" }, button));
}

export function show(root, { ending }) {
  const cards = new Map();
  const place = h("div", { class: "stack waits" });
  const none = h("div", { class: "card empty", hidden: true }, h("strong", {}, t("waits.none")), t("waits.none_about"));
  const more = h("button", { class: "button", type: "button", hidden: true, onclick: () => load(cards.size + PAGE).catch(complain) }, t("common.more"));
  let gone = false;
  let asked = PAGE;

  root.append(
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, t("frame.waits")), h("p", {}, t("waits.about")))),
    none,
    place,
    h("div", {}, more),
  );

  function card(item) {
    const times = h("span", { class: "small muted" });
    const element = h(
      "section",
      { class: "card", dataset: { task: item.task_id, signal: item.signal } },
      h("header", {}, h("h2", { class: "clip-lines" }, item.title || item.signal), times),
      h(
        "div",
        { class: "body fields" },
        h(
          "p",
          { class: "small muted" },
          pieces("waits.waits_for", {
            task: h("a", { href: `#/tasks/${segment(item.task_id)}` }, item.type, " ", h("span", { class: "mono" }, shortId(item.task_id))),
            signal: item.signal,
          }),
        ),
        answerForm(item, () => load().catch(complain)),
      ),
    );
    const draw = () => {
      const since = when(item.since);
      setText(times, item.expires_at ? t("waits.since_until", { when: since, until: fullTime(item.expires_at) }) : t("waits.since", { when: since }));
    };
    draw();
    return { element, draw };
  }

  async function load(wanted = asked) {
    asked = wanted;
    const found = [];
    let cursor = null;
    do {
      const page = await get("waits", { limit: Math.min(PAGE, wanted - found.length), cursor });
      found.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor && found.length < wanted);
    if (gone) return;
    const keys = found.map((item) => `${item.task_id} ${item.signal} ${item.since}`);
    for (const [key, { element }] of cards) {
      if (keys.includes(key)) continue;
      element.remove();
      cards.delete(key);
    }
    // A form that somebody fills in stays as it is.
    for (const [i, item] of found.entries()) {
      const known = cards.has(keys[i]);
      if (!known) cards.set(keys[i], card(item));
      const { element } = cards.get(keys[i]);
      if (place.children[i] !== element) place.insertBefore(element, place.children[i] ?? null);
    }
    none.hidden = found.length > 0;
    more.hidden = !cursor;
  }
  const soon = throttle(() => load().catch(() => {}), 1000);

  load().catch((error) => {
    place.replaceChildren(h("div", { class: "card empty", dataset: { broken: "" } }, h("strong", {}, t("common.not_available")), error.message));
  });
  ending(live.on("tasks", soon));
  const timers = [setInterval(() => document.hidden || soon(), AGAIN_MS), setInterval(() => cards.forEach((one) => one.draw()), 1000)];
  ending(() => ((gone = true), timers.forEach(clearInterval)));
}
