// The text of a rule: where the caret is, and from a problem to its place. Works without.

"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const text = document.querySelector('textarea[name="text"]');
  if (!text) return;

  const told = document.querySelector(".rule-caret");
  const tell = () => {
    if (!told || document.activeElement !== text) return;
    const before = text.value.slice(0, text.selectionStart);
    const line = before.split("\n").length;
    const column = [...before.slice(before.lastIndexOf("\n") + 1)].length + 1;
    told.textContent = `line ${line}, column ${column}`;
  };
  for (const event of ["keyup", "click", "focus", "input"]) text.addEventListener(event, tell);

  const goTo = (line, column) => {
    const lines = text.value.split("\n");
    const at = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0) + column - 1;
    text.focus();
    text.setSelectionRange(at, at + 1);
    text.scrollTop = Math.max(0, (line - 6) * parseFloat(getComputedStyle(text).lineHeight));
    tell();
  };
  for (const place of document.querySelectorAll(".rule-place")) {
    place.setAttribute("role", "button");
    place.tabIndex = 0;
    const go = () => goTo(Number(place.dataset.line), Number(place.dataset.column));
    place.addEventListener("click", go);
    place.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); go(); }
    });
  }
});
