// The page is whole without this; with it, the page fetches itself and takes over what changed.
"use strict";
(() => {
  const every = 2000, patience = 8000;
  const byId = (id, within = document) => within.getElementById(id);
  const focusable = "a[href], button, input, [tabindex]";
  let paused = false;

  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  button.textContent = "Pause updates";
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    if (!paused) update();
  });
  document.querySelector("header nav").before(button);

  // Whoever marks a UID to copy it, writes, or moves along a table, is not disturbed.
  const writes = () => document.activeElement?.localName === "input";
  const busy = () => paused || document.hidden || !document.getSelection().isCollapsed || writes();

  const called = (one) => one.getAttribute("aria-label") ?? one.getAttribute("href");

  function take(fresh) {
    const at = new Map();
    for (const one of document.querySelectorAll(".wide")) at.set(called(one), one.scrollLeft);
    const focused = document.activeElement?.closest("main") ? called(document.activeElement) : null;
    byId("main").replaceWith(byId("main", fresh));
    byId("said").replaceWith(byId("said", fresh));
    for (const one of document.querySelectorAll(".wide")) one.scrollLeft = at.get(called(one)) ?? 0;
    if (focused !== null) {
      const same = [...byId("main").querySelectorAll(focusable)].find((one) => called(one) === focused);
      same?.focus({preventScroll: true});
    }
    tell(byId("state", fresh).textContent, byId("state", fresh).className);
  }

  // Told to screen readers only when it changes.
  const page = document.title.slice(0, document.title.lastIndexOf(":"));
  function tell(text, kind) {
    const state = byId("state");
    if (state.textContent !== text) state.textContent = text;
    state.className = kind;
    document.title = page + ": " + text;
  }

  async function update() {
    if (!busy()) {
      try {
        const answer = await fetch(location.pathname + location.search, {signal: AbortSignal.timeout(patience)});
        if (answer.status >= 500) throw new Error(answer.status);
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (!busy()) take(fresh);
      } catch {
        tell("no answer", "state lost");
      }
    }
  }

  async function round() {
    await update();
    setTimeout(round, every);
  }
  setTimeout(round, every);
})();
