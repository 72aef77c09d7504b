// The last 24 hours: charts out of the server's history, alerts that ended, slow requests to look into, energy. Asked
// for when the dashboard is shown, and every half minute as long as it is.

import { readJson } from "../api.js";
import { byId, element } from "../dom.js";
import { count, seconds } from "../figures.js";

const EVERY_MS = 30_000;

export class Day extends EventTarget {
  latest = null;
  charts = null;
  #isShown = false;
  #timer = null;

  constructor(key) {
    super();
    this.key = key;
    document.addEventListener("visibilitychange", () => this.#soon(0));
  }

  get activeAlerts() {
    return this.latest?.alerts.active ?? [];
  }

  setShown(isShown) {
    if (isShown === this.#isShown) return;
    this.#isShown = isShown;
    this.#soon(0);
  }

  #soon(delay) {
    clearTimeout(this.#timer);
    if (this.#isShown && !document.hidden) this.#timer = setTimeout(() => this.#ask(), delay);
  }

  async #ask() {
    try {
      this.latest = await readJson("/dashboard/day.json", { key: this.key(), cache: "no-store" });
      this.draw();
      this.dispatchEvent(new Event("change"));
    } catch {
      // What is there stays; the figures of the moment say what is wrong.
    }
    this.#soon(EVERY_MS);
  }

  draw() {
    byId("day").hidden = this.latest === null;
    if (this.latest === null) return;
    this.charts?.draw(this.latest.points);
    const { alerts, slow_requests: slow, energy } = this.latest;
    const panels = [slowPanel(slow), alertPanel(alerts.recent), energyPanel(energy)];
    const signature = JSON.stringify([slow, alerts.recent, energy]);
    const root = byId("day-panels");
    if (root.dataset.signature === signature) return;
    root.dataset.signature = signature;
    const open = new Set([...root.querySelectorAll("details[open]")].map(({ dataset }) => dataset.request));
    root.replaceChildren(...panels);
    for (const details of root.querySelectorAll("details")) details.open = open.has(details.dataset.request);
  }
}

const panel = (title, id, ...children) => element("section", { className: "panel", id }, element("h2", {}, title), ...children);
const hint = (text) => element("p", { className: "hint" }, text);
const clock = (time) => new Date(time * 1000).toLocaleTimeString("en-GB");

const rows = (pairs) => element("table", {}, element("tbody", {}, ...pairs.map(([name, value]) =>
  element("tr", {}, element("th", { scope: "row" }, name), element("td", { dir: "auto" }, value)))));

function slowPanel(requests) {
  const list = requests.map((one) => element("details", { "data-request": one.request_id },
    element("summary", {}, `${seconds(one.seconds)} at ${clock(one.time)}, ${count(one.generated_tokens)} tokens written`),
    rows([
      ["before the queue", seconds(one.preparation_seconds)],
      ["in the queue", seconds(one.queue_seconds)],
      ["reading the prompt", `${seconds(one.prefill_seconds)}, ${count(one.prompt_tokens)} tokens, ${count(one.cached_tokens)} cached`],
      ["writing", seconds(one.decode_seconds)],
      ["model", one.model],
      ["asked at", one.route],
      ["ended", `${one.ended}, status ${one.status}`],
      ["client, as a hash", one.client || "unknown"],
      ["request, as in the log", one.request_id],
    ])));
  return panel("Slowest requests", "slow", ...(list.length ? list : [hint("None has ended yet.")]));
}

function alertPanel(recent) {
  const list = recent.map(({ rule, time, seconds: lasted, message }) =>
    [`${rule}, until ${clock(time)}`, `${seconds(lasted)}: ${message}`]);
  return panel("Alerts that ended", "recent-alerts", list.length ? rows(list) : hint("None in the last six hours."));
}

function energyPanel(energy) {
  if (energy.joules === null) return panel("Energy", "energy", element("p", { className: "not-measured" }, "not measured"), hint(energy.reason));
  return panel("Energy", "energy", rows([
    ["in all", `${count(energy.joules)} J`],
    ["for a thousand tokens", energy.joules_per_1000_tokens === null ? "no tokens" : `${count(energy.joules_per_1000_tokens)} J`],
    ["measured for", seconds(energy.measured_seconds)],
    ["by", energy.source],
  ]));
}
