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
const CREDIT_EVERY = 2_000; // ms, or after so many messages or characters:
const CREDIT_AFTER = 100;
const CREDIT_SIZE = 100_000;
const FAILURES_BEFORE_POLLING = 3;

export class Feed extends EventTarget {
  /** `place`: {epoch, seq} of the last message that is known, or null for "from now on". */
  constructor(address, place) {
    super();
    this.address = address;
    this.place = place;
    this.taken = 0; // messages since credit was last given, and their length
    this.takenSize = 0;
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
      socket.send(JSON.stringify({ op: "subscribe", channel: "signals", resume: this.place }));
    });
    socket.addEventListener("message", (event) => this.socket === socket && this.take(event.data));
    socket.addEventListener("close", (event) => this.socket === socket && this.lost(event.code));
  }

  take(text) {
    this.heardAt = Date.now();
    this.takenSize += text.length;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return; // not ours; the watchdog decides whether the feed is alive
    }
    if (message.op === "hb") this.beat(message);
    else if (message.channel === "signals") this.told(message);
    else if (message.ch === "signals") this.signal(message);
  }

  /** Take what is said about the channel. */
  told(message) {
    if (message.op === "ack") this.accepted(message);
    else if (message.op === "gap") this.gap(message);
    else if (message.op === "skip") this.place = { epoch: message.epoch, seq: message.seq };
  }

  accepted(message) {
    this.failures = 0;
    this.silent = false;
    if (message.mode === "live") this.place = { epoch: message.epoch, seq: message.seq };
    this.become("live");
  }

  /** A heartbeat comes after all that it names. */
  beat(message) {
    if (message.ts) heard(message.ts);
    const at = { epoch: message.epoch?.signals, seq: message.seq?.signals };
    if (!this.place || !Number.isInteger(at.seq)) return;
    if (at.epoch !== this.place.epoch || at.seq > this.place.seq) this.leave();
  }

  signal(message) {
    this.owe();
    const { epoch, seq } = message;
    if (this.place && epoch === this.place.epoch && seq <= this.place.seq) return; // heard before
    if (this.place && (epoch !== this.place.epoch || seq > this.place.seq + 1)) return this.leave();
    this.place = { epoch, seq };
    this.tell("signal", message);
  }

  /** Something is missing and will not come: go on from there with what the server shows. */
  gap(message) {
    this.place = { epoch: message.epoch, seq: message.seq };
    this.tell("gap");
  }

  /** Let the server send more: it keeps no more under way than we took, plus 500. */
  owe() {
    this.taken += 1;
    if (this.taken >= CREDIT_AFTER || this.takenSize >= CREDIT_SIZE) this.credit();
    else this.crediting ??= setTimeout(() => this.credit(), CREDIT_EVERY);
  }

  credit() {
    clearTimeout(this.crediting);
    this.crediting = null;
    this.taken = this.takenSize = 0;
    if (!this.place || this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(JSON.stringify({ op: "credit", seq: { signals: this.place.seq } }));
  }

  /** A number is missing though nothing was announced: come back and resume. */
  leave() {
    const socket = this.socket;
    if (!socket) return;
    this.lost(0);
    socket.close();
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
    this.silent = true;
    this.leave();
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
