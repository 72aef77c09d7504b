"""Requests of every generating route whose answer is known, and what the answers of these routes say.

    body("/api/chat", "Hello", said="A known answer", stream=True)

The shipped model says what a grammar or a schema makes it say.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

__all__ = ["ROUTES", "body", "code", "expected", "reasons", "tokens_read", "told"]

OPENAI = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/chat/completions", "/responses")
ROUTES = (*OPENAI, "/completion", "/completions", "/api/chat", "/api/generate")


def body(
    path: str, prompt: str = "Tell me a story.", said: str | None = None, **fields: Any
) -> dict[str, Any]:
    """A request of a route; `said` is what the model is made to say."""
    schema = None if said is None else {"type": "string", "enum": [said]}
    grammar = None if said is None else f"root ::= {json.dumps(said)}"
    messages = [{"role": "user", "content": prompt}]
    told: dict[str, Any]
    if path.endswith("/chat/completions"):
        named = {"type": "json_schema", "json_schema": {"name": "said", "schema": schema}}
        told = {"messages": messages, "max_tokens": 40, "response_format": named if schema else None}
    elif path.endswith("/responses"):
        named = {"format": {"type": "json_schema", "name": "said", "schema": schema}}
        told = {"input": prompt, "max_output_tokens": 40, "text": named if schema else None}
    elif path == "/v1/completions":
        told = {"prompt": prompt, "max_tokens": 40, "guided_choice": [said] if said else None}
    elif path.startswith("/api/"):
        told = {"prompt": prompt} if path.endswith("generate") else {"messages": messages}
        told |= {
            "model": "llama-tercet-tiny",
            "stream": False,
            "format": schema,
            "options": {"num_predict": 40},
        }
    else:
        told = {"prompt": prompt, "n_predict": 40, "grammar": grammar}
    return {name: value for name, value in {**told, **fields}.items() if value is not None}


def code(answer: httpx.Response) -> Any:
    """The code of an error: OpenAI's word, llama.cpp's number, nothing with Ollama."""
    error = answer.json()["error"]
    return error["code"] if isinstance(error, dict) else None


def expected(path: str, word: str) -> Any:
    if path.startswith("/api/"):
        return None
    return 400 if path.startswith("/completion") else word


def reasons(path: str, text: str) -> set[Any]:
    """Why a stream says that it has ended, in the words of its route."""
    found = set()
    for line in text.splitlines():
        data = line.removeprefix("data: ")
        if not data.startswith("{"):
            continue
        event = json.loads(data)
        if path.startswith("/api/"):
            found.add(event.get("done_reason"))
        elif path.startswith("/completion"):
            found.add(event.get("stop_type"))
        elif path.endswith("/responses"):
            found.add((event.get("response", {}).get("incomplete_details") or {}).get("reason"))
        else:
            found |= {choice["finish_reason"] for choice in event.get("choices", ())}
    return found - {None}


def told(text: str) -> str:
    """All that a stream says, but for the request that some routes repeat."""
    events = []
    for line in text.splitlines():
        data = line.removeprefix("data: ")
        if data.startswith("{"):
            event = json.loads(data)
            event.pop("generation_settings", None)
            if isinstance(response := event.get("response"), dict):
                response.pop("text")
            events.append(json.dumps(event, ensure_ascii=False))
    return "\n".join(events)


def tokens_read(answer: dict[str, Any]) -> int:
    return int(
        answer.get("tokens_evaluated") or answer.get("prompt_eval_count") or answer["usage"]["prompt_tokens"]
    )
