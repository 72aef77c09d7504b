"""A secret text, sent through every route that takes text, is written nowhere but into the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audited import Audited, run_batch
from embedding_models import embedding_model
from served import Server

ASK = {"prompt": "Once upon a time", "max_tokens": 3, "temperature": 0}
CANARY = "Quuxolotl Zebedee"
"""In no vocabulary, no template and no word list."""


def generating_bodies(text: str) -> dict[str, list[dict[str, Any]]]:
    """Path -> bodies that carry a text to the model in every field that can."""
    messages = [
        {"role": "system", "content": text},
        {"role": "user", "content": [{"type": "text", "text": text}]},
    ]
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": text})}}
    tools = [
        {"type": "function", "function": {"name": "f", "description": text, "parameters": {"type": "object"}}}
    ]
    called = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": text, "tool_calls": [call]},
        {"role": "tool", "content": text, "tool_call_id": "a"},
    ]
    short = {"max_tokens": 3, "temperature": 0}
    ollama = {"model": "llama-tercet-tiny", "options": {"num_predict": 3, "temperature": 0}}
    chats = [{"messages": messages, **short}, {"messages": called, "tools": tools, **short}]
    return {
        "/v1/completions": [{"prompt": text, "stop": text, "user": text, **short}],
        "/v1/chat/completions": chats,
        "/chat/completions": chats,
        "/v1/responses": [
            {"input": text, "instructions": text, "max_output_tokens": 3, "metadata": {"a": text}}
        ],
        "/responses": [{"input": text, "max_output_tokens": 3}],
        "/v1/embeddings": [{"input": [text, text]}],
        "/completion": [{"prompt": text, "n_predict": 3}],
        "/completions": [{"prompt": text, "n_predict": 3}],
        "/embedding": [{"content": text}],
        "/embeddings": [{"content": text}],
        "/tokenize": [{"content": text}],
        "/apply-template": [{"messages": messages}],
        "/infill": [{"input_prefix": text, "input_suffix": text, "prompt": text, "n_predict": 3}],
        "/rerank": [{"query": text, "documents": [text]}],
        "/reranking": [{"query": text, "documents": [text]}],
        "/v1/rerank": [{"query": text, "documents": [text]}],
        "/v1/reranking": [{"query": text, "documents": [text]}],
        "/api/generate": [
            {**ollama, "prompt": text, "system": text, "suffix": text},
            {**ollama, "prompt": text},
        ],
        "/api/chat": [{**ollama, "messages": [{"role": "user", "content": text}]}],
        "/api/embed": [{"model": "llama-tercet-tiny", "input": text}],
        "/api/embeddings": [{"model": "llama-tercet-tiny", "prompt": text}],
    }


NO_TEXT = {
    "/v1/files",
    "/v1/batches",
    "/v1/batches/{batch_id}/cancel",
    "/audio/transcriptions",
    "/detokenize",
}
NO_TEXT |= {"/api/show", "/api/pull", "/api/push", "/api/create", "/api/copy"}
NO_TEXT |= {
    "/slots/{id_slot}",
    "/lora-adapters",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/props",
}
"""POST routes that take ids, numbers and names only."""


def test_every_route_that_takes_text_is_among_the_bodies(serving: Server) -> None:
    with serving.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    posts = {path for path, item in paths.items() if "post" in item}
    assert posts - NO_TEXT <= set(generating_bodies("x"))


def wrong(body: dict[str, Any], text: str) -> Iterator[dict[str, Any]]:
    """What goes wrong at each step: the text is too long, has a fault beside it, or stands where none may."""
    yield {name: text * 400 if value == text else value for name, value in body.items()}
    yield {**body, "temperature": -1, "options": {"temperature": -1}}
    for name, value in body.items():
        if isinstance(value, str | list) and name != "model":
            yield {**body, name: {"no": text}}
            yield {**body, name: [[{text: text}]]}
            yield {**body, name: text + "\ud800"}


EMBEDDING = {"/v1/embeddings", "/embedding", "/embeddings", "/api/embed", "/api/embeddings"}
NOT_OURS = {"/infill", "/rerank", "/reranking", "/v1/rerank", "/v1/reranking"}
"""What no model here can do."""


def test_a_secret_text_is_written_nowhere(tmp_path: Path) -> None:
    # A fault of ours in the middle of an answer has the text in its message.
    audited = Audited(tmp_path, "--drain", "0", "--batch-dir", tmp_path / "batches", first=FAULT)
    bodies = generating_bodies(CANARY)
    try:
        exchange = Exchange(audited)
        for path in sorted(set(bodies) - EMBEDDING):
            exchange.send_all(path, bodies[path])
        status, text = exchange.send("/v1/completions", {**ASK, "prompt": f"fault {CANARY}"})
        assert (status, "fault" in text) == (500, True)
        line = {"custom_id": "a", "method": "POST", "url": "/v1/completions"}
        for path, body in (
            ("/v1/completions", {**ASK, "prompt": CANARY}),
            ("/v1/completions", {"prompt": 3.5}),
        ):
            batch = run_batch(exchange.client, [{**line, "url": path, "body": body}])
            assert batch["status"] == "completed"
        exchange.look()
    finally:
        audited.stop()
    assert exchange.answered == set(bodies) - EMBEDDING - NOT_OURS
    written = audited.everything_written()
    assert b"a fault of ours" not in b"".join(written.values())
    assert b"RuntimeError" in written["log"]
    exchange.check()


def test_a_secret_text_to_be_embedded_is_written_nowhere(tmp_path: Path) -> None:
    model = embedding_model(tmp_path / "llama-tercet-tiny")
    audited = Audited(tmp_path, model, "--drain", "0")
    bodies = generating_bodies(CANARY)
    try:
        exchange = Exchange(audited)
        for path in sorted(EMBEDDING):
            exchange.send_all(path, bodies[path])
        exchange.look()
    finally:
        audited.stop()
    assert exchange.answered == EMBEDDING
    exchange.check()


class Exchange:
    """Sends the secret text everywhere, and keeps whatever comes back that is no answer."""

    def __init__(self, audited: Audited) -> None:
        self.audited = audited
        self.client = audited.client("admin")
        self.answered: set[str] = set()
        self.refused: list[tuple[str, str]] = []

    def send(self, path: str, body: dict[str, Any] | str) -> tuple[int, str]:
        """Send one body; returns status and text."""
        content = body if isinstance(body, str) else json.dumps(body)
        answer = self.client.post(path, content=content, headers={"Content-Type": "application/json"})
        if answer.status_code == 200:
            self.answered.add(path)
        else:
            self.refused.append((f"{path} {content[:300]}", f"{answer.text} {answer.headers}"))
        return answer.status_code, answer.text

    def send_all(self, path: str, bodies: list[dict[str, Any]]) -> None:
        """Send bodies as they are, streamed, and in every wrong way."""
        for body in bodies:
            self.send(path, body)
            self.send(path, {**body, "stream": True})
            for other in wrong(body, CANARY):
                self.send(path, other)
            self.send(path, json.dumps(body)[:-1])

    def look(self) -> None:
        """Read every page of figures, and hang up."""
        self.refused += [(path, self.client.get(path).text) for path in LOOKED_AT]
        self.client.close()

    def check(self) -> None:
        """The text is in no refusal, and in nothing that the server has written."""
        assert len(self.refused) > 20
        for what, text in self.refused:
            assert not leaks(text), f"{what} -> {text}"
        written = self.audited.everything_written()
        assert {"log", "console", "audit/audit-000001.jsonl"} <= set(written)
        for name, data in written.items():
            if not name.startswith(("llama-tercet-tiny", "batches")):  # the files of batches are the clients'
                assert not leaks(data.decode("utf-8", "replace")), name
        assert len(self.audited.events()) > len(self.refused)


LOOKED_AT = (
    *("/metrics", "/security/status", "/dashboard.json", "/slots", "/props"),
    *("/health/details", "/v1/models", "/api/ps", "/openapi.json", "/version"),
)

FAULT = """
import tercet.service.served_model as served
from tercet.service.served_model import ServedModel
before = ServedModel.submit
async def submit(self, request):
    if isinstance(request.prompt, str) and request.prompt.startswith("fault"):
        raise RuntimeError("a fault of ours: " + request.prompt)
    return await before(self, request)
ServedModel.submit = submit
""".strip()


def leaks(text: str) -> bool:
    """Whether a word of the secret text stands somewhere, however it is escaped."""
    return any(word.lower() in text.lower() for word in CANARY.split())
