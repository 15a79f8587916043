// Toasts: Django messages that came with the page, the "toast" event of an HX-Trigger header, and failed htmx requests.
// window.slipwayToast({level, message, hint, action: {label, url, method}}) is the one door for other scripts.
(() => {
  "use strict";
  const STAY_MS = 7000;

  const leave = (toast) => {
    toast.classList.add("is-leaving");
    setTimeout(() => toast.remove(), 200);
  };

  // An error stays until it is dismissed; anything else goes by itself, but not while it is read (hover or focus).
  const schedule = (toast) => {
    if (toast.matches(".toast-danger, .toast-warning")) return;
    const tick = () => {
      if (!toast.isConnected) return;
      if (toast.matches(":hover, :focus-within")) setTimeout(tick, 1500);
      else leave(toast);
    };
    setTimeout(tick, STAY_MS);
  };

  const act = async (toast, action) => {
    leave(toast);
    if ((action.method || "get").toLowerCase() === "get") window.location.assign(action.url);
    else window.htmx.ajax("POST", action.url, { swap: "none" });
  };

  const show = ({ level = "info", message, hint = "", action = null }) => {
    const toast = document.getElementById("toast-template").content.firstElementChild.cloneNode(true);
    toast.className = `toast-item toast-${level === "error" ? "danger" : level}`;
    toast.querySelector("[data-toast-message]").textContent = message;
    toast.querySelector("[data-toast-hint]").textContent = hint;
    const button = toast.querySelector("[data-toast-action]");
    if (action) {
      button.hidden = false;
      button.textContent = action.label;
      button.addEventListener("click", () => act(toast, action));
    }
    document.getElementById("toasts").append(toast);
    schedule(toast);
  };
  window.slipwayToast = show;

  // Toasts of a page that a script has fetched, shown by the next page that is opened.
  const KEPT = "slipway-toasts";
  window.slipwayKeepToasts = (page) => {
    const kept = [...page.querySelectorAll("#toasts [data-toast]")].map((toast) => ({
      level: toast.className.match(/toast-(success|info|warning|danger|debug)/)?.[1] || "info",
      message: toast.querySelector("[data-toast-message]").textContent,
      hint: toast.querySelector("[data-toast-hint]").textContent,
    }));
    try {
      if (kept.length) sessionStorage.setItem(KEPT, JSON.stringify(kept));
    } catch {
      // storage is blocked: the page itself shows the result
    }
  };
  const showKept = () => {
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEPT) || "[]");
      sessionStorage.removeItem(KEPT);
      kept.forEach(show);
    } catch {
      // storage is blocked
    }
  };

  // A problem+json body, or the best sentence we have for the status.
  const ofResponse = (xhr) => {
    const id = xhr.getResponseHeader("X-Request-Id");
    const known = { 401: "You are signed out.", 403: "You may not do this.", 404: "This is not there any more.", 429: "Too many requests." };
    const hints = { 401: "Reload the page and sign in.", 429: "Wait a moment, then try again." };
    try {
      const body = JSON.parse(xhr.responseText);
      if (body.detail) return { level: "danger", message: body.detail, hint: body.hint || "" };
    } catch {
      // not JSON: use the status
    }
    return {
      level: "danger",
      message: known[xhr.status] || "That did not work.",
      hint: hints[xhr.status] || (id ? `Try again; if it stays, give request id ${id} to your administrator.` : "Try again."),
    };
  };
  window.slipwayProblem = ofResponse;

  const start = () => {
    document.querySelectorAll("#toasts [data-toast]").forEach(schedule);
    showKept();
    document.body.addEventListener("toast", (event) => show(event.detail));
    document.body.addEventListener("htmx:responseError", (event) => {
      const xhr = event.detail.xhr;
      const told = (xhr.getResponseHeader("HX-Trigger") || "").includes('"toast"');
      const polled = event.detail.elt.hasAttribute("data-poll");
      if (!told && !polled) show(ofResponse(xhr));
    });
    document.body.addEventListener("htmx:sendError", (event) => {
      if (event.detail.elt.hasAttribute("data-poll")) return;
      show({ level: "danger", message: "The server could not be reached.", hint: "Check the connection, then try again." });
    });
    document.addEventListener("click", (event) => {
      const toast = event.target.closest("[data-toast-close]")?.closest("[data-toast]");
      if (toast) leave(toast);
    });
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
