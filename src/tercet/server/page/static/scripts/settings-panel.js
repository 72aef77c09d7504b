// The controls of the settings: model, system message, sampling, key.

import { listModels } from "./api.js";
import { byId, element } from "./dom.js";
import { CONTROLS, NUMBERS } from "./settings.js";

export class SettingsPanel {
  constructor(settings, announce) {
    this.settings = settings;
    this.announce = announce;
    this.model = byId("model");
    this.system = byId("system");
    this.key = byId("key");
    this.sliders = CONTROLS.map((control) => slider(control, settings));
    this.numbers = NUMBERS.map((control) => number(control, settings));
    byId("sampling").append(...this.sliders.map(({ field }) => field), ...this.numbers.map(({ field }) => field));

    this.model.addEventListener("change", () => {
      settings.model = this.model.value;
      settings.save();
    });
    this.system.addEventListener("input", () => {
      settings.system = this.system.value;
      settings.save();
    });
    this.key.addEventListener("change", () => {
      settings.key = this.key.value.trim();
      this.loadModels();
    });
    byId("reset").addEventListener("click", () => {
      settings.reset();
      announce("All settings are the model's own again.");
    });
    settings.addEventListener("change", () => this.draw());
    this.draw();
  }

  draw() {
    if (this.system.value !== this.settings.system) this.system.value = this.settings.system;
    this.key.value = this.settings.key;
    for (const { draw } of [...this.sliders, ...this.numbers]) draw();
  }

  /** Fills the list of models; a model chosen earlier stays if it is still there. */
  async loadModels() {
    let models;
    try {
      models = await listModels(this.settings.key);
    } catch (error) {
      this.announce(error.message, { isError: true });
      return;
    }
    this.contexts = new Map(models.map(({ id, context }) => [id, context]));
    if (!models.length) return; // none is loaded yet: the choice made earlier may still hold
    this.model.replaceChildren(...models.map(({ id }) => element("option", { value: id, textContent: id })));
    if (!models.some(({ id }) => id === this.settings.model)) this.settings.model = models[0]?.id ?? "";
    this.model.value = this.settings.model;
    this.settings.save();
  }
}

/** A slider that says "model's own" until it is moved, and can be given back. */
function slider({ name, label, min, max, step, start, hint }, settings) {
  const id = `setting-${name}`;
  const output = element("output", { htmlFor: id });
  const back = element("button", {
    type: "button",
    className: "text-button",
    textContent: "reset",
    "aria-label": `Reset ${label}`,
    onclick: () => {
      settings.set(name, null);
      input.focus();
    },
  });
  const input = element("input", {
    type: "range", id, min, max, step, value: start, "aria-describedby": `${id}-hint`,
    oninput: () => settings.set(name, Number(input.value)),
  });
  const draw = () => {
    const value = settings.values[name];
    input.value = value ?? start;
    input.classList.toggle("untouched", value === undefined);
    input.setAttribute("aria-valuetext", value === undefined ? "the model's own" : String(value));
    output.textContent = value === undefined ? "model’s own" : String(value);
    back.hidden = value === undefined;
  };
  const top = element("div", { className: "field-top" }, element("label", { htmlFor: id, textContent: label }), back, output);
  const below = element("p", { id: `${id}-hint`, className: "hint", textContent: hint });
  return { field: element("div", { className: "field" }, top, input, below), draw };
}

/** A whole number, or nothing. */
function number({ name, label, min, max }, settings) {
  const id = `setting-${name}`;
  const input = element("input", {
    type: "number", id, min, max, step: 1, placeholder: "model’s own", inputMode: "numeric",
    onchange: () => {
      const value = input.valueAsNumber;
      settings.set(name, Number.isNaN(value) ? null : Math.min(max, Math.max(min, Math.trunc(value))));
    },
  });
  const draw = () => {
    input.value = settings.values[name] ?? "";
  };
  return { field: element("div", { className: "field" }, element("label", { htmlFor: id, textContent: label }), input), draw };
}
