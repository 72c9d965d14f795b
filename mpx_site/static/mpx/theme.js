// The theme before the first paint: what this browser chose with the button in the bar, or else
// what its person has set (the server writes it into the page), or else the system's.
"use strict";
(() => {
  const NAMES = ["auto", "light", "dark"];
  const root = document.documentElement;

  const set = root.dataset.theme;

  function chosen() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is off: a choice lives as long as the page
    }
  }

  function kept() {
    return [chosen(), set].find((name) => NAMES.includes(name)) ?? "auto";
  }

  /** Let what was just set on the settings page count in this browser too. */
  function forget() {
    try {
      for (const key of ["theme", "mpx.zone"]) localStorage.removeItem(key);
    } catch { /* there was nothing to forget */ }
    show(kept());
  }

  function show(name) {
    root.dataset.theme = name;
    for (const label of document.querySelectorAll(".theme-name")) {
      label.textContent = name[0].toUpperCase() + name.slice(1);
    }
  }

  function next() {
    const name = NAMES[(NAMES.indexOf(root.dataset.theme) + 1) % NAMES.length];
    try {
      localStorage.setItem("theme", name);
    } catch { /* see above */ }
    show(name);
  }

  show(kept());
  // The page is read and no other script has run: they find what is kept as it shall be.
  document.addEventListener("readystatechange", () => {
    if (document.querySelector("[data-looks-saved]")) forget();
    show(root.dataset.theme);
    for (const button of document.querySelectorAll(".theme-toggle")) {
      button.addEventListener("click", next);
    }
  }, { once: true });
})();
