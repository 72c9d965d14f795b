// What runs on every page of a person who is logged in.

import * as clock from "./clock.js";
import { Feed } from "./feed.js";
import * as keys from "./keys.js";
import * as live from "./live.js";
import { Stream } from "./stream.js";

const WORDS = { live: "live", reconnecting: "reconnecting", stale: "silent, reconnecting", polling: "polling" };
const STATES = { live: "ok", reconnecting: "late", stale: "stale", polling: "late" };
const ICONS = { live: "●", reconnecting: "◐", stale: "■", polling: "◐" };

function tellState(feed) {
  const chip = document.getElementById("feed-state");
  if (!chip) return;
  const seconds = Math.max(0, Math.ceil((feed.retryAt - Date.now()) / 1000));
  const waits = seconds && (feed.state === "reconnecting" || feed.state === "stale");
  const word = waits ? `${WORDS[feed.state]} ${seconds} s` : WORDS[feed.state];
  chip.dataset.state = STATES[feed.state] ?? "off";
  chip.querySelector(".feed-word").textContent = word ? `${ICONS[feed.state]} ${word}` : "connecting";
}

let unseen = 0;
const title = document.title;

const since = Date.parse(document.getElementById("server-now")?.dataset.now);
const levels = new Map(); // of the signals heard of, by key

/** Say whether a signal is executable now and was not before: most open lower and are raised. */
function isNewP1({ t, d }) {
  const before = levels.get(d.key);
  if (t === "closed") levels.delete(d.key);
  else levels.set(d.key, d.level);
  if (t === "closed" || d.level !== "P1" || before === "P1") return false;
  return before !== undefined || t === "opened" || Date.parse(d.opened_at) > since;
}

/** Say that an executable signal is there, wherever the person is. */
function announce(signal) {
  const words = `P1: ${Number(signal.edge_bps).toFixed(0)} bps, ${signal.event_title || signal.kind}`;
  document.getElementById("announce").textContent = words;
  unseen += 1;
  const chip = document.getElementById("p1-new");
  chip.textContent = `▲ ${unseen} new P1`;
  chip.title = words;
  chip.hidden = false;
  if (document.hidden) document.title = `(${unseen}) ${title}`;
}

function seen() {
  if (!document.hidden) document.title = title;
}

/** Read a place in the feed as pages write it: EPOCH:SEQ. */
function placeOf(text) {
  const [epoch, seq] = (text ?? "").split(":");
  return epoch ? { epoch, seq: Number(seq) } : null;
}

let due = 0;

/** Let the figures agree with the list beside them; many changes at once are one request. */
function figuresSoon() {
  due ||= setTimeout(() => {
    due = 0;
    live.refresh();
  }, 500);
}

function follow(feed, stream) {
  feed.addEventListener("signal", ({ detail }) => {
    stream?.take(detail);
    if (isNewP1(detail)) announce(detail.d);
    if (detail.d.level === "P1" && document.getElementById("kpis")) figuresSoon();
    if (document.querySelector(`[data-signal="${CSS.escape(detail.d.key)}"]`)) live.refresh({ whole: true });
  });
  const again = () => (stream ? stream.reload() : live.refresh({ whole: true }));
  feed.addEventListener("gap", again);
  feed.addEventListener("poll", again);
  feed.addEventListener("logout", () => live.refresh()); // the login page takes over
  feed.addEventListener("state", ({ detail }) => {
    tellState(feed);
    stream?.tellState(detail.state);
  });
  setInterval(() => tellState(feed), 1000);
}

function begin() {
  clock.start();
  keys.start();
  live.start();
  const list = document.querySelector("[data-stream]");
  const stream = list ? new Stream(list) : null;
  stream?.start();
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const feed = new Feed(`${scheme}://${location.host}/ws/v1/feed`, placeOf(list?.dataset.after));
  follow(feed, stream);
  feed.start();
  document.addEventListener("visibilitychange", seen);
}

begin();
