// What the pages of the desk do beyond their links and forms: countdowns, a quicker
// refresh, forms that are sent once and sign what is shown. No key approves anything.

import { now, span } from "./clock.js";
import { held, refresh } from "./live.js";

const LATE = 30; // seconds: from here on a deadline is marked as near

function put(element, text, state) {
  if (element.textContent !== text) element.textContent = text;
  if (element.dataset.state !== state) element.dataset.state = state;
}

function tellLeft(element) {
  const seconds = (Date.parse(element.dataset.until) - now()) / 1000;
  if (Number.isNaN(seconds)) return;
  if (seconds <= 0) put(element, "over", "stale");
  else put(element, span(seconds), seconds < LATE ? "late" : "ok");
}

function tellSince(element) {
  const age = Math.max(0, (now() - Date.parse(element.dataset.since)) / 1000);
  if (Number.isNaN(age)) return;
  const old = age * 1000 > Number(element.dataset.limitMs);
  put(element, `${age.toFixed(1)} s`, old ? "stale" : "ok");
}

function tick() {
  document.querySelectorAll("[data-until]").forEach(tellLeft);
  document.querySelectorAll("[data-since]").forEach(tellSince);
}

/** Let each form sign the plan that is on the page now, and be empty-handed without one. */
function sign() {
  for (const form of document.querySelectorAll("form[data-signs]")) {
    const shown = document.getElementById(form.dataset.signs);
    if (!shown || form.dataset.sent) continue;
    form.elements.plan.value = shown.dataset.hash;
    const button = form.querySelector(".primary");
    if (!button.dataset.barred) button.disabled = !shown.dataset.hash;
  }
}

function send(event) {
  const form = event.target;
  if (!form.matches("form[data-once]")) return;
  if (form.dataset.sent) return event.preventDefault();
  sign();
  form.dataset.sent = "yes";
}

/** Bring up to date what shows a plan, but never another plan: that one is only announced. */
function follow(page) {
  for (const shown of document.querySelectorAll("[data-plan]")) {
    const fresh = page.getElementById(shown.id);
    if (!fresh || !differs(shown, fresh)) continue;
    if (shown.dataset.plan === fresh.dataset.plan && !held(shown)) {
      shown.replaceWith(document.importNode(fresh, true));
    } else if (shown.dataset.version !== fresh.dataset.version) {
      announce(shown, fresh);
    }
  }
}

/** Forms have a new key each time; what counts of them is their version and their advice. */
function differs(shown, fresh) {
  if (!shown.dataset.version) return shown.innerHTML !== fresh.innerHTML;
  return shown.dataset.version !== fresh.dataset.version || shown.dataset.advice !== fresh.dataset.advice;
}

/** Say above the buttons that they are about something that is not so any more. */
function announce(shown, fresh) {
  const moved = shown.querySelector(".moved");
  if (!moved.hidden) return;
  const revised = shown.dataset.plan !== fresh.dataset.plan;
  const link = document.createElement("a");
  link.href = revised ? moved.dataset.sinceUrl : location.pathname;
  link.textContent = revised ? "See what is different" : "Show how it stands";
  moved.replaceChildren(
    revised ? "The plan was changed while you were looking. " : "Somebody decided meanwhile. ",
    link,
  );
  moved.hidden = false;
  shown.querySelectorAll("fieldset").forEach((fields) => { fields.disabled = true; });
}

async function look() {
  if (document.hidden) return;
  const page = await refresh({ whole: true });
  if (!page) return;
  follow(page);
  sign();
  tick();
}

function begin() {
  tick();
  setInterval(tick, 500);
  document.addEventListener("submit", send);
  // A page that comes back from the browser's memory may send again.
  window.addEventListener("pageshow", () => {
    document.querySelectorAll("form[data-sent]").forEach((form) => { delete form.dataset.sent; });
  });
  const pace = Number(document.body.dataset.pace);
  if (pace) setInterval(look, pace * 1000);
  sign();
}

begin();
