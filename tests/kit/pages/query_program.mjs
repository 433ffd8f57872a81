// Answers what the pages' `query.js` makes of the examples: one JSON text in, one out.
import { readFileSync } from "node:fs";
import { matchesTerms, parseQuery, tokensOf, writeQuery } from "./query.js";

const { texts, tokens, matches, task } = JSON.parse(readFileSync(0, "utf8"));
const answer = {
  terms: texts.map((text) => parseQuery(text)),
  written: texts.map((text) => parseQuery(text)).map((terms) => terms && writeQuery(terms)),
  tokens: tokens.map((text) => tokensOf(text)),
  matches: matches.map((text) => matchesTerms(task, parseQuery(text))),
};
process.stdout.write(JSON.stringify(answer));
