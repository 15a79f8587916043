// A form with data-upload sends its files with a progress bar and can be cancelled. Without this script it is a plain form.
// The server answers like to any form: a redirect on success, the page again (with field errors) or problem+json on failure.
// In the form: [data-upload-progress] (hidden block) with <progress data-upload-bar>, [data-upload-text],
// [data-upload-cancel]; [data-upload-error] for the sentence and hint of a failure.
(() => {
  "use strict";
  const UNITS = ["B", "kB", "MB", "GB", "TB"];
  const size = (bytes) => {
    let unit = 0;
    for (; bytes >= 1000 && unit < UNITS.length - 1; unit += 1) bytes /= 1000;
    return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[unit]}`;
  };
  const left = (seconds) => (seconds < 60 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`);
  const part = (form, name) => form.querySelector(`[data-upload-${name}]`);

  const tell = (form, text) => {
    const line = part(form, "text");
    if (line) line.textContent = text;
  };

  const busy = (form, on) => {
    const block = part(form, "progress");
    if (block) block.hidden = !on;
    for (const button of form.querySelectorAll('[type="submit"]')) button.disabled = on;
    form.setAttribute("aria-busy", String(on));
  };

  const fail = (form, { message, hint }) => {
    busy(form, false);
    const box = part(form, "error");
    if (!box) {
      window.slipwayToast({ level: "danger", message, hint });
      return;
    }
    box.replaceChildren();
    for (const [text, css] of [[message, "callout-title"], [hint, ""]]) {
      if (!text) continue;
      const line = document.createElement("p");
      line.className = css;
      line.textContent = text;
      box.append(line);
    }
    box.className = "callout callout-danger callout-plain";
    box.setAttribute("role", "alert");
    box.hidden = false;
    box.scrollIntoView({ block: "nearest" });
  };

  const onProgress = (form, started) => (event) => {
    const bar = part(form, "bar");
    if (!event.lengthComputable) return;
    if (bar) {
      bar.max = event.total;
      bar.value = event.loaded;
    }
    const passed = (performance.now() - started) / 1000;
    const rate = event.loaded / Math.max(passed, 0.1);
    if (event.loaded === event.total) tell(form, "Sent. The server is storing and hashing it…");
    else tell(form, `${size(event.loaded)} of ${size(event.total)} · ${size(rate)}/s · ${left((event.total - event.loaded) / rate)} left`);
  };

  // The server's copy of a refused form has no files; the person chose them already and shall not choose them again.
  const keepFiles = (from, to) => {
    for (const old of from.querySelectorAll('input[type="file"]')) {
      const input = to.querySelector(`input[type="file"][name="${old.name}"]`);
      if (!input || !old.files.length || input.getAttribute("aria-invalid") === "true") continue;
      input.files = old.files;
      named(input);
    }
  };

  const onLoad = (form, xhr) => {
    const type = xhr.getResponseHeader("Content-Type") || "";
    if (xhr.status >= 400 && !type.startsWith("text/html")) {
      fail(form, window.slipwayProblem(xhr));
      return;
    }
    if (type.startsWith("application/json")) {
      const url = JSON.parse(xhr.responseText).url;
      if (url) window.location.assign(url);
      return;
    }
    const sent = new URL(form.action, window.location.href).href;
    const page = new DOMParser().parseFromString(xhr.responseText, "text/html");
    const fresh = page.getElementById(form.id) || page.querySelector("form[data-upload]");
    const refused = fresh?.querySelector(".field-error, .callout-danger");
    if (xhr.status < 400 && (xhr.responseURL !== sent || !refused)) {
      window.slipwayKeepToasts(page); // the redirect was followed here, so the page's messages are shown only once: now
      window.location.assign(xhr.responseURL || sent);
      return;
    }
    if (refused) {
      busy(form, false);
      form.replaceWith(document.adoptNode(fresh)); // the same form with its field errors
      keepFiles(form, fresh);
      fresh.querySelector('[aria-invalid="true"]')?.focus();
      return;
    }
    const detail = page.querySelector(".error-detail")?.textContent.trim();
    fail(form, { message: detail || "The upload did not work.", hint: page.querySelector(".error-detail + p")?.textContent.trim() || "" });
  };

  const send = (form, submitter) => {
    const xhr = new XMLHttpRequest();
    const started = performance.now();
    const error = part(form, "error");
    if (error) error.hidden = true;
    busy(form, true);
    tell(form, "Starting…");
    const block = part(form, "progress");
    const cancel = part(form, "cancel");
    if (cancel) cancel.onclick = () => xhr.abort();
    xhr.upload.addEventListener("progress", onProgress(form, started));
    xhr.addEventListener("load", () => onLoad(form, xhr));
    xhr.addEventListener("abort", () => fail(form, { message: "The upload was cancelled.", hint: "Nothing was kept." }));
    xhr.addEventListener("error", () =>
      fail(form, { message: "The connection broke during the upload.", hint: "Nothing was kept. Check the connection and send it again." })
    );
    xhr.open("POST", form.action);
    xhr.setRequestHeader("Accept", "text/html,application/problem+json;q=0.9");
    xhr.setRequestHeader("X-Requested-With", "XMLHttpRequest");
    xhr.send(new FormData(form, submitter));
    block?.scrollIntoView({ block: "nearest" });
  };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-upload]") || event.defaultPrevented) return;
    event.preventDefault();
    send(form, event.submitter);
  });

  // --- Drop zones: <label data-drop> around a file input; the names of the chosen files stand in [data-drop-name] ---
  const named = (input) => {
    const zone = input.closest("[data-drop]");
    const name = zone?.querySelector("[data-drop-name]");
    if (!name) return;
    name.dataset.empty ??= name.textContent;
    name.textContent = input.files.length ? [...input.files].map((file) => `${file.name} (${size(file.size)})`).join(", ") : name.dataset.empty;
    zone.classList.toggle("has-file", input.files.length > 0);
  };
  // [data-name-from="file"]: a text field that, while nobody has typed in it, takes its value from the file of that name: "My model.pkl" -> "my-model".
  const suggest = (file) => {
    const field = file.form?.querySelector(`[data-name-from="${file.name}"]`);
    if (!field || !file.files.length || (field.value && field.value !== field.dataset.suggested)) return;
    const stem = file.files[0].name.replace(/\.[^.]*$/, "").toLowerCase();
    field.value = field.dataset.suggested = stem.replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  };
  document.addEventListener("change", (event) => {
    if (!event.target.matches('[data-drop] input[type="file"]')) return;
    named(event.target);
    suggest(event.target);
  });
  for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    document.addEventListener(name, (event) => {
      const zone = event.target.closest?.("[data-drop]");
      if (!zone) return;
      event.preventDefault();
      zone.classList.toggle("is-over", over);
      if (name !== "drop" || !event.dataTransfer.files.length) return;
      const input = zone.querySelector('input[type="file"]');
      input.files = event.dataTransfer.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }
})();
