// Lines over the last ten minutes, or the last 24 hours, drawn by uPlot. Each chart says in words what it shows: the drawing itself is one
// picture for a screen reader.

import uPlot from "../../vendor/uplot/uPlot.esm.js";
import { element } from "../dom.js";
import { bytes, count, percent, rate, seconds } from "../figures.js";

const tokens = (value) => rate(value, "tokens/s");
const clock = (time) => new Date(time * 1000).toLocaleTimeString("en-GB");

const CHARTS = [
  { title: "Speed", read: tokens, mark: count, lines: [["written", "writing"], ["read", "reading"]] },
  { title: "Requests", read: count, whole: true, lines: [["running", "running"], ["waiting", "waiting"]] },
  { title: "First token after", read: seconds, lines: [["firstTokenMean", "mean"], ["firstTokenMost", "95 % under"]] },
  { title: "Between tokens", read: seconds, lines: [["betweenTokensMean", "mean"], ["betweenTokensMost", "95 % under"]] },
  { title: "Context memory in use", read: percent, highest: 1, lines: [["cache", "in use"]] },
  { title: "Memory", read: bytes, lines: [["memory", "resident"]] },
];

const of100 = (value) => percent(typeof value === "number" ? value / 100 : value);

const DAY_CHARTS = [
  { title: "Speed while writing", read: tokens, mark: count, lines: [["generating_tokens_per_second", "all answers"]] },
  { title: "Requests in five minutes", read: count, whole: true, lines: [["requests", "arrived"], ["failed", "failed"]] },
  { title: "Whole request", read: seconds, lines: [["latency_average_seconds", "mean"], ["latency_p95_seconds", "95 % under"]] },
  { title: "First token, 95 % under", read: seconds, lines: [["first_token_p95_seconds", "after"]] },
  { title: "Processors", read: of100, highest: 100, lines: [["process_cpu_percent", "server"], ["machine_cpu_percent", "machine"]] },
  { title: "Memory", read: bytes, lines: [["resident_memory_bytes", "resident"]] },
];

const COLOURS = ["--plus", "--minus"];
const HEIGHT = 150;

export class Charts {
  constructor(root, { isDay = false } = {}) {
    this.probe = element("span", { hidden: true });
    root.append(this.probe);
    const period = isDay ? "last 24 hours" : "last ten minutes";
    this.charts = (isDay ? DAY_CHARTS : CHARTS).map((chart) => new Chart({ period, ...chart }, root, (name) => this.colour(name)));
    const redraw = () => this.charts.forEach(({ plot }) => plot.redraw());
    addEventListener("themechange", redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  /** A colour of the style sheets as the canvas wants it. */
  colour(name) {
    this.probe.style.color = `var(${name})`;
    return getComputedStyle(this.probe).color;
  }

  draw(points) {
    for (const chart of this.charts) chart.draw(points);
  }
}

class Chart {
  constructor({ title, period, read, mark = read, whole, highest, lines }, root, colour) {
    Object.assign(this, { title, period, read, lines });
    this.keys = lines.map((_, at) => element("span", { className: `chart-key ${["first", "second"][at]}` }));
    this.frame = element("div", { className: "chart-plot", role: "img", "aria-label": `${title}: nothing measured yet` });
    const caption = element("figcaption", {}, element("h3", {}, title), element("span", { className: "chart-keys" }, ...this.keys));
    root.append(element("figure", { className: "chart" }, caption, this.frame));
    const axis = { stroke: () => colour("--ink-soft"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const limit = highest ?? (whole ? 4 : 0);
    const options = {
      width: 300,
      height: HEIGHT,
      pxAlign: false,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { y: { range: (_, __, most) => [0, Math.max(limit, (most ?? 0) * (highest ? 1 : 1.1)) || 1] } },
      axes: [{ ...axis, space: 80, size: 24, values: (_, splits) => splits.map(clock) }, { ...axis, size: 62, space: 34, values: (_, splits) => splits.map((value) => mark(value)) }],
      series: [{}, ...lines.map(([, label], at) => ({
        label, width: 2, stroke: () => colour(COLOURS[at]), points: { show: false }, spanGaps: false,
        fill: at === 0 ? () => faint(colour(COLOURS[0])) : undefined,
      }))],
      hooks: { setCursor: [() => this.#tell()] },
    };
    this.plot = new uPlot(options, [[], ...lines.map(() => [])], this.frame);
    new ResizeObserver(([{ contentRect }]) => contentRect.width && this.plot.setSize({ width: contentRect.width, height: HEIGHT })).observe(this.frame);
  }

  draw(points) {
    this.points = points;
    this.plot.setData([points.map(({ time }) => time), ...this.lines.map(([name]) => points.map((point) => point[name] ?? null))]);
    this.#tell();
    const highest = this.lines.map(([name, label]) => {
      const values = points.map((point) => point[name]).filter((value) => typeof value === "number");
      return values.length ? `${label} now ${this.read(values.at(-1))}, at most ${this.read(Math.max(...values))}` : `${label}: nothing measured yet`;
    });
    this.frame.setAttribute("aria-label", `${this.title}, ${this.period}: ${highest.join("; ")}`);
  }

  /** The values under the pointer, or else the last ones. */
  #tell() {
    const point = this.points?.[this.plot.cursor.idx ?? this.points.length - 1];
    this.lines.forEach(([name, label], at) => { this.keys[at].textContent = `${label} ${this.read(point?.[name])}`; });
  }
}

const faint = (colour) => colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)");
