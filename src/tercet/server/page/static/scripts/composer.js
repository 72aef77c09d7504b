// The field in which messages are written, its button, and how full the model's context is.

import { byId } from "./dom.js";
import { count } from "./figures.js";
import { grow } from "./message-view.js";

export class Composer {
  /** `acts`: `send(text)`, `stop()`, `editLast()`. */
  constructor(acts) {
    this.field = byId("draft");
    this.sendButton = byId("send");
    this.stopButton = byId("stop");
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(acts);
    });
    this.stopButton.addEventListener("click", () => acts.stop());
    this.field.addEventListener("input", () => this.#changed());
    this.field.addEventListener("keydown", (event) => {
      if (event.isComposing) return; // Enter then chooses a word of an input method
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        this.#send(acts);
      } else if (event.key === "ArrowUp" && this.field.value === "") {
        event.preventDefault();
        acts.editLast();
      }
    });
    this.#changed();
  }

  #send(acts) {
    const text = this.field.value.trim();
    if (!text || this.isRunning) return;
    this.field.value = "";
    this.#changed();
    acts.send(text);
  }

  #changed() {
    grow(this.field);
    this.sendButton.disabled = !this.field.value.trim();
  }

  /** Whether an answer is being written: then the button stops it. */
  setRunning(isRunning) {
    this.isRunning = isRunning;
    const hadFocus = [this.sendButton, this.stopButton].includes(document.activeElement);
    this.sendButton.hidden = isRunning;
    this.stopButton.hidden = !isRunning;
    if (hadFocus) (isRunning ? this.stopButton : this.field).focus();
  }

  /** Who will answer, and how much of its context the conversation takes, as the last answer counted it. */
  showModel(model, usage, context) {
    const used = usage ? usage.prompt + usage.generated : 0;
    const of = context ? ` of ${count(context)}` : "";
    byId("context").textContent = used ? `${model} · ${count(used)}${of} tokens` : model;
  }

  focus() {
    this.field.focus();
  }
}
