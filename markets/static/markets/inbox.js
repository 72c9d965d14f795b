// Keys of the screens where relations and groups are decided. They move; none decides.
"use strict";

(() => {
  const form = () => document.querySelector("[data-decide-form]");

  function typing(target) {
    return target.closest("input:not([type=checkbox]), textarea, select") !== null;
  }

  function focus(place) {
    form()?.querySelector(place)?.focus();
  }

  const KEYS = {
    t: () => focus("input[type=checkbox]:not(:checked)"),
    r: () => focus("input[name=reason]"),
    y: () => focus(".decide-acts button"),
    x: () => focus(".decide-acts button + button"),
  };

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const link = document.querySelector(`[data-decide] a[data-key="${CSS.escape(event.key)}"]`);
    const act = KEYS[event.key];
    if (!link && !act) return;
    event.preventDefault();
    if (link) link.click();
    else act();
  }

  // Enter in a text field presses nothing: a decision is a button that has the focus.
  function held(event) {
    if (event.key === "Enter" && event.target.matches("[data-decide-form] input")) event.preventDefault();
  }

  document.addEventListener("keydown", pressed);
  document.addEventListener("keydown", held);
})();
