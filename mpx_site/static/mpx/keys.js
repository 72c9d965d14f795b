// The keyboard. No key approves, orders or refuses anything; `a` and `s` say who looks after a signal.

const GO = {
  h: "/", s: "/signals/", m: "/markets/",
  a: "/approvals/", o: "/intents/", p: "/positions/", r: "/risk/", u: "/rules/", c: "/opportunities/",
};
let going = 0; // until when a `g` waits for its second key

function typing(target) {
  return target.closest("input, textarea, select, [contenteditable]") !== null;
}

function move(step) {
  const links = [...document.querySelectorAll("main .row .row-link")];
  if (!links.length) return;
  const at = links.findIndex((link) => link.closest(".row").contains(document.activeElement));
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step;
  links[Math.min(Math.max(next, 0), links.length - 1)].focus();
}

function press(name) {
  document.querySelector(name)?.click();
}

/** Take a step with a signal: on its page by the button, in the list for the row in focus. */
function step(act) {
  const form = document.getElementById("steps");
  if (!form) return;
  if (document.querySelector(".stream-rows")) form.dispatchEvent(new CustomEvent("mpx:step", { detail: { act } }));
  else form.querySelector(`button[value="${act}"]`)?.click();
}

/** Tick or untick the row in focus. */
function tick() {
  document.activeElement?.closest?.(".row")?.querySelector(".tick input")?.click();
}

const KEYS = {
  "?": () => document.getElementById("help")?.showModal(),
  "/": () => document.querySelector("#searchbar, main input[type=search], main select, .segments a")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  p: () => press(".pause:not([hidden])"),
  n: () => press(".new-rows:not([hidden])"),
  a: () => step("ACK"),
  s: () => step("SNOOZE"),
  x: tick,
  g: () => { going = Date.now() + 1500; },
};

/** Go to, or focus, what a page has put a key on; a link is followed, a control only focused. */
function reach(key) {
  const target = document.querySelector(`main [data-key-for="${CSS.escape(key)}"]`);
  if (target instanceof HTMLAnchorElement) target.click();
  else target?.focus();
  return target !== null;
}

/** Close an open menu and go back to what opened it. */
function closeMenu() {
  const menu = document.querySelector("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
}

function pressed(event) {
  if (event.key === "Escape") closeMenu();
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  const destination = Date.now() < going ? GO[event.key] : null;
  going = 0;
  if (destination) return location.assign(destination);
  const act = KEYS[event.key];
  if (!act && reach(event.key)) event.preventDefault();
  if (!act) return;
  event.preventDefault();
  act();
}

export function start() {
  document.addEventListener("keydown", pressed);
  for (const button of document.querySelectorAll(".help-open")) {
    button.hidden = false;
    button.addEventListener("click", KEYS["?"]);
  }
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
}
