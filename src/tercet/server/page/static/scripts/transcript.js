// The messages of the conversation that is shown.

import { byId } from "./dom.js";
import { MessageView } from "./message-view.js";

const NEAR_END = 80; // pixels

export class Transcript {
  #views = new Map();
  #frame = null;

  constructor(answers, acts) {
    this.answers = answers;
    this.acts = acts;
    this.root = byId("transcript");
    this.scroller = byId("scroller");
    this.toEnd = byId("to-end");
    this.follows = true;
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.toEnd.addEventListener("click", () => this.scrollToEnd());
    new ResizeObserver(() => this.#keepEnd()).observe(this.root);
  }

  /** Shows a conversation from its end. */
  show(conversation) {
    this.conversation = conversation;
    this.#views.clear();
    this.root.replaceChildren();
    this.draw();
    this.scrollToEnd();
  }

  /** Brings the page in line with the conversation; views of messages that are still shown stay as they are. */
  draw() {
    const path = this.conversation.path();
    const runs = this.answers.isRunning(this.conversation);
    const wanted = path.map((message) => {
      if (this.#views.get(message.id)?.message !== message) this.#views.set(message.id, new MessageView(message, this.acts));
      return this.#views.get(message.id);
    });
    wanted.forEach((view, at) => {
      if (this.root.children[at] !== view.root) this.root.insertBefore(view.root, this.root.children[at] ?? null);
    });
    while (this.root.children.length > wanted.length) this.root.lastChild.remove();
    path.forEach((message, at) => this.#drawOne(message, runs && at === path.length - 1));
    byId("welcome").hidden = path.length > 0;
  }

  /** Draws a growing message, at most once a frame. */
  progress(message) {
    if (this.#frame !== null || !this.#views.has(message.id)) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = null;
      if (this.#views.get(message.id)?.message === message) this.#drawOne(message, this.answers.isRunning(this.conversation));
    });
  }

  #drawOne(message, isRunning) {
    this.#views.get(message.id).draw({ versions: this.conversation.siblings(message), isRunning });
  }

  editLastQuestion() {
    const last = this.conversation.path().findLast(({ role }) => role === "user");
    if (last) this.#views.get(last.id).edit();
  }

  scrollToEnd() {
    this.follows = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.toEnd.hidden = true;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.follows = scrollHeight - scrollTop - clientHeight < NEAR_END;
    this.toEnd.hidden = this.follows;
  }

  #keepEnd() {
    if (this.follows) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}
