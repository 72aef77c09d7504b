// Talking to the server: the same public routes that every other client uses.

import { serverEvents } from "./sse.js";

/** What the server said no with, or that it could not be reached. */
export class ServerError extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    Object.assign(this, { status, code });
  }
}

async function ask(path, { key, ...options } = {}) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached. Is it running?");
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

async function refusalOf(response) {
  const { status } = response;
  const body = await response.json().catch(() => null);
  const wait = response.headers.get("Retry-After");
  const reason = body?.error?.message ?? `The server answered with status ${status}.`;
  return new ServerError(wait ? `${reason} (Try again in ${wait} s.)` : reason, { status, code: body?.error?.code });
}

/** The models that are loaded: `[{id, context}]`, context in tokens or undefined. */
export async function listModels(key) {
  const { data } = await (await ask("/v1/models", { key })).json();
  return data.map(({ id, max_model_len: context, meta }) => ({ id, context: context ?? meta?.n_ctx }));
}

/** The JSON of a route. */
export async function readJson(path, options) {
  return (await ask(path, options)).json();
}

/** Streams an answer: yields `{text}`, `{finish}` and `{usage}` as they come. */
export async function* streamChat(request, { key, signal }) {
  const response = await ask("/v1/chat/completions", {
    key,
    signal,
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } }),
  });
  let ended = false;
  for await (const data of serverEvents(response.body)) {
    if (data === "[DONE]") {
      ended = true;
      break;
    }
    const { error, choices = [], usage } = JSON.parse(data);
    if (error) throw new ServerError(error.message ?? String(error), { code: error.code });
    const [choice] = choices;
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (choice?.finish_reason) yield { finish: choice.finish_reason };
    if (usage) yield { usage };
  }
  if (!ended) throw new ServerError("The connection ended before the answer did.");
}
