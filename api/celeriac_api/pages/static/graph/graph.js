// The graph of a workflow without its drawing: who waits for whom, and which nodes are shown as one.

/** So many nodes of the same kind, or more, are shown as one; and a run of more nodes than this shows only its ends. */
const ALIKE = 6;
const RUN = 12;
/** How many nodes at each end of a long run are shown. */
const ENDS = 2;

/** Return an entry of `after` as `{node, when}`. */
const condition = (one) => (typeof one === "string" ? { node: one, when: "completed" } : { node: one.node, when: one.when ?? "completed" });

/**
 * Return the graph of `nodes`, which are `{NAME: {type, after}}`: `{names, types, edges: [{from, to, when}]}`, where
 * `from` and `to` are places in `names`.
 *
 * A node that waits for nothing and is called `PARENT/NAME` hangs on its parent by an edge whose `when` is `spawned`.
 * Unknown names and edges that would close a circle are left out.
 */
export function graphOf(nodes) {
  const names = Object.keys(nodes);
  const place = new Map(names.map((name, i) => [name, i]));
  const edges = [];
  for (const [to, name] of names.entries()) {
    const seen = new Set([to]);
    for (const { node, when } of (nodes[name].after ?? []).map(condition)) {
      const from = place.get(node);
      if (from === undefined || seen.has(from)) continue;
      seen.add(from);
      edges.push({ from, to, when });
    }
    const parent = place.get(name.slice(0, Math.max(0, name.lastIndexOf("/"))));
    if (seen.size === 1 && parent !== undefined && parent !== to) edges.push({ from: parent, to, when: "spawned" });
  }
  return { names, types: names.map((name) => nodes[name].type ?? ""), edges: withoutCircles(names.length, edges) };
}

/** Return the edges by the place that they leave. */
function leaving(count, edges) {
  const found = Array.from({ length: count }, () => []);
  for (const edge of edges) found[edge.from].push(edge);
  return found;
}

function withoutCircles(count, edges) {
  const next = leaving(count, edges);
  const NEW = 0;
  const OPEN = 1;
  const state = new Uint8Array(count);
  const closing = new Set();
  for (let root = 0; root < count; root++) {
    if (state[root] !== NEW) continue;
    state[root] = OPEN;
    // A stack of our own, because a chain may be longer than the stack of calls.
    const path = [[root, 0]];
    while (path.length) {
      const top = path.at(-1);
      const edge = next[top[0]][top[1]++];
      if (!edge) state[path.pop()[0]] = 2;
      else if (state[edge.to] === OPEN) closing.add(edge);
      else if (state[edge.to] === NEW) {
        state[edge.to] = OPEN;
        path.push([edge.to, 0]);
      }
    }
  }
  return closing.size ? edges.filter((edge) => !closing.has(edge)) : edges;
}

/** Return the runs of a graph: lists of places, each the only child of the one before, which is its only parent. */
function runsOf({ names, edges }) {
  const parents = new Uint32Array(names.length);
  const children = new Uint32Array(names.length);
  const child = new Int32Array(names.length).fill(-1);
  for (const { from, to } of edges) {
    parents[to]++;
    children[from]++;
    child[from] = to;
  }
  const next = (i) => (children[i] === 1 && parents[child[i]] === 1 ? child[i] : -1);
  const inside = new Uint8Array(names.length);
  for (let i = 0; i < names.length; i++) if (next(i) >= 0) inside[next(i)] = 1;
  const runs = [];
  for (let i = 0; i < names.length; i++) {
    if (inside[i]) continue;
    const run = [i];
    for (let j = next(i); j >= 0; j = next(j)) run.push(j);
    runs.push(run);
  }
  return runs;
}

/**
 * Return what is shown of a graph: `{items: [{key, kind, names}], edges: [{from, to, when}]}`, where `from` and `to` are
 * places in `items`. Each node is in exactly one item.
 *
 * An item is one `node`; or `alike`, branches with the same parents, the same children and the same types; or the middle
 * of a long `run`. The last two are shown as their nodes if `opened` has their key.
 */
export function fold(graph, opened = new Set()) {
  const { names, types, edges } = graph;
  const before = Array.from(names, () => []);
  const after = Array.from(names, () => []);
  const conditions = [...new Set(edges.map((edge) => edge.when))];
  for (const { from, to, when } of edges) {
    before[to].push(from * conditions.length + conditions.indexOf(when));
    after[from].push(to * conditions.length + conditions.indexOf(when));
  }
  const families = new Map();
  for (const run of runsOf(graph)) {
    const around = [before[run[0]], after[run.at(-1)]].map((near) => near.sort((a, b) => a - b).join());
    const kind = [...around, ...run.map((i) => types[i])].join("\n");
    if (!families.has(kind)) families.set(kind, []);
    families.get(kind).push(run);
  }
  const items = [];
  const add = (kind, places) => {
    const key = `${kind}:${names[places[0]]}`;
    if (kind !== "node" && !opened.has(key)) items.push({ key, kind, places });
    else for (const i of places) items.push({ key: `node:${names[i]}`, kind: "node", places: [i] });
  };
  for (const runs of families.values()) {
    if (runs.length >= ALIKE && !opened.has(`alike:${names[runs[0][0]]}`)) {
      add("alike", runs.flat());
      continue;
    }
    for (const run of runs) {
      if (run.length <= RUN) add("node", run);
      else {
        add("node", run.slice(0, ENDS));
        add("run", run.slice(ENDS, -ENDS));
        add("node", run.slice(-ENDS));
      }
    }
  }
  items.sort((a, b) => a.places[0] - b.places[0]);
  const holder = new Uint32Array(names.length);
  for (const [i, item] of items.entries()) for (const one of item.places) holder[one] = i;
  const shown = new Map();
  for (const { from, to, when } of edges) {
    const [a, b] = [holder[from], holder[to]];
    if (a === b) continue;
    const key = a * items.length + b;
    const known = shown.get(key);
    if (!known) shown.set(key, { from: a, to: b, when });
    // Different conditions in one line: it is drawn as the usual one.
    else if (known.when !== when) known.when = "completed";
  }
  return { items: items.map(({ key, kind, places }) => ({ key, kind, names: places.map((i) => names[i]) })), edges: [...shown.values()] };
}
