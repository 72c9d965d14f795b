// The live feed: one socket that reconnects, resumes where it was, and says how it is.
//
// Events: "signal" (detail: the message), "gap" (reload from the server), "poll" (no
// socket: ask the server instead), "logout" (the session has ended), "state" (detail: live,
// reconnecting, stale, polling).

import { heard } from "./clock.js";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
const SILENT_AFTER = 12_000; // the server says something every 5 s
const POLL_EVERY = 5_000;
const LOGGED_OUT = 4401;
const FAILURES_BEFORE_POLLING = 3;

export class Feed extends EventTarget {
  /** `after`: id of the last feed entry that is known, or null for "from now on". */
  constructor(address, after) {
    super();
    this.address = address;
    this.after = after;
    this.acknowledged = null; // id up to which a subscription replays
    this.promised = 0; // last id that a heartbeat spoke of and that has not come yet
    this.failures = 0;
    this.silent = false; // the last socket was left because it said nothing
    this.state = "off";
    this.heardAt = 0;
    this.retryAt = 0;
  }

  start() {
    this.connect();
    setInterval(() => this.watch(), 1000);
    setInterval(() => this.state === "polling" && this.tell("poll"), POLL_EVERY);
    window.addEventListener("online", () => this.socket || this.connect());
  }

  connect() {
    clearTimeout(this.waiting);
    const socket = new WebSocket(this.address);
    this.socket = socket;
    this.heardAt = Date.now();
    socket.addEventListener("open", () => {
      this.heardAt = Date.now();
      socket.send(JSON.stringify({ op: "subscribe", channel: "signals", after: this.after }));
    });
    socket.addEventListener("message", (event) => this.socket === socket && this.take(event.data));
    socket.addEventListener("close", (event) => this.socket === socket && this.lost(event.code));
  }

  take(text) {
    this.heardAt = Date.now();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return; // not ours; the watchdog decides whether the feed is alive
    }
    if (message.op === "ack") this.accepted(message);
    else if (message.op === "hb") this.beat(message);
    else if (message.op === "gap") this.gap();
    else if (message.ch === "signals") this.signal(message);
  }

  accepted(message) {
    this.failures = 0;
    this.silent = false;
    this.promised = 0;
    this.acknowledged = message.seq;
    this.after ??= message.seq;
    this.become("live");
  }

  beat(message) {
    if (message.ts) heard(message.ts);
    const last = message.seq?.signals;
    // What one heartbeat announces must be here by the next one.
    if (this.promised && this.after !== null && this.promised > this.after) {
      this.acknowledged = this.promised;
      this.gap();
    }
    this.promised = Number.isInteger(last) ? last : 0;
  }

  signal(message) {
    if (Number.isInteger(message.seq)) {
      if (this.after !== null && message.seq <= this.after) return; // seen before the cut
      this.after = message.seq;
    }
    this.tell("signal", message);
  }

  /** Something is missing and will not come: go on from here with what the server shows. */
  gap() {
    this.after = Math.max(this.after, this.acknowledged);
    this.tell("gap");
  }

  lost(code) {
    this.socket = null;
    if (code === LOGGED_OUT) this.tell("logout");
    this.failures += 1;
    const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (this.failures - 1));
    const wait = longest / 2 + (Math.random() * longest) / 2;
    this.retryAt = Date.now() + wait;
    if (this.failures >= FAILURES_BEFORE_POLLING) this.become("polling");
    else this.become(this.silent ? "stale" : "reconnecting");
    this.waiting = setTimeout(() => this.connect(), wait);
  }

  /** Take a socket that has gone silent for a broken one. */
  watch() {
    if (!this.socket || Date.now() - this.heardAt < SILENT_AFTER) return;
    const socket = this.socket;
    this.silent = true;
    this.lost(0);
    socket.close();
  }

  become(state) {
    if (this.state === state) return;
    const before = this.state;
    this.state = state;
    this.tell("state", { state, before });
    if (state === "polling") this.tell("poll");
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
