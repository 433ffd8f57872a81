// How times are written: relative ("5 m ago"), in the browser's zone, or in UTC. The choice is kept in this browser only.

const KEY = "celeriac.times";
export const TIMES = ["relative", "local", "utc"];
/** The browser's zone. To ask for it takes as long as the rest of this page's scripts, so it is asked for when it is written first. */
let local = null;

function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage may be forbidden: then times are relative
  }
}

class Times extends EventTarget {
  #mode = TIMES.includes(kept()) ? kept() : "relative";

  constructor() {
    super();
    // Another tab has chosen.
    addEventListener("storage", (event) => event.key === KEY && this.#become(TIMES.includes(event.newValue) ? event.newValue : "relative"));
  }

  /** One of `TIMES`. Listeners of `change` draw again what they show. */
  get mode() {
    return this.#mode;
  }

  set mode(mode) {
    try {
      localStorage.setItem(KEY, mode);
    } catch {
      // storage may be forbidden: the choice lasts until the page is closed
    }
    this.#become(mode);
  }

  get relative() {
    return this.#mode === "relative";
  }

  /** The zone in which moments are written, by its IANA name. */
  get zone() {
    return this.#mode === "utc" ? "UTC" : (local ??= new Intl.DateTimeFormat().resolvedOptions().timeZone);
  }

  /** "Europe/Berlin, GMT+1". */
  get zoneText() {
    const parts = new Intl.DateTimeFormat("en", { timeZone: this.zone, timeZoneName: "shortOffset" }).formatToParts(new Date());
    const offset = parts.find((part) => part.type === "timeZoneName").value;
    return this.zone === "UTC" ? "UTC" : `${this.zone}, ${offset.replace("GMT", "UTC")}`;
  }

  #become(mode) {
    if (mode === this.#mode) return;
    this.#mode = mode;
    this.dispatchEvent(new Event("change"));
  }
}

export const times = new Times();
