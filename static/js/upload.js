// A form with data-upload sends its files with a progress bar and can be cancelled. Without this script it is a plain form.
// The server answers like to any form: a redirect on success, the page again (with field errors) or problem+json on failure.
// In the form: [data-upload-progress] (hidden block) with <progress data-upload-bar>, [data-upload-text],
// [data-upload-cancel]; [data-upload-error] for the sentence and hint of a failure.
// With data-resumable="URL" (and resumable.js) a large file goes there first, in pieces: [data-upload-pause] pauses and resumes, a
// broken connection is tried again, [data-upload-waiting] (hidden block with [data-upload-waiting-list]) tells what a reload left. Then
// the form goes without that file, with the upload's address in its place.
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

  const RESUMABLE_FROM = 8e6; // bytes: below, a single request is as quick
  const FIELDS = { file: "upload", sample: "sample_upload", reference: "reference_upload" };
  const tokenOf = (form) => form.querySelector('[name="csrfmiddlewaretoken"]')?.value || "";

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

  // A push uses an upload once.
  const forgetUsed = (form, body) => {
    for (const name of Object.values(FIELDS)) if (body.get(name)) window.slipwayResumable?.forget(form.dataset.resumable, body.get(name));
  };

  const onLoad = (form, xhr, body) => {
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
    if (xhr.status === 410 || (xhr.status < 400 && xhr.responseURL !== sent)) forgetUsed(form, body);
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

  // --- Large files first, in pieces ---
  const percent = (sent, file) => `${Math.floor((100 * sent) / file.size)} %`;

  const showTransfer = (form, file, started, { state, sent, waitS, why }) => {
    const bar = part(form, "bar");
    if (bar) {
      bar.max = file.size;
      bar.value = sent;
      bar.classList.toggle("is-still", state !== "sending");
    }
    started.at ??= sent; // what had arrived earlier does not count as speed
    if (state === "sending") {
      if (started.still) Object.assign(started, { at: sent, time: performance.now(), still: false });
      const rate = (sent - started.at) / Math.max((performance.now() - started.time) / 1000, 0.1);
      const pace = rate > 0 ? ` · ${size(rate)}/s · ${left((file.size - sent) / rate)} left` : "";
      tell(form, `${file.name}: ${size(sent)} of ${size(file.size)}${pace}`);
      return;
    }
    started.still = true;
    if (state === "paused") tell(form, `Paused at ${percent(sent, file)} of ${file.name}. What arrived is kept for a day, also when you close this page.`);
    else tell(form, `${why || "The connection broke."} Trying again in ${left(waitS)}; ${percent(sent, file)} of ${file.name} is safe.`);
  };

  const transfer = (form, input) => {
    const file = input.files[0];
    const started = { time: performance.now() };
    const running = window.slipwayResumable.begin(file, {
      url: form.dataset.resumable,
      purpose: input.name,
      token: tokenOf(form),
      tell: (now) => showTransfer(form, file, started, now),
    });
    const pause = part(form, "pause");
    const cancel = part(form, "cancel");
    let paused = false;
    if (pause) {
      pause.hidden = false;
      pause.textContent = "Pause";
      pause.onclick = () => {
        paused = !paused;
        pause.textContent = paused ? "Resume" : "Pause";
        if (paused) running.pause();
        else running.resume();
      };
    }
    if (cancel) cancel.onclick = () => running.cancel();
    return running.done.finally(() => {
      if (pause) pause.hidden = true;
    });
  };

  const large = (form) =>
    form.dataset.resumable && window.slipwayResumable
      ? [...form.querySelectorAll('input[type="file"]')].filter((each) => FIELDS[each.name] && each.files.length === 1 && each.files[0].size >= RESUMABLE_FROM)
      : [];

  const send = async (form, submitter) => {
    const body = new FormData(form, submitter);
    const error = part(form, "error");
    if (error) error.hidden = true;
    const waits = part(form, "waiting");
    if (waits) waits.hidden = true;
    busy(form, true);
    tell(form, "Starting…");
    part(form, "progress")?.scrollIntoView({ block: "nearest" });
    try {
      for (const input of large(form)) {
        body.set(FIELDS[input.name], await transfer(form, input));
        body.delete(input.name);
      }
    } catch (trouble) {
      if (trouble.cancelled) fail(form, { message: "The upload was cancelled.", hint: "Nothing was kept." });
      else if (trouble.problem) fail(form, trouble.problem);
      else throw trouble;
      return;
    }
    post(form, body);
  };

  const post = (form, body) => {
    const xhr = new XMLHttpRequest();
    const started = performance.now();
    const cancel = part(form, "cancel");
    if (cancel) cancel.onclick = () => xhr.abort();
    xhr.upload.addEventListener("progress", onProgress(form, started));
    xhr.addEventListener("load", () => onLoad(form, xhr, body));
    xhr.addEventListener("abort", () => fail(form, { message: "The upload was cancelled.", hint: "Nothing was kept." }));
    xhr.addEventListener("error", () =>
      fail(form, { message: "The connection broke during the upload.", hint: "Nothing was kept. Check the connection and send it again." })
    );
    xhr.open("POST", form.action);
    xhr.setRequestHeader("Accept", "text/html,application/problem+json;q=0.9");
    xhr.setRequestHeader("X-Requested-With", "XMLHttpRequest");
    xhr.send(body);
  };

  // --- What an earlier visit left behind ---
  const showWaiting = async (form) => {
    const block = part(form, "waiting");
    const list = part(form, "waiting-list");
    if (!block || !window.slipwayResumable) return;
    const found = await window.slipwayResumable.waiting(form.dataset.resumable, tokenOf(form));
    list.replaceChildren(...found.map((each) => waitingLine(form, each)));
    block.hidden = found.length === 0;
  };

  const waitingLine = (form, each) => {
    const line = document.createElement("li");
    const text = document.createElement("span");
    text.textContent = `${each.name}: ${each.sent === each.size ? "all of" : `${percent(each.sent, each)} of`} ${size(each.size)} is here. `;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm";
    button.textContent = "Discard";
    button.setAttribute("aria-label", `Discard the upload of ${each.name}`);
    button.addEventListener("click", async () => {
      button.disabled = true;
      await window.slipwayResumable.discard(each, tokenOf(form));
      showWaiting(form);
    });
    line.append(text, button);
    return line;
  };
  for (const form of document.querySelectorAll("form[data-upload][data-resumable]")) showWaiting(form);

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
