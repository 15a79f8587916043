// Try it: a <form data-tryit data-url="…"> made from the schema. Its inputs carry name=column and data-type; the answer goes to
// [data-tryit-result]. A <textarea data-tryit-json> instead of fields sends its text as the whole body. With data-why the answer offers
// "Why this answer?", which sends the same body there and shows what each column added. Docs: docs/ui.md.
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
    const shares = answer.probabilities?.[0];
    if (Array.isArray(shares?.[0])) {
      shares.forEach((each, place) => target.append(make("p", "answer-label", `Output ${place + 1}`), bars(answer.classes?.[place], each)));
    } else if (shares) target.append(bars(answer.classes, shares));
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

  const COLUMNS_SHOWN = 10;
  const EXPLAINS = { probability: "probability", log_odds: "log odds", prediction: "prediction", score: "score" };

  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(round(value))}`;

  const showWhy = (target, why) => {
    const of = why.classes ? Math.max(0, why.classes.indexOf(why.predictions?.[0])) : 0;
    const perOutput = Array.isArray(why.values?.[0]?.[0]);
    const values = perOutput ? why.values[0][of] : why.values[0];
    const base = perOutput ? why.base_values[of] : why.base_values;
    const output = perOutput ? why.outputs[0][of] : why.outputs[0];
    const ranked = why.columns.map((name, place) => [name, values[place]]).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
    const largest = Math.abs(ranked[0]?.[1]) || 1;
    if (!ranked.some(([, value]) => value)) {
      target.append(make("p", "answer-note", "No column made a difference to the rows there are to compare with. A version pushed with a reference has more of them."));
      return;
    }
    const what = EXPLAINS[why.explains] ?? "output";
    const towards = why.classes ? ` of ${why.classes[of]}` : "";
    target.append(make("p", "answer-label", `What each column added to the ${what}${towards}: from ${round(base)} on average to ${round(output)} here`));
    const list = make("ul", "probs");
    for (const [name, value] of ranked.slice(0, COLUMNS_SHOWN)) {
      const item = make("li", "prob");
      const meter = make("progress", value < 0 ? "bar is-minus" : "bar");
      meter.max = largest;
      meter.value = Math.abs(value);
      meter.setAttribute("aria-label", `${name} added ${signed(value)}`);
      item.append(make("span", "prob-name", name), meter, make("span", "prob-share", signed(Number(value.toPrecision(3)))));
      list.append(item);
    }
    target.append(list);
    const more = ranked.length > COLUMNS_SHOWN ? `${ranked.length - COLUMNS_SHOWN} more columns added less · ` : "";
    target.append(make("p", "answer-note", `${more}${why.method}${why.exact ? "" : ", sampled"} · ${times(why.timings_ms)}`));
  };

  const offerWhy = (form, target, body) => {
    if (!form.dataset.why) return;
    const place = make("div", "answer-why");
    const button = make("button", "btn btn-sm", "Why this answer?");
    button.type = "button";
    button.addEventListener("click", async () => {
      button.disabled = true;
      place.setAttribute("aria-busy", "true");
      let show;
      try {
        const response = await fetch(form.dataset.why, { method: "POST", headers: headersOf(form), body });
        const answer = await response.json();
        show = response.ok ? () => showWhy(place, answer) : () => showProblem(form, place, answer);
      } catch {
        show = () => showProblem(form, place, { detail: "The server could not be reached.", hint: "Check the connection, then try again." });
      }
      place.replaceChildren();
      show();
      place.removeAttribute("aria-busy");
    });
    place.append(button);
    target.append(place);
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
    const body = bodyOf(form);
    let show;
    try {
      const response = await fetch(form.dataset.url, { method: "POST", headers: headersOf(form), body });
      const answer = await response.json();
      show = response.ok ? () => (showAnswer(target, answer), offerWhy(form, target, body)) : () => showProblem(form, target, answer);
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
