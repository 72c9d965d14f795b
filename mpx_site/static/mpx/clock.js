// Times and ages that stay true while the page is open.

const FRESH_SECONDS = 10;
const LATE_SECONDS = 30;
const ICONS = { ok: "●", late: "◐", stale: "■", none: "□" };

let ahead = 0; // how far the server's clock is ahead of this one, ms

export function now() {
  return Date.now() + ahead;
}

/** Learn the server's time from what it just told. */
export function heard(iso) {
  const told = Date.parse(iso);
  if (!Number.isNaN(told)) ahead = told - Date.now();
}

export function span(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function rough(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.round(seconds)} s`;
}

function local() {
  let chosen = null;
  try {
    chosen = localStorage.getItem("mpx.zone");
  } catch { /* storage is off: as it is set */ }
  return (chosen ?? document.documentElement.dataset.zone) === "local";
}

function written(date, { utc, seconds }) {
  const at = utc ? date : new Date(date.getTime() - date.getTimezoneOffset() * 60000);
  const text = at.toISOString().replace("T", " ").slice(0, seconds ? 19 : 16);
  return utc ? `${text} UTC` : text;
}

function tellTime(element) {
  const date = new Date(element.dateTime);
  if (Number.isNaN(date.getTime())) return;
  const show = element.dataset.show;
  const age = Math.max(0, (now() - date.getTime()) / 1000);
  const text =
    show === "ago"
      ? `${rough(age)} ago`
      : written(date, { utc: !local(), seconds: show === "clock" });
  if (element.textContent !== text) element.textContent = text;
  if (!element.dataset.both) {
    const zones = [true, false].map((utc) => written(date, { utc, seconds: true }));
    element.title = `${zones[0]} = ${zones[1]} here`;
    element.dataset.both = "yes";
  }
}

function tellAge(element) {
  if (!element.dataset.at) return;
  const age = Math.max(0, (now() - Date.parse(element.dataset.at)) / 1000);
  const state = age < FRESH_SECONDS ? "ok" : age < LATE_SECONDS ? "late" : "stale";
  element.dataset.state = state;
  element.querySelector(".age-icon").textContent = ICONS[state];
  const word = age < 1 ? "0 s" : span(age);
  element.querySelector(".age-word").textContent = state === "stale" ? `STALE ${word}` : word;
}

export function tick() {
  document.querySelectorAll("time[data-show]").forEach(tellTime);
  document.querySelectorAll(".age").forEach(tellAge);
}

function showZone() {
  const name = local() ? "Local" : "UTC";
  document.querySelectorAll(".zone-name").forEach((label) => { label.textContent = name; });
  tick();
}

export function start() {
  const told = document.getElementById("server-now");
  if (told) heard(told.dataset.now);
  for (const button of document.querySelectorAll(".zone-toggle")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      try {
        localStorage.setItem("mpx.zone", local() ? "utc" : "local");
      } catch { /* storage is off: stays UTC */ }
      showZone();
    });
  }
  showZone();
  setInterval(tick, 1000);
}
