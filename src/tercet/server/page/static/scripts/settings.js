// What the next request carries. A control that was not touched is left out of it: then the model's own default holds.

const KEY = "tercet.settings";
const SECRET = "tercet.key"; // for this tab only

/** The sampling controls: name in the request, what people read, and the range. */
export const CONTROLS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, start: 0.7,
    hint: "0 always takes the likeliest token; higher is bolder." },
  { name: "top_p", label: "Top p", min: 0.05, max: 1, step: 0.05, start: 0.9,
    hint: "Only the likeliest tokens that together reach this probability." },
  { name: "top_k", label: "Top k", min: 0, max: 100, step: 1, start: 40,
    hint: "Only this many of the likeliest tokens; 0 is all." },
  { name: "min_p", label: "Min p", min: 0, max: 0.5, step: 0.01, start: 0.05,
    hint: "Only tokens at least this fraction as likely as the likeliest." },
  { name: "repetition_penalty", label: "Repetition penalty", min: 1, max: 1.5, step: 0.01, start: 1.1,
    hint: "Above 1, what was said becomes less likely." },
];

export const NUMBERS = [
  { name: "max_tokens", label: "Longest answer, in tokens", min: 1, max: 131072 },
  { name: "seed", label: "Seed", min: 0, max: 2147483647 },
];

export class Settings extends EventTarget {
  constructor() {
    super();
    let stored = null;
    try {
      stored = JSON.parse(localStorage.getItem(KEY));
    } catch {
      // what cannot be read is as good as nothing
    }
    this.model = typeof stored?.model === "string" ? stored.model : "";
    this.system = typeof stored?.system === "string" ? stored.system : "";
    this.values = {};
    for (const { name, min, max } of [...CONTROLS, ...NUMBERS]) {
      const value = stored?.values?.[name];
      if (typeof value === "number" && value >= min && value <= max) this.values[name] = value;
    }
  }

  get key() {
    return sessionStorage.getItem(SECRET) ?? "";
  }

  set key(value) {
    sessionStorage.setItem(SECRET, value);
  }

  /** Sets one sampling value; null gives it back to the model. */
  set(name, value) {
    if (value === null) delete this.values[name];
    else this.values[name] = value;
    this.save();
  }

  reset() {
    this.values = {};
    this.system = "";
    this.save();
  }

  save() {
    const { model, system, values } = this;
    try {
      localStorage.setItem(KEY, JSON.stringify({ model, system, values }));
    } catch {
      // the settings then hold until the page is closed
    }
    this.dispatchEvent(new Event("change"));
  }

  /** The body of a chat request after these messages. */
  request(messages) {
    const system = this.system.trim() ? [{ role: "system", content: this.system.trim() }] : [];
    const spoken = messages.map(({ role, content }) => ({ role, content }));
    return { model: this.model, messages: [...system, ...spoken], ...this.values };
  }
}
