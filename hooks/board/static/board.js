// Live panels. Without this file every page is complete and as new as its last loading.
//
// A panel is replaced whole when the server says that it changed, but never under somebody's hands:
// while the focus or a selection is in it, or a form in it was begun, the change waits.
"use strict";
(() => {
  const place = document.body.dataset.events;
  if (!place || !window.EventSource) return;
  const live = document.getElementById("live");
  const liveText = document.getElementById("live-text");
  const pause = document.getElementById("pause");
  const news = document.getElementById("news");
  const waiting = new Map();
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("farebox", { createHTML: (html) => html })
    : { createHTML: (html) => html };
  let source = null;
  let paused = false;
  let over = false;

  function show(state, said) {
    live.hidden = false;
    live.classList.toggle("off", state === "off");
    live.classList.toggle("still", state === "still");
    liveText.textContent = said;
  }

  function isBusy(panel) {
    if (panel.contains(document.activeElement)) return true;
    const selection = document.getSelection();
    if (selection && !selection.isCollapsed && panel.contains(selection.anchorNode)) return true;
    return [...panel.querySelectorAll("input:not([type=hidden]), select")].some((field) =>
      field.tagName === "SELECT"
        ? [...field.options].some((it) => it.selected !== (it.defaultSelected || it.index === 0))
        : field.value !== field.defaultValue
    );
  }

  function replace(panel, change) {
    const open = new Set();
    for (const it of panel.querySelectorAll("details[open][data-keep]")) open.add(it.dataset.keep);
    const before = panel.querySelector("[data-news]");
    panel.innerHTML = policy.createHTML(change.html);
    panel.dataset.version = change.version;
    for (const it of panel.querySelectorAll("details[data-keep]")) {
      if (open.has(it.dataset.keep)) it.open = true;
    }
    const after = panel.querySelector("[data-news]");
    if (before && after && before.dataset.news !== after.dataset.news) {
      news.textContent = after.dataset.news;
    }
  }

  function settle() {
    for (const [name, change] of waiting) {
      const panel = document.getElementById("panel-" + name);
      if (!panel || panel.dataset.version === change.version) {
        waiting.delete(name);
      } else if (!paused && !isBusy(panel)) {
        waiting.delete(name);
        replace(panel, change);
      }
    }
    if (over) return;
    if (paused) show("still", "paused");
    else if (waiting.size) show("still", "waits for you");
    else show("on", "live");
  }

  function listen() {
    if (source || over) return;
    source = new EventSource(place);
    source.addEventListener("open", settle);
    source.addEventListener("panel", (event) => {
      const change = JSON.parse(event.data);
      waiting.set(change.name, change);
      settle();
    });
    source.addEventListener("over", () => {
      over = true;
      stop();
      show("off", "ended: load the page again");
    });
    source.addEventListener("error", () => {
      if (over) return;
      show("off", source && source.readyState === EventSource.CLOSED ? "not live" : "connecting");
    });
  }

  function stop() {
    if (source) source.close();
    source = null;
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    settle();
  });
  document.addEventListener("focusout", () => setTimeout(settle, 0));
  // A browser has few connections to one server: a page that nobody sees needs none.
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : listen()));
  window.addEventListener("pagehide", stop);
  listen();
})();
