// The theme before the first paint: auto, light or dark, kept in this browser.
"use strict";
(() => {
  const NAMES = ["auto", "light", "dark"];
  const root = document.documentElement;

  function kept() {
    try {
      const name = localStorage.getItem("theme");
      return NAMES.includes(name) ? name : "auto";
    } catch {
      return "auto"; // storage is off: the choice lives as long as the page
    }
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
  document.addEventListener("DOMContentLoaded", () => {
    show(root.dataset.theme);
    for (const button of document.querySelectorAll(".theme-toggle")) {
      button.addEventListener("click", next);
    }
  });
})();
