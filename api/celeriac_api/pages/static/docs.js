// The API reference: built from /openapi.json, with commands to copy. It loads nothing from other servers.

import { ROOT } from "./api.js";
import { h, icon, mark, setText } from "./dom.js";
import { jsonBlock } from "./format.js";
import { pieces, t } from "./text.js";
import { copy, debounce, languageSwitch } from "./ui.js";

// On the site of the documentation there is no API: the commands name one, and the links lead back to the site.
const { home, server } = document.documentElement.dataset;
const HOME = home ? new URL(home, document.baseURI) : new URL("dashboard", ROOT);
const METHODS = ["get", "post", "put", "patch", "delete"];
const main = document.getElementById("main");
const contents = document.getElementById("contents");
contents.setAttribute("aria-label", t("docs.routes"));
document.title = `${t("frame.docs")} · Celeriac`;
let api;

/** Return a text of the document with its `code` and [links](…). Everything else stays text. */
function prose(text, className) {
  const parts = (text ?? "").split(/(`[^`]+`|\[[^\]]+\]\([^)]+\))/g).map((part) => {
    if (part.startsWith("`")) return h("code", {}, part.slice(1, -1));
    const link = /^\[([^\]]+)\]\((https?:[^)]+)\)$/.exec(part);
    return link ? h("a", { href: link[2], rel: "noreferrer" }, link[1]) : part;
  });
  return h("p", { class: className }, parts);
}

/** Return a path that may be broken before each of its parts. */
const inParts = (path) => path.split(/(?=\/)/).map((part) => [h("wbr", {}), part]);

function resolve(schema) {
  let found = schema;
  for (let depth = 0; found?.$ref && depth < 20; depth++)
    found = found.$ref
      .replace(/^#\//, "")
      .split("/")
      .reduce((node, key) => node?.[key], api);
  return found ?? {};
}

/** Return an example of what a schema allows. */
function example(schema, depth = 0) {
  const s = resolve(schema);
  if (s.example !== undefined) return s.example;
  if (s.examples?.length) return s.examples[0];
  if (s.default !== undefined && s.default !== null) return s.default;
  if (s.const !== undefined) return s.const;
  if (s.enum) return s.enum[0];
  const one = s.anyOf ?? s.oneOf ?? s.allOf;
  if (one) return example(one.find((each) => resolve(each).type !== "null") ?? one[0], depth);
  if (depth > 4) return {};
  if (s.type === "object" || s.properties) {
    const names = Object.keys(s.properties ?? {}).filter((name) => (depth === 0 && !s.required ? true : s.required?.includes(name) || depth === 0));
    return Object.fromEntries(names.map((name) => [name, example(s.properties[name], depth + 1)]));
  }
  return { array: [], string: "text", integer: 1, number: 1, boolean: true }[s.type] ?? null;
}

function typeOf(schema) {
  const s = resolve(schema);
  const one = s.anyOf ?? s.oneOf;
  if (one) return one.map(typeOf).reduce((a, b) => t("docs.or", { a, b }));
  if (s.enum) return s.enum.join(" | ");
  return s.type === "array" ? t("docs.list_of", { type: typeOf(s.items ?? {}) }) : (s.type ?? "any");
}

function bodyExample(content) {
  const json = content?.["application/json"];
  if (!json) return undefined;
  const first = Object.values(json.examples ?? {})[0];
  return first?.value ?? json.example ?? example(json.schema);
}

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function command(method, path, operation) {
  const stream = Object.values(operation.responses ?? {}).some((answer) => answer.content?.["text/event-stream"]);
  const body = bodyExample(operation.requestBody?.content);
  const shown = path.replace(/\{([^}:]+)[^}]*\}/g, (_, name) => name.toUpperCase());
  const parts = [`curl ${stream ? "-sN" : "-sw '\\n'"}${method === "get" ? "" : ` -X ${method.toUpperCase()}`} ${quote(new URL(shown.slice(1), server ?? ROOT).href)}`];
  if (body !== undefined) parts.push(`-H 'Content-Type: application/json'`, `-d ${quote(JSON.stringify(body))}`);
  else if (operation.requestBody) parts.push("--data-binary @FILE");
  return parts.join(" \\\n  ");
}

function route(path, method, operation, id) {
  const inside = h("div", { class: "inside" });
  const element = h(
    "details",
    { class: "card route", id },
    h(
      "summary",
      {},
      h("span", { class: "method", dataset: { method } }, method.toUpperCase()),
      h("code", {}, path),
      h("span", { class: "muted clip" }, operation.summary ?? ""),
    ),
    inside,
  );
  // A route is built only when it is opened.
  element.addEventListener("toggle", () => {
    if (!element.open || inside.childElementCount) return;
    if (operation.description) inside.append(prose(operation.description, "prose"));
    const parameters = (operation.parameters ?? []).map(resolve);
    if (parameters.length) {
      inside.append(
        h(
          "div",
          {},
          h("h3", {}, t("docs.parameters")),
          h(
            "table",
            { class: "parameters" },
            h(
              "tbody",
              {},
              parameters.map((one) =>
                h(
                  "tr",
                  {},
                  h("td", {}, h("code", {}, one.name), h("div", { class: "small faint" }, one.required ? t("docs.required", { place: one.in }) : one.in)),
                  h("td", {}, h("span", { class: "small faint" }, typeOf(one.schema ?? {})), prose(one.description, "muted")),
                ),
              ),
            ),
          ),
        ),
      );
    }
    const body = bodyExample(operation.requestBody?.content);
    if (body !== undefined) inside.append(h("div", {}, h("h3", {}, t("docs.body")), jsonBlock(body)));
    const good = Object.entries(operation.responses ?? {}).find(([code]) => code.startsWith("2"));
    const answer = bodyExample(good?.[1].content) ?? good?.[1].content?.["text/event-stream"]?.example;
    if (answer !== undefined && answer !== null) inside.append(h("div", {}, h("h3", {}, t("docs.answer", { code: good[0] })), jsonBlock(answer)));
    const codes = Object.entries(operation.responses ?? {}).map(([code, one]) => h("span", {}, h("b", {}, code), ` ${resolve(one).description ?? ""}`));
    inside.append(h("div", {}, h("h3", {}, t("docs.answers")), h("div", { class: "answers" }, codes)));
    const text = command(method, path, operation);
    const output = h("div", {});
    const buttons = h(
      "div",
      { class: "try" },
      h("button", { class: "button small", type: "button", onclick: () => copy(text, t("common.command_copied")) }, icon("copy"), t("common.copy")),
    );
    if (!server && method === "get" && !path.includes("{") && !text.startsWith("curl -sN")) {
      buttons.append(
        h(
          "button",
          {
            class: "button small",
            type: "button",
            onclick: async () => {
              const answered = await fetch(new URL(path.slice(1), ROOT), { credentials: "same-origin" });
              const body_ = await answered.text();
              let shown = body_;
              try {
                shown = JSON.parse(body_);
              } catch {
                /* it is not JSON, so it is shown as text */
              }
              output.replaceChildren(h("h3", {}, t("docs.answered", { code: String(answered.status) })), jsonBlock(shown));
            },
          },
          t("docs.try"),
        ),
      );
    }
    inside.append(h("div", {}, h("h3", {}, t("docs.command")), h("pre", { class: "code", tabindex: 0 }, text)), buttons, output);
  });
  return element;
}

function open() {
  const element = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (element?.tagName === "DETAILS") {
    element.open = true;
    element.scrollIntoView();
  }
}

async function draw() {
  api = await (await fetch(new URL("openapi.json", ROOT), { credentials: "same-origin" })).json();
  const search = h("input", { class: "field", type: "search", placeholder: t("docs.find"), "aria-label": t("docs.find"), dataset: { search: "" } });
  const links = h("div", {});
  const none = h("p", { class: "muted small none", role: "status" });
  contents.append(
    h("a", { class: "brand", href: HOME.href }, mark(), "Celeriac"),
    search,
    none,
    links,
    h(
      "div",
      { class: "foot" },
      h("button", { class: "button quiet small", type: "button", onclick: () => globalThis.toggleTheme(), "aria-keyshortcuts": "L" }, icon("theme"), t("frame.theme")),
      languageSwitch(),
    ),
  );
  main.append(
    h("h1", {}, t("frame.docs")),
    prose(api.info.description, "intro"),
    h(
      "p",
      { class: "muted" },
      pieces("docs.version", {
        version: api.info.version,
        document: h("a", { href: new URL("openapi.json", ROOT).href }, "openapi.json"),
        home: h("a", { href: HOME.href }, home ? t("docs.documentation") : t("docs.dashboard")),
      }),
    ),
  );
  const tags = new Map((api.tags ?? []).map((tag) => [tag.name, { ...tag, routes: [] }]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS) {
      const operation = item[method];
      if (!operation) continue;
      const name = operation.tags?.[0] ?? "other";
      if (!tags.has(name)) tags.set(name, { name, routes: [] });
      tags.get(name).routes.push({ path, method, operation, id: `${method}-${path.replace(/[^\w]+/g, "-")}` });
    }
  }
  const all = [];
  const heads = [];
  for (const tag of tags.values()) {
    if (!tag.routes.length) continue;
    const list = h("ul", {});
    const head = h("h2", {}, tag.name);
    links.append(head, list);
    const tagHead = h("div", { class: "tag-head" }, h("h2", {}, tag.name), tag.description ? prose(tag.description, "muted") : null);
    main.append(tagHead);
    heads.push([tagHead, head, list]);
    for (const one of tag.routes) {
      const element = route(one.path, one.method, one.operation, one.id);
      const link = h(
        "li",
        {},
        h(
          "a",
          { href: `#${one.id}`, onclick: () => setTimeout(open) },
          h("span", { class: "method", dataset: { method: one.method } }, one.method.toUpperCase()),
          h("span", { class: "path" }, inParts(one.path)),
        ),
      );
      list.append(link);
      main.append(element);
      all.push([`${one.method} ${one.path} ${one.operation.summary ?? ""}`.toLowerCase(), element, link]);
    }
  }
  search.addEventListener(
    "input",
    debounce(() => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const [text, element, link] of all) element.hidden = link.hidden = !words.every((word) => text.includes(word));
      // A heading without routes says nothing.
      for (const [head, menuHead, list] of heads) head.hidden = menuHead.hidden = [...list.children].every((link) => link.hidden);
      setText(none, all.every(([, element]) => element.hidden) ? t("docs.no_match") : "");
    }, 80),
  );
  addEventListener("hashchange", open);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input")) {
      event.preventDefault();
      search.focus();
    } else if (event.key.toLowerCase() === "l" && !event.target.closest("input")) globalThis.toggleTheme();
  });
  open();
}

draw().catch((error) => {
  const trouble = h("p", { class: "error-text" });
  setText(trouble, t("docs.trouble", { error: error.message }));
  main.append(trouble);
});
