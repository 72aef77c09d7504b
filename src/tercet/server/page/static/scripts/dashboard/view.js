// The dashboard, and the state of the server in the top line of every view.

import { notify } from "../announcer.js";
import { byId, element } from "../dom.js";
import { count, seconds } from "../figures.js";
import { Day } from "./day.js";
import { Feed } from "./feed.js";
import { FiguresPanel } from "./figures-panel.js";

export class Dashboard {
  constructor(key) {
    this.feed = new Feed(key);
    this.figures = new FiguresPanel(byId("figures"));
    this.day = new Day(key);
    this.day.addEventListener("change", () => this.#draw());
    this.feed.addEventListener("change", () => this.#draw());
    const pause = byId("pause");
    pause.addEventListener("click", () => {
      this.feed.setPaused(!this.feed.isPaused);
      pause.setAttribute("aria-pressed", String(this.feed.isPaused));
      pause.textContent = this.feed.isPaused ? "Go on" : "Pause";
    });
  }

  setShown(isShown) {
    this.feed.setShown(isShown);
    this.day.setShown(isShown);
    if (isShown) this.#loadCharts();
  }

  /** The chart library is loaded when somebody first looks. */
  async #loadCharts() {
    this.charts ??= import("./charts.js");
    try {
      const { Charts } = await this.charts;
      this.drawn ??= new Charts(byId("charts"));
      this.day.charts ??= new Charts(byId("day-charts"), { isDay: true });
      this.day.draw();
      this.#draw();
    } catch {
      this.charts = null;
      notify("The charts could not be loaded. If the server was just replaced, load the page again.");
    }
  }

  #draw() {
    const { latest, error, points, isShown } = this.feed;
    drawHealth(latest, error);
    if (!isShown) return;
    drawAlerts(latest, error, this.day.activeAlerts);
    if (!latest) return;
    byId("dashboard-subtitle").textContent = `Tercet ${latest.version}, up for ${seconds(latest.uptime_seconds)}`;
    this.figures.draw(latest);
    this.drawn?.draw(points);
    drawTables(latest);
  }
}

function drawHealth(latest, error) {
  const worst = latest?.alerts.some(({ severity }) => severity === "critical");
  const [state, text] = error ? ["failed", error.status === 401 ? "key needed" : "not reachable"]
    : !latest ? ["unknown", "connecting"]
    : latest.problem || worst ? ["failed", latest.problem ?? "needs attention"]
    : latest.alerts.length ? ["warning", latest.alerts[0].title]
    : ["ready", "ready"];
  byId("health").dataset.state = state;
  if (byId("health-text").textContent !== text) byId("health-text").textContent = text;
}

function drawAlerts(latest, error, watched) {
  const problems = [
    ...(error ? [{ severity: "critical", title: "No figures", message: error.message }] : []),
    ...(latest?.problem ? [{ severity: "critical", title: "Not ready", message: latest.problem }] : []),
    ...(latest?.alerts ?? []),
    ...watched.map(({ severity, rule, message }) => ({ severity, title: `Alert: ${rule}`, message })),
  ];
  const rows = problems.length ? problems : latest ? [{ severity: "calm", title: "All is well.", message: "No alert is active." }] : [];
  const signature = JSON.stringify(rows);
  const list = byId("alerts");
  if (list.dataset.signature === signature) return;
  list.dataset.signature = signature;
  list.replaceChildren(...rows.map(({ severity, title, message }) =>
    element("li", { className: severity }, element("strong", {}, title), element("span", {}, message))));
}

function drawTables({ models, endings }) {
  const tables = [
    ["Models", models.map(({ name, context }) => [name, context ? `${count(context)} tokens of context` : ""]), "No model is loaded."],
    ["How requests ended", rowsOf(endings), "None has ended yet."],
  ];
  const signature = JSON.stringify(tables);
  const root = byId("tables");
  if (root.dataset.signature === signature) return;
  root.dataset.signature = signature;
  root.replaceChildren(...tables.map(([title, rows, none]) => element(
    "section", { className: "panel" },
    element("h2", {}, title),
    rows.length ? table(rows) : element("p", { className: "hint" }, none),
  )));
}

const ENDINGS = {
  stop: "complete",
  length: "complete, as long as allowed",
  abort: "given up by the client",
  deadline: "failed: out of time",
  error: "failed: an error while writing",
  overloaded: "refused: too many waited",
  unavailable: "refused: loading or shutting down",
  context_length: "refused: longer than the context",
  parameter: "refused: a wrong parameter",
  unsupported: "refused: not supported",
  other: "refused: other reasons",
};

const rowsOf = (endings) => Object.entries(endings)
  .filter(([, number]) => number > 0)
  .map(([kind, number]) => [ENDINGS[kind] ?? kind, count(number)]);

const table = (rows) => element("table", {}, element("tbody", {}, ...rows.map(([name, value]) =>
  element("tr", {}, element("th", { scope: "row", dir: "auto" }, name), element("td", {}, value)))));
