// The API reference: built from /openapi.json, with commands to copy. It loads nothing from other servers.

import { ROOT } from "./api.js";
import { h, icon, setText } from "./dom.js";
import { jsonBlock } from "./format.js";
import { copy, debounce } from "./ui.js";

// On the site of the documentation there is no API: the commands name one, and the links lead back to the site.
const { home, server } = document.documentElement.dataset;
const HOME = home ? new URL(home, document.baseURI) : new URL("dashboard", ROOT);
const METHODS = ["get", "post", "put", "patch", "delete"];
const main = document.getElementById("main");
const contents = document.getElementById("contents");
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
  if (one) return one.map(typeOf).join(" or ");
  if (s.enum) return s.enum.join(" | ");
  return s.type === "array" ? `list of ${typeOf(s.items ?? {})}` : (s.type ?? "any");
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
          h("h3", {}, "Parameters"),
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
                  h("td", {}, h("code", {}, one.name), h("div", { class: "small faint" }, one.in, one.required ? ", required" : "")),
                  h("td", {}, h("span", { class: "small faint" }, typeOf(one.schema ?? {})), prose(one.description, "muted")),
                ),
              ),
            ),
          ),
        ),
      );
    }
    const body = bodyExample(operation.requestBody?.content);
    if (body !== undefined) inside.append(h("div", {}, h("h3", {}, "Body"), jsonBlock(body)));
    const good = Object.entries(operation.responses ?? {}).find(([code]) => code.startsWith("2"));
    const answer = bodyExample(good?.[1].content) ?? good?.[1].content?.["text/event-stream"]?.example;
    if (answer !== undefined && answer !== null) inside.append(h("div", {}, h("h3", {}, `Answer ${good[0]}`), jsonBlock(answer)));
    const codes = Object.entries(operation.responses ?? {}).map(([code, one]) => h("span", {}, h("b", {}, code), ` ${resolve(one).description ?? ""}`));
    inside.append(h("div", {}, h("h3", {}, "Answers"), h("div", { class: "answers" }, codes)));
    const text = command(method, path, operation);
    const output = h("div", {});
    const buttons = h(
      "div",
      { class: "try" },
      h("button", { class: "button small", type: "button", onclick: () => copy(text, "Command copied") }, icon("copy"), "Copy"),
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
              output.replaceChildren(h("h3", {}, `Answered ${answered.status}`), jsonBlock(shown));
            },
          },
          "Try it",
        ),
      );
    }
    inside.append(h("div", {}, h("h3", {}, "Command"), h("pre", { class: "code", tabindex: 0 }, text)), buttons, output);
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
  const search = h("input", { class: "field", type: "search", placeholder: "Find a route", "aria-label": "Find a route", dataset: { search: "" } });
  const links = h("div", {});
  contents.append(
    h("a", { class: "brand", href: HOME.href }, h("img", { src: new URL("mark.svg", import.meta.url).href, alt: "" }), "Celeriac"),
    search,
    links,
  );
  main.append(
    h("h1", {}, "API reference"),
    prose(api.info.description, "intro"),
    h(
      "p",
      { class: "muted" },
      `Version ${api.info.version}. OpenAPI document: `,
      h("a", { href: new URL("openapi.json", ROOT).href }, "openapi.json"),
      ". Back to the ",
      h("a", { href: HOME.href }, home ? "documentation" : "dashboard"),
      ".",
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
  for (const tag of tags.values()) {
    if (!tag.routes.length) continue;
    const list = h("ul", {});
    const head = h("h2", {}, tag.name);
    links.append(head, list);
    main.append(h("div", { class: "tag-head" }, h("h2", {}, tag.name), tag.description ? prose(tag.description, "muted") : null));
    for (const one of tag.routes) {
      const element = route(one.path, one.method, one.operation, one.id);
      const link = h(
        "li",
        {},
        h(
          "a",
          { href: `#${one.id}`, onclick: () => setTimeout(open) },
          h("span", { class: "method", dataset: { method: one.method } }, one.method.toUpperCase()),
          h("span", { class: "clip" }, one.path.replace("/api/v1", "")),
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
  setText(trouble, `The reference cannot be shown: ${error.message}`);
  main.append(trouble);
});
