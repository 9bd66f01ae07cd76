"use strict";
// The arrow that is pointed at, or has the focus, is told below its drawing and marked in the list.
for (const article of document.querySelectorAll("article")) {
  const said = article.querySelector(".said");
  if (!said) continue;
  const items = new Map();
  for (const item of article.querySelectorAll("li[data-step]")) items.set(item.dataset.step, item);
  const steps = new Map();
  for (const step of article.querySelectorAll("g.step")) steps.set(step.dataset.step, step);
  const mark = (which) => {
    for (const [number, step] of steps) step.classList.toggle("on", number === which);
    for (const [number, item] of items) item.classList.toggle("on", number === which);
    const step = steps.get(which);
    said.textContent = step ? step.getAttribute("aria-label") : said.dataset.empty;
  };
  for (const [number, element] of [...steps, ...items]) {
    element.addEventListener("pointerenter", () => mark(number));
    element.addEventListener("focus", () => mark(number));
    element.addEventListener("click", () => mark(number));
    element.addEventListener("pointerleave", () => {
      const focused = document.activeElement;
      mark(article.contains(focused) && focused.dataset.step || "");
    });
    element.addEventListener("blur", () => mark(""));
  }
}
