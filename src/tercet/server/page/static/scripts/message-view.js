// One message on the page: who, what, and what can be done with it.

import { copyText } from "./clipboard.js";
import { element, iconButton } from "./dom.js";
import { seconds, speed } from "./figures.js";
import { renderMarkdown } from "./markdown/render.js";

const FINISHES = {
  length: "The limit of tokens was reached.",
  content_filter: "The server withheld the rest.",
};

export class MessageView {
  /** `acts` has what the buttons do: `edit(message, text)`, `retry(message)`, `choose(message)`. */
  constructor(message, acts) {
    this.message = message;
    this.acts = acts;
    const isUser = message.role === "user";
    this.body = element("div", isUser ? { className: "message-text", dir: "auto" } : { className: "message-text markdown" });
    this.note = element("p", { className: "message-note", dir: "auto", hidden: true });
    this.foot = element("div", { className: "message-foot" });
    this.root = element(
      "article",
      { className: `message ${message.role}`, "aria-label": isUser ? "You" : message.model || "Answer" },
      this.body, this.note, this.foot,
    );
  }

  /** Draws the message as it is now. */
  draw({ versions, isRunning }) {
    const { message } = this;
    if (this.editor) return;
    this.root.setAttribute("aria-busy", String(isRunning));
    if (message.role === "user") this.body.textContent = message.content;
    else renderMarkdown(this.body, message.content);
    this.root.classList.toggle("writing", isRunning);
    const note = isRunning ? "" : noteOf(message);
    this.note.textContent = note;
    this.note.hidden = !note;
    this.note.classList.toggle("failure", message.state === "failed");
    this.#drawFoot(versions, isRunning);
  }

  #drawFoot(versions, isRunning) {
    const { message } = this;
    const figures = isRunning ? "" : figuresOf(message);
    const signature = JSON.stringify([versions.map(({ id }) => id), isRunning, figures]);
    if (signature === this.footSignature) return; // keeps the focus of a button while other things change
    this.footSignature = signature;
    this.foot.replaceChildren();
    if (isRunning) return;
    if (versions.length > 1) this.foot.append(this.#versionSwitch(versions));
    const copy = iconButton("copy", "Copy", async () => {
      copy.classList.toggle("done", await copyText(message.content));
      setTimeout(() => copy.classList.remove("done"), 1500);
    });
    this.foot.append(copy);
    if (message.role === "user") this.foot.append(iconButton("edit", "Edit", () => this.edit(), { "data-act": "edit" }));
    else this.foot.append(iconButton("retry", "Another answer", () => this.acts.retry(message), { "data-act": "retry" }));
    if (figures) this.foot.append(element("span", { className: "message-figures" }, figures));
  }

  #versionSwitch(versions) {
    const at = versions.indexOf(this.message);
    const go = (step) => () => this.acts.choose(versions[at + step]);
    return element(
      "span",
      { className: "versions", role: "group", "aria-label": "Versions" },
      iconButton("previous", "Version before", go(-1), { disabled: at === 0 }),
      element("span", { className: "versions-count" }, `${at + 1} / ${versions.length}`),
      iconButton("next", "Version after", go(1), { disabled: at === versions.length - 1 }),
    );
  }

  /** Turns a question into a field. Sending makes a new version; Esc leaves everything as it was. */
  edit() {
    if (this.editor) return;
    const field = element("textarea", { value: this.message.content, dir: "auto", "aria-label": "Edit your message" });
    const leave = () => {
      this.editor.replaceWith(this.body);
      this.editor = null;
      this.foot.hidden = false;
      this.foot.querySelector("[data-act=edit]")?.focus();
    };
    const send = () => {
      const text = field.value.trim();
      leave();
      if (text) this.acts.edit(this.message, text);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") leave();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    field.addEventListener("input", () => grow(field));
    this.editor = element(
      "div",
      { className: "editor" },
      field,
      element(
        "div",
        { className: "editor-foot" },
        element("button", { type: "button", className: "button", onclick: leave }, "Cancel"),
        element("button", { type: "button", className: "button primary", onclick: send }, "Send"),
      ),
    );
    this.body.replaceWith(this.editor);
    this.foot.hidden = true;
    grow(field);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}

/** Makes a field as high as its text, up to its max-height. */
export function grow(field) {
  field.rows = 1;
  const line = Number.parseFloat(getComputedStyle(field).lineHeight);
  const padding = Number.parseFloat(getComputedStyle(field).paddingTop) * 2;
  field.rows = Math.max(1, Math.round((field.scrollHeight - padding) / line));
}

function noteOf({ role, state, error, finish, forgotten, content }) {
  if (role === "user") return "";
  const parts = [];
  if (state === "failed") parts.push(error);
  else if (state === "stopped") parts.push("Stopped.");
  else if (state === "waiting" || state === "writing") parts.push("Interrupted: the page was closed while this was being written.");
  else if (FINISHES[finish]) parts.push(FINISHES[finish]);
  else if (!content) parts.push("The model had nothing to say.");
  if (forgotten) parts.push(`The ${forgotten} oldest messages no longer fit in the model's context and were left out.`);
  return parts.join(" ");
}

function figuresOf({ usage, figures }) {
  if (!figures) return "";
  const parts = [];
  if (usage) parts.push(`${usage.generated} ${usage.generated === 1 ? "token" : "tokens"}`);
  if (figures.tokensPerSecond) parts.push(speed(figures.tokensPerSecond));
  parts.push(`first after ${seconds(figures.firstTextSeconds)}`);
  if (usage) parts.push(`read ${usage.prompt}${usage.cached ? ` (${usage.cached} cached)` : ""}`);
  return parts.join(" · ");
}
