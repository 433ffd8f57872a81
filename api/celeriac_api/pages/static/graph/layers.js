// Places the items of a graph in layers: each item after all that it waits for, with few crossings.

/** The size of an item, and the room between items and between layers (px). */
export const BOX = { width: 184, height: 48 };
const GAP = 18;
const LAYER_GAP = 64;
/** The room of a line that passes a layer (px). */
const LANE = 10;
/** Lines over several layers get a lane of their own in each of them, while there are at most so many lanes. */
const LANES = 3000;
/** A layer of more items than this is a block: a frame with several items in a row, at which lines end (px around it). */
const TALL = 30;
const FRAME = 10;
/** How much work is done for fewer crossings: passes × (items + lines). */
const WORK = 160_000;

/**
 * Return where the items of `fold` are drawn: `{places: [{x, y, width, height, layer}], lines: [[x, y, …]], blocks, width, height}`.
 *
 * `places` are as `items`, and `lines` as `edges`: points in pairs, two for each layer that a line passes. `blocks` are the frames
 * around layers of many items. Layers go from
 * left to right, or from top to bottom if `vertical`. The same items give the same places.
 */
export function layOut({ items, edges }, { vertical = false } = {}) {
  const layerOf = layersOf(items.length, edges);
  const { cells, chains } = withLanes(layerOf, edges);
  const layers = ordered(cells, chains);
  const along = vertical ? BOX.height : BOX.width;
  const across = vertical ? BOX.width : BOX.height;
  const rows = layers.map((layer) => rowsOf(layer, cells, across));
  level(rows, cells);
  return drawn(items.length, cells, chains, rows, { along, across, vertical });
}

// --- layers

/** Return the layer of each item: one after the last of its parents; a parentless one is just before its first child. */
function layersOf(count, edges) {
  const layer = new Uint32Array(count);
  const open = new Uint32Array(count);
  const next = Array.from({ length: count }, () => []);
  for (const { from, to } of edges) {
    open[to]++;
    next[from].push(to);
  }
  const roots = [];
  for (let i = 0; i < count; i++) if (!open[i]) roots.push(i);
  const ready = [...roots];
  for (let n = 0; n < ready.length; n++) {
    for (const to of next[ready[n]]) {
      layer[to] = Math.max(layer[to], layer[ready[n]] + 1);
      if (--open[to] === 0) ready.push(to);
    }
  }
  for (const i of roots) if (next[i].length) layer[i] = Math.min(...next[i].map((to) => layer[to])) - 1;
  return layer;
}

/** Return the cells (items, then lanes of long lines) and for each edge the cells that its line goes through. */
function withLanes(layerOf, edges) {
  const cells = Array.from(layerOf, (layer) => ({ layer, lane: false, before: [], after: [], at: 0, y: 0 }));
  const chains = edges.map(({ from, to }) => [from, to]);
  const bySpan = chains.map((_, i) => i).sort((a, b) => span(a) - span(b) || a - b);
  function span(i) {
    return layerOf[chains[i][1]] - layerOf[chains[i][0]];
  }
  let lanes = 0;
  for (const i of bySpan) {
    const [from, to] = chains[i];
    const needed = span(i) - 1;
    if (needed > 0 && lanes + needed <= LANES) {
      lanes += needed;
      const passed = [];
      for (let layer = layerOf[from] + 1; layer < layerOf[to]; layer++) {
        passed.push(cells.length);
        cells.push({ layer, lane: true, before: [], after: [], at: 0, y: 0 });
      }
      chains[i] = [from, ...passed, to];
    }
  }
  for (const chain of chains) {
    for (let n = 1; n < chain.length; n++) {
      const [a, b] = [chain[n - 1], chain[n]];
      // A line without lanes does not count for the order: its ends are not in neighbouring layers.
      if (cells[b].layer - cells[a].layer > 1) continue;
      cells[a].after.push(b);
      cells[b].before.push(a);
    }
  }
  return { cells, chains };
}

// --- the order in a layer

/** Return the cells of each layer in their order. */
function ordered(cells, chains) {
  let layers = Array.from({ length: 1 + cells.reduce((most, cell) => Math.max(most, cell.layer), 0) }, () => []);
  // Children come in the order of their parents, as a reader would write them.
  const seen = new Uint8Array(cells.length);
  for (let root = 0; root < cells.length; root++) {
    const stack = cells[root].lane || cells[root].before.length ? [] : [root];
    while (stack.length) {
      const i = stack.pop();
      if (seen[i]) continue;
      seen[i] = 1;
      layers[cells[i].layer].push(i);
      for (let n = cells[i].after.length - 1; n >= 0; n--) stack.push(cells[i].after[n]);
    }
  }
  for (let i = 0; i < cells.length; i++) if (!seen[i]) layers[cells[i].layer].push(i);
  settle(layers, cells);
  const size = cells.length + chains.reduce((sum, chain) => sum + chain.length, 0);
  const passes = Math.min(12, Math.floor(WORK / Math.max(1, size)));
  let best = { crossings: crossings(layers, cells), layers: layers.map((layer) => [...layer]) };
  for (let pass = 0; pass < passes && best.crossings; pass++) {
    const down = pass % 2 === 0;
    for (let n = 0; n < layers.length; n++) sortLayer(layers[down ? n : layers.length - 1 - n], cells, down ? "before" : "after");
    const found = crossings(layers, cells);
    if (found < best.crossings) best = { crossings: found, layers: layers.map((layer) => [...layer]) };
  }
  layers = best.layers;
  settle(layers, cells);
  return layers;
}

function settle(layers, cells) {
  for (const layer of layers) for (const [at, i] of layer.entries()) cells[i].at = at;
}

/** Sort a layer by the mean place of the neighbours on one side; cells without any stay where they are. */
function sortLayer(layer, cells, side) {
  const weights = new Map();
  for (const i of layer) {
    const near = cells[i][side];
    weights.set(i, near.length ? near.reduce((sum, one) => sum + cells[one].at, 0) / near.length : -1);
  }
  const moving = layer.filter((i) => weights.get(i) >= 0).sort((a, b) => weights.get(a) - weights.get(b) || cells[a].at - cells[b].at);
  for (let n = 0, m = 0; n < layer.length; n++) if (weights.get(layer[n]) >= 0) layer[n] = moving[m++];
  for (const [at, i] of layer.entries()) cells[i].at = at;
}

/** Count the crossings between neighbouring layers. */
function crossings(layers, cells) {
  let count = 0;
  for (let n = 1; n < layers.length; n++) {
    const ends = [];
    for (const i of layers[n - 1]) ends.push(...cells[i].after.map((to) => cells[to].at).sort((a, b) => a - b));
    count += inversions(ends, layers[n].length);
  }
  return count;
}

/** Count the pairs in which the larger number comes first; numbers are below `most`. A binary indexed tree. */
function inversions(numbers, most) {
  const tree = new Uint32Array(most + 1);
  let count = 0;
  for (const [seen, number] of numbers.entries()) {
    let smaller = 0;
    for (let i = number + 1; i > 0; i -= i & -i) smaller += tree[i];
    count += seen - smaller;
    for (let i = number + 1; i <= most; i += i & -i) tree[i]++;
  }
  return count;
}

// --- places across the layers

/** Return the rows of a layer: `{cells, size, y}`. A broad layer has several items in a row; a lane is a row of its own. */
function rowsOf(layer, cells, across) {
  const boxes = layer.filter((i) => !cells[i].lane).length;
  const columns = boxes > TALL ? Math.ceil(boxes / Math.max(TALL / 2, Math.ceil(Math.sqrt(boxes * 2)))) : 1;
  const rows = [];
  let open = null;
  for (const i of layer) {
    const { lane } = cells[i];
    if (lane || !open || open.cells.length === columns) {
      open = { cells: [], size: lane ? LANE : across, y: 0 };
      rows.push(open);
    }
    open.cells.push(i);
    if (lane) open = null;
  }
  return { rows, columns };
}

/** Set `y` of each row and cell, the middle across the layers: as near to the neighbours as the room allows. */
function level(layers, cells) {
  const place = (rows, wanted, weights) => {
    const found = spread(rows, wanted, weights);
    for (const [n, row] of rows.entries()) {
      row.y = found[n];
      for (const i of row.cells) cells[i].y = row.y;
    }
  };
  for (const { rows } of layers) place(rows, rows.map(() => 0), rows.map(() => 1));
  for (const sides of [["before"], ["after"], ["before"], ["after", "before"]]) {
    for (const { rows } of sides[0] === "before" ? layers : layers.toReversed()) {
      const near = rows.map((row) => row.cells.flatMap((i) => sides.flatMap((side) => cells[i][side])));
      place(
        rows,
        rows.map((row, n) => (near[n].length ? near[n].reduce((sum, i) => sum + cells[i].y, 0) / near[n].length : row.y)),
        // A line with a bend is worse than an item that is not in the middle.
        rows.map((row, n) => (near[n].length ? (cells[row.cells[0]].lane ? 4 : 1) : 0.01)),
      );
    }
  }
  const top = Math.min(...layers.flatMap(({ rows }) => (rows.length ? [rows[0].y - rows[0].size / 2] : [])));
  for (const { rows } of layers) for (const row of rows) row.y -= top;
}

/** Return the places nearest to the wanted ones at which no row touches the next: an isotonic regression. */
function spread(rows, wanted, weights) {
  const offsets = [];
  const blocks = [];
  for (const [n, row] of rows.entries()) {
    offsets.push(n ? offsets[n - 1] + (rows[n - 1].size + row.size) / 2 + GAP : 0);
    let block = { sum: (wanted[n] - offsets[n]) * weights[n], weight: weights[n], count: 1 };
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).weight >= block.sum / block.weight) {
      const last = blocks.pop();
      block = { sum: last.sum + block.sum, weight: last.weight + block.weight, count: last.count + block.count };
    }
    blocks.push(block);
  }
  let n = 0;
  return blocks.flatMap(({ sum, weight, count }) => Array.from({ length: count }, () => sum / weight + offsets[n++]));
}

// --- the drawing

function drawn(count, cells, chains, layers, { along, across, vertical }) {
  const between = new Uint32Array(layers.length);
  for (const cell of cells) between[cell.layer] += cell.after.length;
  const columns = [];
  let far = 0;
  for (const [n, layer] of layers.entries()) {
    const size = layer.columns * along + (layer.columns - 1) * GAP;
    const frame = layer.columns > 1 ? FRAME : 0;
    columns.push({ at: far + frame, size, frame });
    far += size + 2 * frame + (n < layers.length - 1 ? LAYER_GAP + Math.min(120, between[n]) : 0);
  }
  const start = new Float64Array(cells.length);
  const middle = new Float64Array(cells.length);
  let height = 0;
  for (const [n, layer] of layers.entries()) {
    for (const row of layer.rows) {
      height = Math.max(height, row.y + row.size / 2);
      for (const [place, i] of row.cells.entries()) {
        start[i] = columns[n].at + place * (along + GAP);
        middle[i] = row.y;
      }
    }
  }
  const places = Array.from({ length: count }, (_, i) => {
    const [x, y] = [start[i], middle[i] - across / 2];
    return { x: vertical ? y : x, y: vertical ? x : y, width: BOX.width, height: BOX.height, layer: cells[i].layer };
  });
  const lines = chains.map((chain) => {
    const points = [];
    for (const [n, i] of chain.entries()) {
      const { at, size, frame } = columns[cells[i].layer];
      const [begin, end] = frame ? [at - frame, at + size + frame] : [start[i], start[i] + (cells[i].lane ? size : along)];
      if (n) points.push([begin, middle[i]]);
      if (n < chain.length - 1) points.push([end, middle[i]]);
    }
    return vertical ? points.flatMap(([x, y]) => [y, x]) : points.flat();
  });
  const blocks = layers.flatMap(({ columns: several, rows }, n) => {
    if (several === 1) return [];
    const boxes = rows.filter((row) => !cells[row.cells[0]].lane);
    const { at, size, frame } = columns[n];
    const [top, bottom] = [boxes[0], boxes.at(-1)].map((row) => row.y + (row === boxes[0] ? -1 : 1) * (row.size / 2 + frame));
    const block = { x: at - frame, y: top, width: size + 2 * frame, height: bottom - top };
    return [vertical ? { x: block.y, y: block.x, width: block.height, height: block.width } : block];
  });
  return { places, lines, blocks, width: vertical ? height : far, height: vertical ? far : height };
}
