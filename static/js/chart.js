// Time series by uPlot: <figure data-chart data-url="…"> or data-source="id of a json_script block". The data:
// {"unit": "ms", "x": [unix seconds], "series": [{"label", "values": [number|null], "tone": "accent"}],
//  "marks": [{"x", "label", "tone": "deploy"|"incident"}], "kind": "line"|"area"|"bars", "limit": number|null}
(() => {
  "use strict";
  const TONES = ["accent", "teal", "amber", "red", "grey"];
  const charts = new Map();

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (tone, index) => css(`--chart-${tone || TONES[index % TONES.length]}`);

  const short = (value) => {
    const size = Math.abs(value);
    if (size >= 1e6) return `${+(value / 1e6).toFixed(1)}M`;
    if (size >= 1e3) return `${+(value / 1e3).toFixed(1)}k`;
    return String(+value.toPrecision(3));
  };
  const shown = (unit) => (value) => {
    if (value === null || value === undefined) return "–";
    if (unit === "share") return `${+(value * 100).toPrecision(3)} %`;
    return unit ? `${short(value)} ${unit}` : short(value);
  };
  const two = (number) => String(number).padStart(2, "0");
  const moment = (seconds) => {
    const at = new Date(seconds * 1000);
    return `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())} UTC`;
  };

  // Clock time for a chart of up to two days, the date for longer ones, both at midnight.
  const tickOf = (x) => (seconds) => {
    const at = new Date(seconds * 1000);
    const day = `${at.getUTCDate()} ${at.toLocaleString("en", { month: "short", timeZone: "UTC" })}`;
    const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
    return x.at(-1) - x[0] > 172800 || clock === "00:00" ? day : clock;
  };

  const drawMarks = (data) => (plot) => {
    const context = plot.ctx;
    const { left, top, width, height } = plot.bbox;
    const ratio = window.devicePixelRatio || 1;
    context.save();
    context.font = `${11 * ratio}px ${css("--tblr-font-sans-serif") || "sans-serif"}`;
    context.lineWidth = ratio;
    for (const mark of data.marks || []) {
      const x = Math.round(plot.valToPos(mark.x, "x", true));
      if (x < left || x > left + width) continue;
      context.strokeStyle = context.fillStyle = colour(mark.tone === "incident" ? "red" : "mark");
      context.setLineDash([3 * ratio, 3 * ratio]);
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, top + height);
      context.stroke();
      const room = context.measureText(mark.label).width + 8 * ratio;
      const flip = x + room > left + width;
      context.textAlign = flip ? "right" : "left";
      context.fillText(mark.label, x + (flip ? -4 : 4) * ratio, top + (mark.tone === "incident" ? 24 : 11) * ratio); // a line of their own: both happen at once
    }
    if (typeof data.limit === "number") {
      const y = Math.round(plot.valToPos(data.limit, "y", true));
      context.strokeStyle = colour("red");
      context.setLineDash([5 * ratio, 4 * ratio]);
      context.beginPath();
      context.moveTo(left, y);
      context.lineTo(left + width, y);
      context.stroke();
    }
    context.restore();
  };

  // Without a pointer the legend shows the newest values.
  const lastOf = (values) => values.findLast((value) => value !== null);

  // A value without a neighbour makes no line: it is drawn as a dot.
  const alone = (values) => values.flatMap((value, at) => (value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null ? [at] : []));

  const seriesOf = (data) =>
    data.series.map((each, index) => {
      const stroke = colour(each.tone, index);
      const edge = data.band?.includes(index);
      const common = { label: each.label, stroke, width: edge ? 0.5 : 1.75, spanGaps: Boolean(data.zoom), points: { show: !edge, size: 5, filter: (_, __, show) => (show ? alone(each.values) : null) }, value: (_, v, __, at) => shown(data.unit)(at === null ? lastOf(each.values) : v) };
      if (data.kind === "bars") return { ...common, width: 0, fill: stroke, paths: window.uPlot.paths.bars({ size: [0.7, 40] }), points: { show: false } };
      return data.kind === "area" ? { ...common, fill: `color-mix(in srgb, ${stroke} 14%, transparent)` } : common;
    });

  // Of a share that is always near 1 nobody would see a drop on an axis from 0: the values with a little air.
  const around = (low, high, limit) => {
    const values = [low, high, limit].filter((value) => value !== null && value !== undefined);
    if (!values.length) return [0, 1];
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const air = (most - least || Math.abs(most) || 1) * 0.12;
    return [least - air, most + air];
  };

  const options = (data, width) => {
    const axis = { stroke: css("--chart-text"), grid: { stroke: css("--chart-grid"), width: 1 }, ticks: { show: false }, font: `11px ${css("--tblr-font-sans-serif")}` };
    const top = data.unit === "share" ? 0.01 : 1;
    return {
      width,
      height: 220,
      padding: [8, 8, 0, 0],
      tzDate: (seconds) => window.uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { points: { size: 6 }, y: false, drag: { x: false, y: false } },
      legend: { live: true },
      scales: { y: { range: (_, low, high) => (data.zoom ? around(low, high, data.limit) : [Math.min(0, low ?? 0), Math.max(high ?? 0, data.limit ?? 0, top) * 1.12]) } },
      bands: data.band ? [{ series: data.band.map((place) => place + 1), fill: `color-mix(in srgb, ${colour(data.series[0].tone, 0)} 16%, transparent)` }] : [],
      axes: [{ ...axis, size: 28, space: 70, values: (_, ticks) => ticks.map(tickOf(data.x)) }, { ...axis, size: 56, values: (_, ticks) => ticks.map(shown(data.unit)) }],
      series: [{ label: "Time", value: (_, v, __, at) => moment(at === null ? data.x.at(-1) : v) }, ...seriesOf(data)],
      hooks: { draw: [drawMarks(data)] },
    };
  };

  const table = (figure, data) => {
    const target = figure.querySelector("[data-chart-table]");
    if (!target) return;
    const grid = document.createElement("table");
    grid.className = "table table-sm";
    const head = grid.createTHead().insertRow();
    for (const label of ["Time", ...data.series.map((each) => each.label)]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = label;
      head.append(cell);
    }
    const body = grid.createTBody();
    for (let at = Math.max(0, data.x.length - 100); at < data.x.length; at += 1) {
      const row = body.insertRow();
      row.insertCell().textContent = moment(data.x[at]);
      for (const each of data.series) row.insertCell().textContent = shown(data.unit)(each.values[at]);
    }
    target.replaceChildren(grid);
  };

  const note = (figure, text) => {
    const line = document.createElement("p");
    line.className = "chart-note";
    line.textContent = text;
    figure.querySelector("[data-chart-plot]").replaceChildren(line);
  };

  const draw = (figure, data) => {
    const plot = figure.querySelector("[data-chart-plot]");
    charts.get(figure)?.chart?.destroy();
    if (!data.x.length) {
      charts.set(figure, { data });
      note(figure, data.empty || "No data in this period yet.");
      return;
    }
    plot.replaceChildren();
    const chart = new window.uPlot(options(data, plot.clientWidth || 300), [data.x, ...data.series.map((each) => each.values)], plot);
    charts.set(figure, { chart, data });
    table(figure, data);
  };

  const load = async (figure) => {
    if (charts.has(figure)) return;
    charts.set(figure, {});
    try {
      if (figure.dataset.source) {
        draw(figure, JSON.parse(document.getElementById(figure.dataset.source).textContent));
        return;
      }
      const response = await fetch(figure.dataset.url, { headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(String(response.status));
      draw(figure, await response.json());
    } catch {
      note(figure, "The chart could not be loaded. Reload the page to try again.");
    }
  };

  const scan = (root) => {
    for (const figure of charts.keys()) {
      if (figure.isConnected) continue;
      charts.get(figure).chart?.destroy();
      charts.delete(figure);
    }
    if (root.matches?.("[data-chart]")) load(root);
    root.querySelectorAll("[data-chart]").forEach(load);
  };

  const redraw = () => {
    for (const [figure, { data }] of charts) if (data) draw(figure, data);
  };

  const start = () => {
    scan(document);
    document.body.addEventListener("htmx:load", (event) => scan(event.detail.elt));
    document.addEventListener("themechange", redraw);
    let wait;
    window.addEventListener("resize", () => {
      clearTimeout(wait);
      wait = setTimeout(() => {
        for (const [figure, { chart }] of charts) chart?.setSize({ width: figure.querySelector("[data-chart-plot]").clientWidth, height: 220 });
      }, 100);
    });
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
