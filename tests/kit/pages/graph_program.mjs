// Answers each line of JSON, `{nodes, opened, vertical, brief}` or `{schema}`, with a line: what the pages make of it.
import { createInterface } from 'node:readline';
import { fold, graphOf } from './graph/graph.js';
import { layOut } from './graph/layers.js';
import { fieldOf } from './schema-form.js';

function answer({ nodes, opened, vertical, brief, schema }) {
  if (schema) return fieldOf(schema);
  const began = performance.now();
  const graph = graphOf(nodes);
  const shown = fold(graph, new Set(opened));
  const drawn = layOut(shown, { vertical });
  const took_ms = performance.now() - began;
  return brief ? { items: shown.items.length, took_ms } : { graph, ...shown, ...drawn, took_ms };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(answer(JSON.parse(line)))}\n`);
}
