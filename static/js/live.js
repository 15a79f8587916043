// Live parts: an element with data-poll="3" gets a "poll" event every 3 s (htmx fetches it: hx-trigger="poll"), but only
// while the page is visible and no earlier answer is under way. An answer without data-poll ends it. Open <details>,
// and logs that follow their end (data-follow), keep their state across a swap.
(() => {
  "use strict";
  const last = new WeakMap();
  const busy = new WeakSet();
  const failures = new WeakMap();

  const due = (element, now) => {
    const wait = Number(element.dataset.poll) * 1000 * Math.min(2 ** (failures.get(element) || 0), 20);
    if (!last.has(element)) last.set(element, now);
    return now - last.get(element) >= wait;
  };

  const tick = () => {
    if (document.hidden || !window.htmx) return;
    const now = performance.now();
    for (const element of document.querySelectorAll("[data-poll]")) {
      if (busy.has(element) || !due(element, now)) continue;
      last.set(element, now);
      window.htmx.trigger(element, "poll");
    }
  };

  const follow = (root) => {
    for (const log of root.querySelectorAll("[data-follow]")) log.scrollTop = log.scrollHeight;
  };

  const open = new Set();
  const scrolled = new Map();
  const remember = (root) => {
    for (const details of root.querySelectorAll("details[id]")) open[details.open ? "add" : "delete"](details.id);
    for (const log of root.querySelectorAll("[data-follow][id]")) {
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      scrolled.set(log.id, atEnd ? null : log.scrollTop);
    }
  };
  const restore = (root) => {
    for (const details of root.querySelectorAll("details[id]")) if (open.has(details.id)) details.open = true;
    for (const log of root.querySelectorAll("[data-follow]")) log.scrollTop = scrolled.get(log.id) ?? log.scrollHeight;
  };

  const start = () => {
    setInterval(tick, 250);
    follow(document);
    const body = document.body;
    body.addEventListener("htmx:beforeRequest", (event) => busy.add(event.detail.elt));
    body.addEventListener("htmx:afterRequest", (event) => {
      const element = event.detail.elt;
      busy.delete(element);
      failures.set(element, event.detail.successful ? 0 : (failures.get(element) || 0) + 1);
    });
    body.addEventListener("htmx:beforeSwap", (event) => remember(event.detail.target));
    body.addEventListener("htmx:load", (event) => restore(event.detail.elt.parentElement || document.body));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
