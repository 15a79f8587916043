// Try it: a <form data-tryit data-url="…"> made from the schema. Its inputs carry name=column and data-type; the answer goes to
// [data-tryit-result]. A <textarea data-tryit-json> instead of fields sends its text as the whole body. Docs: docs/ui.md.
(() => {
  "use strict";

  const valueOf = (input) => {
    const type = input.dataset.type || "string";
    if (type === "boolean") {
      if (input.type === "checkbox") return input.checked;
      return input.value === "" ? null : input.value === "true";
    }
    if (input.value === "") return null;
    if (type === "double" || type === "long") return Number(input.value);
    return input.value;
  };

  const bodyOf = (form) => {
    const raw = form.querySelector("[data-tryit-json]");
    if (raw) return raw.value;
    const row = {};
    for (const input of form.querySelectorAll("[data-type]")) row[input.name] = valueOf(input);
    return JSON.stringify({ inputs: [row] });
  };

  const make = (tag, css, text) => {
    const element = document.createElement(tag);
    if (css) element.className = css;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const round = (number) => (typeof number === "number" ? Number(number.toPrecision(6)) : number);
  const percent = (share) => `${(share * 100).toFixed(share > 0.0995 || share === 0 ? 0 : 1)} %`;
  const ms = (value) => (value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`);

  const bars = (classes, shares) => {
    const list = make("ul", "probs");
    const ranked = shares.map((share, index) => [classes?.[index] ?? `class ${index}`, share]).sort((a, b) => b[1] - a[1]).slice(0, 10);
    for (const [name, share] of ranked) {
      const item = make("li", "prob");
      const meter = make("progress", "bar");
      meter.max = 1;
      meter.value = share;
      meter.setAttribute("aria-label", `Probability of ${name}`);
      item.append(make("span", "prob-name", String(name)), meter, make("span", "prob-share", percent(share)));
      list.append(item);
    }
    return list;
  };

  const times = (timings) => {
    if (!timings) return "";
    const total = timings.total ?? timings.predict;
    const load = timings.load ? ` (cold load ${ms(timings.load)})` : "";
    return total === undefined ? "" : ms(total) + load;
  };

  const showAnswer = (target, answer) => {
    const first = answer.predictions?.[0];
    const head = make("div", "answer-head");
    head.append(make("span", "answer-label", "Prediction"));
    head.append(make("strong", "answer-value", typeof first === "object" ? JSON.stringify(first) : String(round(first))));
    target.append(head);
    if (answer.predictions?.length > 1) target.append(make("p", "answer-note", `and ${answer.predictions.length - 1} more rows below`));
    if (answer.probabilities?.[0]) target.append(bars(answer.classes, answer.probabilities[0]));
    const parts = [times(answer.timings_ms)];
    if (answer.model) parts.push(`${answer.model.name} v${answer.model.version}`);
    if (answer.prediction_ids?.[0]) parts.push(`id ${answer.prediction_ids[0]}`);
    target.append(make("p", "answer-note", parts.filter(Boolean).join(" · ")));
    const details = make("details", "hist-numbers");
    details.append(make("summary", "", "Full answer"));
    const code = make("pre", "log", JSON.stringify(answer, null, 2));
    code.tabIndex = 0;
    details.append(code);
    target.append(details);
  };

  const lines = (errors) => {
    if (Array.isArray(errors)) return errors.map((each) => [each.column, each.message || String(each)]);
    return Object.entries(errors || {}).flatMap(([column, messages]) => [].concat(messages).map((message) => [column, message]));
  };

  const showProblem = (form, target, problem) => {
    const box = make("div", "callout callout-danger callout-plain");
    box.setAttribute("role", "alert");
    box.append(make("p", "callout-title", problem.detail || "That did not work."));
    if (problem.hint) box.append(make("p", "", problem.hint));
    for (const [column, message] of lines(problem.errors)) {
      const input = column && form.querySelector(`[data-type][name="${CSS.escape(column)}"]`);
      input?.classList.add("is-invalid");
      input?.setAttribute("aria-invalid", "true");
      box.append(make("p", "", column ? `${column}: ${message}` : message));
    }
    if (problem.request_id) box.append(make("p", "answer-note", `Request id ${problem.request_id}`));
    target.append(box);
  };

  const headersOf = (form) => {
    const headers = { "Content-Type": "application/json", Accept: "application/json" };
    const token = form.querySelector('[name="csrfmiddlewaretoken"]');
    if (token) headers["X-CSRFToken"] = token.value;
    const key = form.querySelector("[data-tryit-key]");
    if (key?.value) headers.Authorization = `Bearer ${key.value}`;
    return headers;
  };

  const send = async (form) => {
    const target = form.querySelector("[data-tryit-result]") || document.querySelector(form.dataset.result);
    const button = form.querySelector('[type="submit"]');
    for (const input of form.querySelectorAll(".is-invalid")) {
      input.classList.remove("is-invalid");
      input.removeAttribute("aria-invalid");
    }
    button.disabled = true;
    target.setAttribute("aria-busy", "true");
    let show;
    try {
      const response = await fetch(form.dataset.url, { method: "POST", headers: headersOf(form), body: bodyOf(form) });
      const answer = await response.json();
      show = response.ok ? () => showAnswer(target, answer) : () => showProblem(form, target, answer);
      if (response.ok) form.dispatchEvent(new CustomEvent("tryit:answer", { bubbles: true, detail: answer }));
    } catch {
      show = () => showProblem(form, target, { detail: "The server could not be reached.", hint: "Check the connection, then try again." });
    }
    target.replaceChildren();
    show();
    target.removeAttribute("aria-busy");
    button.disabled = false;
  };

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-tryit]")) return;
    event.preventDefault();
    send(event.target);
  });
})();
