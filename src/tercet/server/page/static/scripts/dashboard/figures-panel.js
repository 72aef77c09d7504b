// The figures at the top of the dashboard. `data-value` holds what the server sent, unrounded.

import { element } from "../dom.js";
import { bytes, count, percent, rate, seconds } from "../figures.js";

const part = (some, all) => (all > 0 ? some / all : null);

const latency = (name, label, { mean, under, isRecent }) => ({
  name,
  label,
  value: mean,
  shown: seconds(mean),
  detail: mean === null ? "nothing yet" : under === null ? "some far longer" : `95 % under ${seconds(under)}${isRecent ? "" : ", before"}`,
});

/** What is shown, in order: `{name, label, value, shown, detail, fill}`. */
export function figuresOf({ now, totals, derived }) {
  const lookups = totals.response_cache_hits + totals.response_cache_misses;
  return [
    { name: "requests_running", label: "Running", value: now.requests_running, shown: count(now.requests_running),
      detail: "requests at once" },
    { name: "requests_waiting", label: "Waiting", value: now.requests_waiting, shown: count(now.requests_waiting),
      detail: `${count(now.waiting_tokens)} tokens to read` },
    { name: "written_per_second", label: "Writing", value: derived.writtenPerSecond, shown: rate(derived.writtenPerSecond, "tokens/s"),
      detail: `${count(totals.generation_tokens)} in all` },
    { name: "read_per_second", label: "Reading", value: derived.readPerSecond, shown: rate(derived.readPerSecond, "tokens/s"),
      detail: `${count(totals.prompt_tokens)} in all` },
    latency("first_token", "First token after", derived.firstToken),
    latency("between_tokens", "Between tokens", derived.betweenTokens),
    latency("whole_request", "Whole request", derived.wholeRequest),
    { name: "requests", label: "Requests", value: totals.requests, shown: count(totals.requests),
      detail: totals.failed ? `${count(totals.failed)} failed` : "none failed" },
    { name: "kv_cache_used", label: "Context memory", value: now.kv_cache_used, shown: percent(now.kv_cache_used),
      detail: `${count(totals.preemptions)} set aside`, fill: now.kv_cache_used },
    { name: "prefix_cache", label: "Prefix cache", value: part(totals.prefix_cache_hits, totals.prefix_cache_queries),
      shown: percent(part(totals.prefix_cache_hits, totals.prefix_cache_queries)),
      detail: `hits, of ${count(totals.prefix_cache_queries)} tokens` },
    { name: "response_cache", label: "Response cache", value: part(totals.response_cache_hits, lookups),
      shown: percent(part(totals.response_cache_hits, lookups)),
      detail: `hits, ${count(now.response_cache_entries)} kept` },
    { name: "resident_memory_bytes", label: "Memory", value: now.resident_memory_bytes, shown: bytes(now.resident_memory_bytes),
      detail: "model included" },
  ];
}

export class FiguresPanel {
  #cells = new Map();

  constructor(root) {
    this.root = root;
  }

  draw(latest) {
    for (const figure of figuresOf(latest)) this.#cell(figure)(figure);
  }

  #cell({ name, label, fill }) {
    if (this.#cells.has(name)) return this.#cells.get(name);
    const value = element("span", { className: "value" });
    const detail = element("span", { className: "detail" });
    const bar = fill === undefined ? null : element("span", { className: "bar", "aria-hidden": "true" });
    const parts = [value, bar, detail].filter((child) => child !== null);
    const cell = element("div", { className: "figure", "data-figure": name }, element("dt", {}, label), element("dd", {}, ...parts));
    this.root.append(cell);
    const draw = (figure) => {
      const [number, ...unit] = figure.shown.split(" ");
      value.replaceChildren(number, " ", element("span", { className: "unit" }, unit.join(" ")));
      detail.textContent = figure.detail;
      cell.dataset.value = figure.value ?? "";
      bar?.style.setProperty("--part", Math.min(1, figure.fill ?? 0));
    };
    this.#cells.set(name, draw);
    return draw;
  }
}
