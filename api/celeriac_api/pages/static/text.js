// The texts of the pages, in the reader's language. `texts/en.json` is the catalogue; other languages have the same keys.

/** The languages that have a catalogue, by their codes, each in its own words. */
export const LANGUAGES = { en: "English", zh: "中文" };
/** The name of the cookie with the chosen language. It is a cookie so that pages of the server have it too. */
const COOKIE = "celeriac_language";

/** How often the catalogue is asked for while the server does not answer, and the pause between (ms). */
const TRIES = 3;
const AGAIN_MS = 500;

function chosen() {
  const [, code] = document.cookie.match(new RegExp(`(?:^|; )${COOKIE}=(\\w+)`)) ?? [];
  const wanted = [code, ...navigator.languages.map((tag) => tag.split("-")[0])];
  return wanted.find((one) => Object.hasOwn(LANGUAGES, one)) ?? "en";
}

/** The code of the reader's language. */
export const language = chosen();
document.documentElement.lang = language;

/** Return the texts of the language. Without them the page says so and stops: it shows no keys, and no half of itself. */
async function read() {
  // The dashboard's page holds those of the language that the server takes for the reader's.
  const held = document.getElementById("texts");
  if (held?.lang === language) return JSON.parse(held.textContent);
  for (let tries = 1; ; tries++) {
    try {
      const answer = await fetch(new URL(`texts/${language}.json`, import.meta.url));
      if (answer.ok) return await answer.json();
      throw new Error(`status ${answer.status}`);
    } catch (error) {
      if (tries < TRIES) {
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        continue;
      }
      // The only text that is not in the catalogue, in all languages.
      const link = document.createElement("a");
      link.href = location.href;
      link.append("Reload · 重新加载");
      link.addEventListener("click", (event) => (event.preventDefault(), location.reload()));
      const said = document.createElement("p");
      said.className = "empty";
      said.setAttribute("role", "alert");
      said.append("The texts of this page cannot be loaded. 无法加载本页的文字。 ", link);
      document.body.prepend(said);
      throw error;
    }
  }
}

const catalogue = await read();
let plurals = null;
/** Writes a number with all its digits. */
export const whole = new Intl.NumberFormat(language);

function entry(key, n) {
  const found = catalogue[key];
  if (found === undefined) {
    console.error(`no text for ${key}`);
    return key;
  }
  return typeof found === "string" ? found : (found[(plurals ??= new Intl.PluralRules(language)).select(n)] ?? found.other);
}

/**
 * Return the text of a key: `t("tasks.count", { n: 3 })`. Values stand for `{name}` in the text. Where the catalogue has
 * an object, `n` chooses its plural form.
 */
export function t(key, values = {}) {
  return entry(key, values.n).replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? whole.format(values[name]) : (values[name] ?? "")));
}

/** Return a text that begins with a capital. */
export const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** As `t`, for a sentence with elements in it: returns texts and the given elements in the order of the language. */
export function pieces(key, values) {
  return entry(key, values.n)
    .split(/\{(\w+)\}/)
    .map((part, i) => (i % 2 ? values[part] : part));
}

/** Show the pages in another language from now on. */
export function setLanguage(code) {
  // The path of the page's folder: cookies of other programs on this host are not touched.
  const path = new URL("../../", import.meta.url).pathname;
  document.cookie = `${COOKIE}=${code}; Path=${path}; Max-Age=31536000; SameSite=Lax`;
  location.reload();
}
