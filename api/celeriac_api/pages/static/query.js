// The query language of the search box, as the server's `task_query.py` describes it. No imports: it runs without a page.

/** Each field, and its other names. */
export const FIELDS = {
  status: [],
  type: [],
  title: [],
  key: [],
  user: ["user_id"],
  tag: ["tags"],
  group: ["queue"],
  workflow: ["workflow_id"],
  definition: ["definition_id"],
  error: ["error_code"],
  id: ["task_id"],
  after: ["created_after"],
  before: ["created_before"],
  finished_after: [],
  finished_before: [],
};
export const STATUSES = ["waiting", "scheduled", "pending", "processing", "retrying", "completed", "failed", "cancelled"];
const MOMENTS = ["after", "before", "finished_after", "finished_before"];
const NAMES = new Map(Object.entries(FIELDS).flatMap(([field, others]) => [field, ...others].map((name) => [name, field])));
const MOST_TERMS = 20;
const MOST_VALUES = 50;
const WORD_CHARACTERS = 64;

const FIELD = /([A-Za-z][A-Za-z_]*):(?!\/\/)(?=\S)/y;
const QUOTED = /"((?:[^"\\]|\\[^])*)(?:"|\\?$)/y;
const VALUE = /[^\s,]+/y;
const WORD = /\S+/y;
const SPACE = /\s*/y;
const PLAIN_VALUE = /^[^\s,"][^\s,]*$/;
const PLAIN_WORD = /^[^\s"]\S*$/;
const DURATION = /^(?=\d)(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$/;
const UNITS = [86400000, 3600000, 60000, 1000, 1];
const DAY = /^\d{4}-\d{2}-\d{2}$/;
const MOMENT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2})$/i;
const FIRST = Date.UTC(1970, 0, 1);
const LAST = Date.UTC(3000, 0, 1) - 1;

const UNSPACED = "\\u3040-\\u30ff\\u31f0-\\u31ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uac00-\\ud7af\\uf900-\\ufaff\\u{20000}-\\u{3ffff}";
const RUN = new RegExp(`[${UNSPACED}]+|(?:(?![${UNSPACED}])[\\p{L}\\p{N}])+`, "gu");
const FIRST_UNSPACED = new RegExp(`^[${UNSPACED}]`, "u");

/** Match a sticky pattern at a place. */
function at(pattern, text, place) {
  pattern.lastIndex = place;
  return pattern.exec(text);
}

const unescaped = (text) => text.replace(/\\(["\\])/g, "$1");
const quoted = (text) => `"${text.replace(/\\/g, "\\\\").replace(/"/g, '\\"')}"`;

/**
 * Return the terms of a query, `{field, values, negated, exact}`; `field` is "" for words. Return null for a text that
 * is not a query: the server's answer says why.
 */
export function parseQuery(text) {
  const terms = [];
  let place = at(SPACE, text, 0)[0].length;
  while (place < text.length) {
    const found = terms.length < MOST_TERMS && readTerm(text, place);
    if (!found) return null;
    const { term } = found;
    const alone = term.field && term.field !== "tag" && !term.negated;
    if (alone && terms.some((other) => other.field === term.field && !other.negated)) return null;
    terms.push(term);
    place = found.end + at(SPACE, text, found.end)[0].length;
  }
  return terms.reduce((sum, term) => sum + term.values.length, 0) > MOST_VALUES ? null : terms;
}

/** Return a query as text, which is read as the same terms again. */
export function writeQuery(terms) {
  return terms
    .map(({ field, values, negated, exact }) => {
      const sign = negated ? "-" : "";
      if (field) return `${sign}${field}:${values.map((value) => (PLAIN_VALUE.test(value) ? value : quoted(value))).join(",")}`;
      const plain = !exact && PLAIN_WORD.test(values[0]) && !at(FIELD, values[0], 0);
      return sign + (plain ? values[0] : quoted(values[0]));
    })
    .join(" ");
}

function readTerm(text, start) {
  const negated = text[start] === "-" && start + 1 < text.length && !/\s/.test(text[start + 1]);
  const place = start + (negated ? 1 : 0);
  const named = at(FIELD, text, place);
  if (named) {
    const field = NAMES.get(named[1].toLowerCase());
    const found = field && readValues(text, FIELD.lastIndex);
    const values = found && checked(field, found.values, negated);
    return values && { term: { field, values: [...new Set(values)], negated, exact: false }, end: found.end };
  }
  const inQuotes = at(QUOTED, text, place);
  const found = inQuotes ?? at(WORD, text, place);
  const term = { field: "", values: [inQuotes ? unescaped(inQuotes[1]) : found[0]], negated, exact: Boolean(inQuotes) };
  return tokensOf(term.values[0]).length ? { term, end: place + found[0].length } : null;
}

function readValues(text, start) {
  const values = [];
  for (let place = start; ; place += 1) {
    const inQuotes = at(QUOTED, text, place);
    const found = inQuotes ?? at(VALUE, text, place);
    const value = inQuotes ? unescaped(inQuotes[1]) : found?.[0];
    if (!value) return null;
    values.push(value);
    place += found[0].length;
    if (text[place] !== ",") return { values, end: place };
  }
}

function checked(field, values, negated) {
  if (field === "status") {
    const found = values.map((value) => value.toLowerCase());
    return found.every((value) => STATUSES.includes(value)) ? found : null;
  }
  if (MOMENTS.includes(field)) return !negated && values.length === 1 && momentOf(values[0]) !== null ? values : null;
  return values;
}

/** Return the moment (ms) that the value of `after:` and the like means; null if it is none. */
export function momentOf(text, now = Date.now()) {
  const duration = DURATION.exec(text);
  let ms = NaN;
  if (duration) ms = now - UNITS.reduce((sum, unit, i) => sum + Number(duration[i + 1] ?? 0) * unit, 0);
  else if (DAY.test(text)) ms = Date.parse(`${text}T00:00:00Z`);
  else if (MOMENT.test(text)) ms = Date.parse(text.toUpperCase());
  return ms >= FIRST && ms <= LAST && (!DAY.test(text.slice(0, 10)) || exists(text.slice(0, 10))) ? ms : null;
}

/** Return whether a day exists: `Date` would read the 31st of February as a day of March. */
function exists(day) {
  const date = new Date(`${day}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
}

/** Return the words of a text in the form in which the server indexes them. */
export function tokensOf(text) {
  return (text.normalize("NFKC").toLowerCase().match(RUN) ?? []).flatMap((run) => {
    const characters = [...run];
    return FIRST_UNSPACED.test(run) ? characters.map((_, i) => characters.slice(i, i + 2).join("")) : [characters.slice(0, WORD_CHARACTERS).join("")];
  });
}

/** Return whether a text has these words. Without `exact`, the last one may be the beginning of a word. */
function hasWords(text, words, exact) {
  const tokens = tokensOf(words);
  const [last, before] = [tokens.at(-1), tokens.at(-2) ?? ""];
  const unspaced = FIRST_UNSPACED.test(last);
  const open = unspaced && FIRST_UNSPACED.test(before) && [...before].length === 2 && [...before][1] === last;
  if (open) tokens.pop();
  const prefix = !open && (unspaced || !exact);
  const there = tokensOf(text);
  return there.some((_, i) => tokens.every((token, j) => (prefix && j === tokens.length - 1 ? there[i + j]?.startsWith(token) : there[i + j] === token)));
}

const OF_TASK = {
  status: (task) => [task.status],
  type: (task) => [task.type],
  key: (task) => [task.key],
  user: (task) => [task.user_id],
  tag: (task) => task.tags ?? [],
  group: (task) => [task.queue],
  workflow: (task) => [task.workflow_id],
  definition: (task) => [task.definition_id],
  error: (task) => [task.error?.code],
};

/**
 * Return whether a record matches the terms: true, false, or null if only the server can say (a record of the live
 * stream has neither payload nor log).
 */
export function matchesTerms(task, terms, now = Date.now()) {
  const words = terms.filter((term) => !term.field && !term.negated);
  let known = true;
  for (const term of terms) {
    const found = term.field ? hasField(task, term, now) : hasText(task, term, words.length === 1);
    if (found === null) known = null;
    else if (found === term.negated) return false;
  }
  return known;
}

function hasField(task, { field, values }, now) {
  if (field === "title") return task.title === undefined ? null : values.some((value) => (task.title ?? "").toLowerCase().includes(value.toLowerCase()));
  if (field === "id") return values.some((value) => task.task_id.startsWith(value));
  if (MOMENTS.includes(field)) {
    const moment = Date.parse(field.startsWith("finished") ? task.finished_at : task.created_at);
    const bound = momentOf(values[0], now);
    return field.endsWith("after") ? moment >= bound : moment < bound;
  }
  const ofTask = OF_TASK[field](task);
  return values.some((value) => ofTask.includes(value));
}

function hasText(task, { values: [text], negated, exact }, alone) {
  if (alone && !negated && task.task_id.startsWith(text)) return true;
  const texts = [task.type, task.key, ...(task.tags ?? []), task.error?.code, task.error?.message, task.progress?.message];
  return texts.some((one) => one && hasWords(one, text, exact)) || null;
}
