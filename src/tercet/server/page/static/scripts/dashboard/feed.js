// The figures of the server, asked for again and again: each second while the dashboard is shown, now and then while
// it is not (for the state in the top line), never while the page is in the background.
//
// The server sends running totals. What happened between two answers is their difference: rates, and means of the
// last minute. `points` are the last ten minutes, one for each answer; a gap is a point without values.

import { readJson } from "../api.js";

const SHOWN_MS = 1000;
const ASIDE_MS = 5000;
const KEPT_SECONDS = 600;
const WINDOW_SECONDS = 60;
const GAP_SECONDS = 15;

export class Feed extends EventTarget {
  points = [];
  latest = null;
  error = null;
  isShown = false;
  isPaused = false;
  #answers = [];
  #timer = null;
  #asks = false;

  constructor(key) {
    super();
    this.key = key;
    document.addEventListener("visibilitychange", () => this.#soon(0));
    this.#soon(0);
  }

  setShown(isShown) {
    this.isShown = isShown;
    this.#soon(0);
  }

  setPaused(isPaused) {
    this.isPaused = isPaused;
    if (!isPaused) this.#soon(0);
  }

  #soon(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), delay);
  }

  async #ask() {
    if (document.hidden || this.#asks) return;
    this.#asks = true;
    try {
      const answer = await readJson("/dashboard.json", { key: this.key(), cache: "no-store" });
      this.error = null;
      if (!(this.isPaused && this.isShown)) this.#take(answer);
    } catch (error) {
      this.error = error;
    } finally {
      this.#asks = false;
    }
    this.dispatchEvent(new Event("change"));
    this.#soon(this.isShown ? SHOWN_MS : ASIDE_MS);
  }

  #take(answer) {
    const previous = this.#answers.at(-1);
    if (previous && restarted(previous, answer)) this.#answers = [];
    this.#answers.push(answer);
    while (answer.time - this.#answers[0].time > WINDOW_SECONDS) this.#answers.shift();
    this.latest = { ...answer, derived: this.#derive(answer) };
    if (previous && answer.time - previous.time > GAP_SECONDS) this.points.push({ time: (previous.time + answer.time) / 2 });
    this.points.push(pointOf(this.latest));
    while (answer.time - this.points[0].time > KEPT_SECONDS) this.points.shift();
  }

  #derive(answer) {
    const first = this.#answers[0];
    const before = this.#answers.at(-2);
    return {
      writtenPerSecond: before ? perSecond(before, answer, "generation_tokens") : null,
      readPerSecond: before ? perSecond(before, answer, "prompt_tokens") : null,
      requestsPerSecond: first === answer ? null : perSecond(first, answer, "requests"),
      firstToken: durations(first, answer, "time_to_first_token"),
      betweenTokens: durations(first, answer, "between_tokens"),
      wholeRequest: durations(first, answer, "whole_request"),
    };
  }
}

const restarted = (previous, answer) =>
  Object.keys(answer.totals).some((name) => answer.totals[name] < previous.totals[name]);

function perSecond(before, after, name) {
  const passed = after.time - before.time;
  return passed > 0 ? (after.totals[name] - before.totals[name]) / passed : null;
}

/**
 * The mean of what was measured between two answers, or of everything so far if that was nothing, and the limit under
 * which 95 % of it were. Both are exact: the limit is one of the histogram's, with no guess at what lies between two.
 */
export function durations(before, after, name) {
  const now = after.histograms[name];
  const then = before === after ? null : before.histograms[name];
  const isRecent = then !== null && now.count > then.count;
  const part = isRecent ? minus(now, then) : now;
  if (!part.count) return { isRecent: false, mean: null, under: null };
  const [under] = part.buckets.find(([, number]) => number >= 0.95 * part.count);
  return { isRecent, mean: part.sum / part.count, under };
}

const minus = (now, then) => ({
  count: now.count - then.count,
  sum: now.sum - then.sum,
  buckets: now.buckets.map(([limit, number], at) => [limit, number - (then.buckets[at]?.[1] ?? 0)]),
});

const pointOf = ({ time, now, derived }) => ({
  time,
  written: derived.writtenPerSecond,
  read: derived.readPerSecond,
  running: now.requests_running,
  waiting: now.requests_waiting,
  firstTokenMean: derived.firstToken.isRecent ? derived.firstToken.mean : null,
  firstTokenMost: derived.firstToken.isRecent ? derived.firstToken.under : null,
  betweenTokensMean: derived.betweenTokens.isRecent ? derived.betweenTokens.mean : null,
  betweenTokensMost: derived.betweenTokens.isRecent ? derived.betweenTokens.under : null,
  cache: now.kv_cache_used,
  memory: now.resident_memory_bytes,
});
