// Parts of a page that are fetched again from the server, which alone writes HTML.

import * as clock from "./clock.js";

const parser = new DOMParser();
const bar = document.querySelector(".bar");

/** Fetch a page of ours; null when it cannot be had. A page behind the login reloads. */
export async function fetched(address) {
  try {
    const answer = await fetch(address, { credentials: "same-origin", headers: { Accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === bar.dataset.loginUrl) {
      location.reload();
      return null;
    }
    if (!answer.ok) return null;
    return parser.parseFromString(await answer.text(), "text/html");
  } catch {
    return null; // the age in the top bar goes on growing and says so
  }
}

/** Say whether a person is busy with an element, so that it must not change now. */
export function held(element) {
  const selection = document.getSelection();
  return (
    element.matches(":hover") ||
    element.contains(document.activeElement) ||
    (selection && !selection.isCollapsed && element.contains(selection.anchorNode))
  );
}

function swap(element, fresh) {
  if (!fresh || element.innerHTML === fresh.innerHTML) return;
  const open = [...element.querySelectorAll("details")].map((details) => details.open);
  const parts = [...fresh.childNodes].map((node) => document.importNode(node, true));
  element.replaceChildren(...parts);
  element.querySelectorAll("details").forEach((details, number) => { details.open = Boolean(open[number]); });
}

function take(page) {
  const status = document.getElementById("status");
  const fresh = page.getElementById("status");
  if (status && fresh) {
    swap(status, fresh);
    clock.heard(document.getElementById("server-now").dataset.now);
  }
  for (const element of document.querySelectorAll("[data-live]")) {
    if (element.dataset.live === "held" && held(element)) continue;
    swap(element, page.getElementById(element.id));
  }
  clock.tick();
}

/** Pages whose figures move say so; the first page of the admin has live tiles. */
function wholePage() {
  return document.body.dataset.refresh === "page" || document.getElementById("tiles") !== null;
}

let under = null;

/** Bring badges and live parts up to date, one request at a time. */
export function refresh({ whole = wholePage() } = {}) {
  if (under) return under;
  const address = whole ? location.href : bar.dataset.statusUrl;
  under = fetched(address).then((page) => {
    under = null;
    if (page) take(page);
    return page;
  });
  return under;
}

export function start() {
  setInterval(() => document.hidden || refresh(), 5000);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
}
