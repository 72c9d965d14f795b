// The list of signals as a place to work: ticks that outlive a row's renewal, and steps by key
// without leaving the place. All of it works without script too, by the form itself.

import * as clock from "./clock.js";

const form = document.getElementById("steps");
const list = document.querySelector(".stream-rows");
const said = form?.querySelector(".steps-said");
const parser = new DOMParser();
const ticked = new Set(); // keys

function boxes() {
  return [...list.querySelectorAll(".tick input")];
}

function tellTicked() {
  const count = ticked.size;
  form.querySelector(".chosen").textContent = count ? `${count} ticked:` : "Tick rows, then:";
}

/** Tick again what was ticked before its row came anew; forget rows that have left the page. */
function renew() {
  const here = new Set(boxes().map((box) => box.value));
  ticked.forEach((key) => here.has(key) || ticked.delete(key));
  boxes().forEach((box) => { box.checked = ticked.has(box.value); });
  tellTicked();
}

function tell(page) {
  const notes = [...page.querySelectorAll("main > .note")];
  said.textContent = notes.map((note) => note.textContent).join(" ");
  said.dataset.state = notes.some((note) => note.dataset.state === "stale") ? "stale" : "";
}

/** Put the rows of an answer over those that were meant; the focus stays on its row. */
function swap(page, keys) {
  for (const key of keys) {
    const old = document.getElementById(`signal-${key}`);
    const fresh = page.getElementById(`signal-${key}`);
    if (!old || !fresh) continue;
    const focused = old.contains(document.activeElement);
    const row = document.importNode(fresh, true);
    old.replaceWith(row);
    if (focused) row.querySelector(".row-link")?.focus({ preventScroll: true });
  }
  clock.tick();
}

/** Take a step with the row in focus, else with the ticked rows. */
async function step({ detail }) {
  const row = document.activeElement?.closest?.(".signal-row");
  const keys = row ? [row.dataset.key] : [...ticked];
  const body = new FormData(form);
  body.delete("key");
  body.set("act", detail.act);
  keys.forEach((key) => body.append("key", key));
  try {
    const answer = await fetch(form.action, { method: "POST", body, credentials: "same-origin" });
    const page = parser.parseFromString(await answer.text(), "text/html");
    if (!answer.ok || !page.querySelector(".stream-rows")) return location.reload();
    swap(page, keys);
    tell(page);
  } catch {
    said.textContent = "Nothing was done: the desk does not answer.";
    said.dataset.state = "stale";
  }
}

function start() {
  list.addEventListener("change", ({ target }) => {
    if (!target.matches(".tick input")) return;
    if (target.checked) ticked.add(target.value);
    else ticked.delete(target.value);
    tellTicked();
  });
  new MutationObserver(renew).observe(list, { childList: true });
  form.addEventListener("mpx:step", step);
  const all = form.querySelector(".tick-all");
  all.hidden = false;
  all.addEventListener("click", () => {
    const some = boxes().some((box) => !box.checked);
    boxes().forEach((box) => (some ? ticked.add(box.value) : ticked.delete(box.value)));
    renew();
  });
  boxes().filter((box) => box.checked).forEach((box) => ticked.add(box.value));
  tellTicked();
}

if (form && list) start();
