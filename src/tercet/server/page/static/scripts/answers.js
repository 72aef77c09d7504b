// Answers being written. Each belongs to a conversation and goes on when another one is shown; its message in the
// conversation grows, and a "progress" event tells who draws it. What has arrived is saved now and then, so that a
// closed tab loses little.

import { ServerError, streamChat } from "./api.js";

const SAVE_MS = 1000;

export class Answers extends EventTarget {
  #running = new Map();
  #discarded = new WeakSet();

  constructor(library, settings) {
    super();
    this.library = library;
    this.settings = settings;
  }

  isRunning(conversation) {
    return this.#running.has(conversation.id);
  }

  /** Stops the answer that is being written, if one is; resolves when it has ended. */
  async stop(conversation) {
    const running = this.#running.get(conversation.id);
    running?.controller.abort();
    await running?.ended;
  }

  /** Stops the answer of a conversation that is deleted, and does not save it. */
  discard(conversation) {
    this.#discarded.add(conversation);
    this.stop(conversation);
  }

  /** The conversation was not deleted after all. */
  keep(conversation) {
    this.#discarded.delete(conversation);
  }

  /** Asks for an answer below a question, in place of one being written; resolves when it has ended in some way. */
  async answer(conversation, question) {
    await this.stop(conversation);
    const controller = new AbortController();
    const ended = this.#write(conversation, question, controller);
    this.#running.get(conversation.id).ended = ended;
    await ended;
  }

  async #write(conversation, question, controller) {
    const message = conversation.add("assistant", "", question);
    this.#running.set(conversation.id, { controller });
    Object.assign(message, { state: "waiting", model: this.settings.model });
    this.#tell("start", conversation, message);
    try {
      await this.#fill(conversation, message, controller.signal);
      message.state = "complete";
    } catch (error) {
      Object.assign(message, endOf(error));
    } finally {
      this.#running.delete(conversation.id);
      conversation.updated = Date.now();
      this.#save(conversation, message);
      this.#tell("end", conversation, message);
    }
  }

  /** Streams into the message; a conversation longer than the model's context loses its oldest exchanges. */
  async #fill(conversation, message, signal) {
    const before = conversation.before(message);
    let forgotten = before.findLast((one) => one.forgotten)?.forgotten ?? 0;
    for (;;) {
      try {
        message.forgotten = forgotten;
        return await this.#stream(conversation, message, before.slice(forgotten), signal);
      } catch (error) {
        if (error.code !== "context_length_exceeded" || message.content || before.length - forgotten < 3) throw error;
        forgotten += 2;
      }
    }
  }

  async #stream(conversation, message, before, signal) {
    const started = performance.now();
    let saved = started;
    let first = null;
    for await (const piece of streamChat(this.settings.request(before), { key: this.settings.key, signal })) {
      if (piece.text !== undefined) {
        first ??= performance.now();
        message.content += piece.text;
        message.state = "writing";
      }
      if (piece.finish) message.finish = piece.finish;
      if (piece.usage) message.usage = usageOf(piece.usage);
      message.figures = figuresOf(message, started, first);
      this.#tell("progress", conversation, message);
      if (performance.now() - saved > SAVE_MS) {
        saved = performance.now();
        this.#save(conversation, message);
      }
    }
  }

  #save(conversation, message) {
    if (this.#discarded.has(conversation)) return;
    conversation.messages[message.id] = message; // another tab may have stored the conversation without it
    if (!this.library.save(conversation)) this.dispatchEvent(new Event("storage-full"));
  }

  #tell(name, conversation, message) {
    this.dispatchEvent(new CustomEvent(name, { detail: { conversation, message } }));
  }
}

function endOf(error) {
  if (error.name === "AbortError") return { state: "stopped" };
  const reason = error instanceof ServerError ? error.message : `The page could not read the answer: ${error.message}`;
  return { state: "failed", error: reason, status: error.status };
}

const usageOf = (usage) => ({
  prompt: usage.prompt_tokens,
  generated: usage.completion_tokens,
  cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
});

/**
 * Seconds to the first text and in all, and tokens per second of all that time, as this browser saw them. (From the
 * first piece to the last would flatter: a busy browser gets many pieces at once.)
 */
function figuresOf(message, started, first) {
  if (first === null) return undefined;
  const seconds = (performance.now() - started) / 1000;
  const tokens = message.usage?.generated;
  return {
    firstTextSeconds: (first - started) / 1000,
    seconds,
    tokensPerSecond: tokens > 0 ? tokens / seconds : undefined,
  };
}
