// The page is whole without this; with it, the page fetches itself and takes over what changed.
"use strict";
(() => {
  const every = 2000, patience = 8000;
  const byId = (id, within = document) => within.getElementById(id);
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
  document.querySelector("header").append(button);

  // Whoever marks a UID to copy it, or moves along a table, is not disturbed.
  const busy = () => paused || document.hidden || !document.getSelection().isCollapsed;

  function take(fresh) {
    const at = new Map();
    for (const one of document.querySelectorAll(".wide")) at.set(one.getAttribute("aria-label"), one.scrollLeft);
    const focused = document.activeElement?.getAttribute("aria-label");
    byId("main").replaceWith(byId("main", fresh));
    byId("said").replaceWith(byId("said", fresh));
    for (const one of document.querySelectorAll(".wide")) {
      const name = one.getAttribute("aria-label");
      one.scrollLeft = at.get(name) ?? 0;
      if (name === focused) one.focus({preventScroll: true});
    }
    tell(byId("state", fresh).textContent, byId("state", fresh).className);
  }

  // Told to screen readers only when it changes.
  function tell(text, kind) {
    const state = byId("state");
    if (state.textContent !== text) state.textContent = text;
    state.className = kind;
    document.title = "listener: " + text;
  }

  async function update() {
    if (!busy()) {
      try {
        const answer = await fetch(location.pathname, {signal: AbortSignal.timeout(patience), cache: "no-store"});
        if (!answer.ok) throw new Error(answer.status);
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
