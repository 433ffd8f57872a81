// The live stream of the server, shared by all views: changed tasks, groups, workers, rates.

import { address, get } from "./api.js";

/** A hidden page closes the stream after this time (ms). */
const HIDDEN_MS = 60000;
/** Rates come every second while the server can read its store. Without any for this time, the store does not answer (ms). */
const SILENT_MS = 8000;
/** How many seconds of rates are kept for drawing. */
const KEPT_RATES = 300;
/** For how long changes are kept, and repeated by the server at the beginning (ms), and how many are kept. */
const RECENT_MS = 15000;
const RECENT = 1000;

class Live extends EventTarget {
  state = "connecting";
  groups = null;
  workers = null;
  delayed = 0;
  rates = [];
  /** How far back `recent` reaches (ms). */
  recentMs = RECENT_MS;
  #recent = new Map();
  #source = null;
  #hiddenTimer = null;
  #position = null;
  #heardAt = 0;
  /** The state comes first on each connection. After that the stream has all changes of tasks. */
  #told = false;

  start() {
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.#hiddenTimer);
      if (document.hidden) this.#hiddenTimer = setTimeout(() => this.#close("paused"), HIDDEN_MS);
      else if (!this.#source) this.#open();
    });
    addEventListener("pagehide", () => this.#close("paused"));
    addEventListener("pageshow", () => this.#source || this.#open());
    setInterval(() => this.state === "live" && Date.now() - this.#heardAt > SILENT_MS && this.#become("silent"), 1000);
    this.#open();
  }

  /** Call `listener(detail)` for each message of a kind, and for `told` once the stream is complete; returns how to end it. */
  on(kind, listener) {
    const wrapped = (event) => listener(event.detail);
    this.addEventListener(kind, wrapped);
    return () => this.removeEventListener(kind, wrapped);
  }

  /** Return the last state of each task that changed of late. */
  recent() {
    this.#forget();
    return [...this.#recent.values()].map(({ task }) => task);
  }

  #keep(tasks) {
    for (const task of tasks) {
      this.#recent.delete(task.task_id);
      this.#recent.set(task.task_id, { task, at: Date.now() });
    }
    this.#forget();
  }

  #forget() {
    const [now, most] = [Date.now(), RECENT];
    for (const [id, { at }] of this.#recent) {
      if (now - at < RECENT_MS && this.#recent.size <= most) break;
      this.#recent.delete(id);
    }
  }

  #open() {
    let repeated = !this.#position;
    const from = this.#position ? { last_event_id: this.#position } : { repeat_s: RECENT_MS / 1000 };
    this.#source = new EventSource(address("live", from), { withCredentials: false });
    this.#told = false;
    this.#source.onopen = () => {
      this.#heardAt = Date.now();
      this.#become("live");
    };
    this.#source.onerror = () => {
      this.#become("lost");
      // A refusal ends an EventSource for good. The server may just be restarting.
      if (this.#source?.readyState === EventSource.CLOSED) {
        this.#source = null;
        // An EventSource does not say why. If the credential has expired, this request does, and leads to the sign-in page.
        get("../../dashboard/session").catch(() => {});
        setTimeout(() => this.#source || document.hidden || this.#open(), 3000);
      }
    };
    const hear = (kind, take) =>
      this.#source.addEventListener(kind, (event) => {
        const data = JSON.parse(event.data);
        this.#heardAt = Date.now();
        if (this.state === "silent") this.#become("live");
        if (event.lastEventId) this.#position = event.lastEventId;
        take?.(data);
        this.dispatchEvent(new CustomEvent(kind, { detail: data }));
      });
    hear("state", (data) => {
      this.groups = data.groups;
      this.workers = data.workers;
      this.delayed = data.delayed;
      if (this.#told) return;
      this.#told = true;
      this.dispatchEvent(new CustomEvent("told"));
    });
    hear("rates", (data) => {
      const seen = this.rates.at(-1)?.at_ms ?? 0;
      this.rates.push(...data.rates.filter((rate) => rate.at_ms > seen));
      this.rates.splice(0, this.rates.length - KEPT_RATES);
    });
    hear("tasks", (data) => {
      // What is left out of the repeated changes is in the history.
      data.repeated = repeated;
      repeated = false;
      this.#keep(data.tasks);
    });
  }

  #close(state) {
    this.#source?.close();
    this.#source = null;
    this.#become(state);
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("link", { detail: state }));
  }
}

export const live = new Live();
