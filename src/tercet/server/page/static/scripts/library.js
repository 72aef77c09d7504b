// The conversations, kept in this browser and nowhere else: one entry of localStorage each, so that saving one
// neither rewrites the others nor loses what another tab wrote.

import { readConversation } from "./conversation.js";

const PREFIX = "tercet.conversation.";

export class Library extends EventTarget {
  #opened = new Map();

  constructor() {
    super();
    addEventListener("storage", ({ key }) => {
      if (key !== null && !key.startsWith(PREFIX)) return;
      this.dispatchEvent(new Event("change"));
    });
  }

  /** All conversations, the one used last first. */
  list() {
    const keys = Array.from({ length: localStorage.length }, (_, index) => localStorage.key(index));
    return keys
      .filter((key) => key.startsWith(PREFIX))
      .map((key) => this.open(key.slice(PREFIX.length)))
      .filter((conversation) => conversation !== null)
      .sort((one, other) => other.updated - one.updated);
  }

  /** A conversation by its id, or null; the same object each time, so that a running answer has one home. */
  open(id) {
    const known = this.#opened.get(id);
    const text = localStorage.getItem(PREFIX + id);
    if (known && (text === null || known.text === text)) return known.conversation;
    const conversation = text === null ? null : readConversation(text);
    if (conversation?.id !== id) return null;
    if (known) Object.assign(known.conversation, conversation);
    this.#opened.set(id, { conversation: known?.conversation ?? conversation, text });
    return this.#opened.get(id).conversation;
  }

  /** Stores a conversation. Returns false when the browser's storage is full or closed to us. */
  save(conversation) {
    const text = JSON.stringify(conversation);
    this.#opened.set(conversation.id, { conversation, text });
    try {
      localStorage.setItem(PREFIX + conversation.id, text);
    } catch {
      return false;
    } finally {
      this.dispatchEvent(new Event("change"));
    }
    return true;
  }

  remove(id) {
    this.#opened.delete(id);
    localStorage.removeItem(PREFIX + id);
    this.dispatchEvent(new Event("change"));
  }

  /** Every conversation as one JSON text, for a file of the user's own. */
  export() {
    return JSON.stringify({ format: "tercet-conversations", version: 1, conversations: this.list() }, null, 1);
  }
}
