// Small behaviours of the kit: copy buttons, tab sets, menus, dialogs, the side menu. All by delegation, so parts
// that htmx brings in later work without being set up.
(() => {
  "use strict";

  // --- Copy: data-copy="text", data-copy-from="#id", data-copy-visible (the open pane of the tab set) ---
  const copySource = (button) => {
    if (button.dataset.copy !== undefined) return button.dataset.copy;
    if (button.dataset.copyFrom) {
      const from = document.querySelector(button.dataset.copyFrom);
      return from ? (from.value ?? from.textContent) : "";
    }
    const pane = button.closest("[data-tabset]")?.querySelector('[role="tabpanel"]:not([hidden]) code');
    return pane ? pane.textContent : "";
  };

  const copyText = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea"); // plain http on another host has no clipboard API
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("copy refused");
    return undefined;
  };

  const onCopy = async (button) => {
    try {
      await copyText(copySource(button));
      button.classList.add("is-copied");
      announce("Copied");
      setTimeout(() => button.classList.remove("is-copied"), 1600);
    } catch {
      window.slipwayToast?.({ level: "danger", message: "The browser did not allow copying.", hint: "Select the text and copy it by hand." });
    }
  };

  let live;
  const announce = (text) => {
    if (!live) {
      live = document.createElement("div");
      live.className = "visually-hidden";
      live.setAttribute("aria-live", "polite");
      document.body.append(live);
    }
    live.textContent = "";
    requestAnimationFrame(() => (live.textContent = text));
  };

  // --- Tab sets: data-tabset with role=tab buttons; the choice is remembered for the next snippet ---
  const selectTab = (tab, focus) => {
    const set = tab.closest("[data-tabset]");
    for (const each of set.querySelectorAll('[role="tab"]')) {
      const on = each === tab;
      each.setAttribute("aria-selected", String(on));
      each.tabIndex = on ? 0 : -1;
      const panel = document.getElementById(each.getAttribute("aria-controls"));
      if (panel) panel.hidden = !on;
    }
    if (focus) tab.focus();
  };

  const remembered = () => {
    try {
      return localStorage.getItem("slipway-snippet");
    } catch {
      return null;
    }
  };

  const prepareTabs = (root) => {
    const sets = [...root.querySelectorAll("[data-tabset]")];
    if (root.matches?.("[data-tabset]")) sets.push(root);
    for (const set of sets) {
      const all = [...set.querySelectorAll('[role="tab"]')];
      const first = all.find((tab) => tab.textContent.trim() === remembered()) || all[0];
      if (first) selectTab(first, false);
    }
  };

  const onTabKey = (event) => {
    const tab = event.target.closest?.('[data-tabset] [role="tab"]');
    if (!tab || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const all = [...tab.closest('[role="tablist"]').querySelectorAll('[role="tab"]')];
    const at = all.indexOf(tab);
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
    selectTab(all[(next + all.length) % all.length], true);
  };

  // --- Menus: <details data-menu>; Escape and a click outside close them ---
  const closeMenus = (except) => {
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      if (menu !== except) menu.open = false;
    }
  };

  // --- Clicks ---
  document.addEventListener("click", (event) => {
    const target = event.target;
    const copy = target.closest("[data-copy], [data-copy-from], [data-copy-visible]");
    if (copy) onCopy(copy);
    const tab = target.closest('[data-tabset] [role="tab"]');
    if (tab) {
      selectTab(tab, false);
      try {
        localStorage.setItem("slipway-snippet", tab.textContent.trim());
      } catch {
        // not remembered: nothing is lost
      }
    }
    closeMenus(target.closest("details[data-menu]"));
    const opener = target.closest("[data-dialog-open]");
    if (opener) document.getElementById(opener.dataset.dialogOpen)?.showModal();
    if (target.closest("[data-dialog-close]") || target.matches("dialog.dialog")) target.closest("dialog")?.close();
    const toggle = target.closest("[data-sidebar-toggle]");
    if (toggle) {
      const open = toggle.closest("[data-sidebar]").classList.toggle("is-open");
      toggle.setAttribute("aria-expanded", String(open));
    }
    if (target.closest("[data-back]")) history.back();
  });

  document.addEventListener("keydown", (event) => {
    onTabKey(event);
    if (event.key !== "Escape") return;
    const open = document.activeElement?.closest("details[data-menu][open]");
    closeMenus();
    open?.querySelector("summary").focus();
  });

  // --- data-submit-once: a slow form is sent once; data-autosubmit: a filter that acts on change ---
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-submit-once]")) return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
    form.querySelector('[type="submit"]')?.setAttribute("aria-disabled", "true");
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-autosubmit]")) event.target.form?.requestSubmit();
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      form.querySelector('[type="submit"]')?.removeAttribute("aria-disabled");
    }
  });

  // The zone of this browser's clock, for mails that come at a local time (accounts/time_zones.py keeps it once).
  const tellTimeZone = () => {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (zone && !document.cookie.includes("time_zone=")) {
      document.cookie = `time_zone=${zone}; path=/; SameSite=Lax; Max-Age=31536000${location.protocol === "https:" ? "; Secure" : ""}`;
    }
  };

  const start = () => {
    tellTimeZone();
    prepareTabs(document);
    // A page that answers a POST and is shown once: loading it again goes there instead of sending the form a second time.
    const once = document.querySelector("[data-reload-as]");
    if (once) history.replaceState(null, "", once.dataset.reloadAs);
    for (const button of document.querySelectorAll("[data-back]")) button.hidden = history.length < 2;
    document.body.addEventListener("htmx:load", (event) => prepareTabs(event.detail.elt));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
