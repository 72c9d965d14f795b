// The live list of signals. Nothing moves while a person reads: new rows wait in a pill.

import * as clock from "./clock.js";
import { fetched, held } from "./live.js";

const GATHER = 250; // ms; a burst of messages becomes one request
const MOST_KEYS = 50;

export class Stream {
  constructor(element) {
    this.element = element;
    this.rows = element.querySelector(".stream-rows");
    this.pill = element.querySelector(".new-rows");
    this.empty = element.querySelector(".stream-empty");
    this.banner = element.querySelector(".stale-banner");
    this.pauseButton = document.querySelector(".pause");
    this.paused = false;
    this.waiting = new Set(); // keys of new rows that are held back
    this.changed = new Set(); // keys to fetch now
    this.wanted = new Set(); // keys of new rows that a person asked for, whatever holds the list
    this.takesNew = element.dataset.liveRows === "yes";
  }

  start() {
    this.pill.addEventListener("click", () => this.show());
    if (this.pauseButton) {
      this.pauseButton.hidden = false;
      this.pauseButton.addEventListener("click", () => this.pause());
    }
    for (const name of ["mouseleave", "focusout"]) {
      this.element.addEventListener(name, () => setTimeout(() => this.release(), 50));
    }
    window.addEventListener("scroll", () => this.release(), { passive: true });
    document.addEventListener("selectionchange", () => this.release());
  }

  /** Take one message of the feed. */
  take(message) {
    const signal = message.d;
    if (!signal || typeof signal.key !== "string") return;
    if (this.row(signal.key)) this.fetchSoon(signal.key);
    else if (this.takesNew && message.t !== "closed" && this.fits(signal)) this.arrive(signal.key);
  }

  fits(signal) {
    const asked = this.element.dataset;
    return (
      (!asked.level || asked.level === signal.level) &&
      (!asked.rule || asked.rule === signal.rule) &&
      (!asked.kind || asked.kind === signal.kind) &&
      asked.status !== "CLOSED"
    );
  }

  arrive(key) {
    if (!this.holding()) return this.fetchSoon(key);
    this.waiting.add(key);
    this.tellWaiting();
  }

  /** Say why rows must not move now; empty when they may. */
  holding() {
    if (this.paused) return "paused";
    if (this.element.getBoundingClientRect().top < -40) return "scrolled";
    return held(this.rows) ? "read" : "";
  }

  release() {
    if (this.waiting.size && !this.holding()) this.show();
    else if (this.waiting.size) this.tellWaiting();
  }

  show() {
    const scrolled = this.holding() === "scrolled";
    for (const key of this.waiting) {
      this.changed.add(key);
      this.wanted.add(key);
    }
    this.waiting.clear();
    this.tellWaiting();
    if (scrolled) this.element.scrollIntoView({ block: "start" });
    this.fetchSoon();
  }

  pause() {
    this.paused = !this.paused;
    this.pauseButton.setAttribute("aria-pressed", String(this.paused));
    this.pauseButton.querySelector(".pause-word").textContent = this.paused ? "Resume" : "Pause";
    this.release();
  }

  tellWaiting() {
    const count = this.waiting.size;
    this.element.dataset.held = this.holding();
    this.pill.hidden = !count;
    this.pill.textContent = count ? `${count} new ↑` : "";
  }

  fetchSoon(key) {
    if (key) this.changed.add(key);
    if (this.timer || !this.changed.size) return;
    this.timer = setTimeout(() => this.fetchChanged(), GATHER);
  }

  async fetchChanged() {
    const keys = [...this.changed].slice(0, MOST_KEYS);
    keys.forEach((key) => this.changed.delete(key));
    const page = await fetched(`${this.element.dataset.rowsUrl}?keys=${keys.map(encodeURIComponent).join(",")}`);
    this.timer = null;
    if (page) page.querySelectorAll("tr[data-key]").forEach((row) => this.put(document.importNode(row, true)));
    clock.tick();
    this.fetchSoon();
  }

  row(key) {
    return document.getElementById(`signal-${key}`);
  }

  /** Put a row in its place: over its older self, or where its age belongs. */
  put(row) {
    const older = this.row(row.dataset.key);
    if (older) {
      const focused = older.contains(document.activeElement);
      older.replaceWith(row);
      if (focused) row.querySelector(".row-link")?.focus({ preventScroll: true });
      return;
    }
    if (!this.wanted.delete(row.dataset.key) && this.holding()) {
      this.waiting.add(row.dataset.key); // a person came while it was under way
      this.tellWaiting();
      return;
    }
    this.insert(row);
  }

  insert(row) {
    const opened = Number(row.dataset.opened);
    const next = [...this.rows.children].find((other) => Number(other.dataset.opened) < opened);
    row.classList.add("arrived");
    this.rows.insertBefore(row, next ?? null);
    while (this.rows.children.length > Number(this.element.dataset.size)) this.rows.lastElementChild.remove();
    this.empty.hidden = true;
  }

  /** Read the whole list again, as after a gap. Rows that are read stay where they are. */
  async reload() {
    const page = await fetched(location.href);
    const fresh = page?.querySelector(".stream-rows");
    if (!fresh) return;
    const rows = [...fresh.children].map((row) => document.importNode(row, true));
    if (this.holding()) return rows.forEach((row) => this.put(row));
    this.waiting.clear();
    this.tellWaiting();
    this.rows.replaceChildren(...rows);
    this.empty.hidden = rows.length > 0;
    clock.tick();
  }

  /** Say when what is shown may be behind. */
  tellState(state) {
    const words = {
      stale: "The feed has gone silent; what is shown may be behind. Reconnecting …",
      reconnecting: "",
      polling: "No live connection; the list is read again every 5 seconds.",
    };
    this.banner.textContent = words[state] ?? "";
    this.banner.hidden = !words[state];
  }
}
