// A conversation is a tree: an edited question or a regenerated answer becomes a sibling of the old one, so
// nothing is lost. `chosen` says which child is shown below each message; from the root down that is the path.

const ROOT = "root";

/** Random, also where `crypto.randomUUID` is missing: a page served over plain HTTP to another machine. */
export const newId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36).padStart(2, "0")).join("");

export class Conversation {
  constructor({ id = newId(), title = "", named = false, created = Date.now(), updated = created,
    messages = {}, chosen = {} } = {}) {
    Object.assign(this, { id, title, named, created, updated, messages, chosen });
  }

  #at(id) {
    return Object.hasOwn(this.messages, id) ? this.messages[id] : null;
  }

  /** The messages that are shown, first to last. */
  path() {
    const shown = [];
    for (let next = this.#at(this.chosen[ROOT]); next; next = this.#at(this.chosen[next.id])) shown.push(next);
    return shown;
  }

  /** The messages before this one, first to last: what the model reads to write it. */
  before(message) {
    const found = [];
    for (let above = this.#at(message.parent); above; above = this.#at(above.parent)) found.unshift(above);
    return found;
  }

  /** The versions of a message, in the order they came to be. */
  siblings(message) {
    return Object.values(this.messages)
      .filter((other) => other.parent === message.parent)
      .sort((one, other) => one.created - other.created || one.order - other.order);
  }

  /** Adds a message below `parent` (a message, or nothing for the first) and shows it. */
  add(role, content, parent) {
    const order = Object.keys(this.messages).length;
    const message = { id: newId(), parent: parent?.id ?? ROOT, role, content, created: Date.now(), order };
    this.messages[message.id] = message;
    this.choose(message);
    this.updated = Date.now();
    if (role === "user" && !this.named && message.parent === ROOT) this.title = titleOf(content);
    return message;
  }

  choose(message) {
    this.chosen[message.parent] = message.id;
  }

  get isEmpty() {
    return !(ROOT in this.chosen);
  }
}

/** The first line of a question, cut between characters, never inside one. */
function titleOf(content) {
  const line = content.trim().split("\n", 1)[0];
  const characters = Array.from(line);
  return characters.length <= 48 ? line : `${characters.slice(0, 47).join("").trimEnd()}…`;
}

/** What was stored, if it has the shape of a conversation; otherwise null: storage is not trusted either. */
export function readConversation(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isRecord(found) || typeof found.id !== "string" || !isRecord(found.messages) || !isRecord(found.chosen)) return null;
  const sound = Object.entries(found.messages).every(
    ([id, message]) => isRecord(message) && message.id === id && typeof message.content === "string"
      && typeof message.parent === "string" && ["user", "assistant"].includes(message.role),
  );
  return sound && !hasCycle(found) ? new Conversation(found) : null;
}

const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function hasCycle({ messages }) {
  const count = Object.keys(messages).length;
  return Object.values(messages).some((message) => {
    let steps = 0;
    for (let above = message; above; above = Object.hasOwn(messages, above.parent) && messages[above.parent]) {
      if (++steps > count) return true;
    }
    return false;
  });
}
