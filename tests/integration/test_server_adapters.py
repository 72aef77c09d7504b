"""Adapters over HTTP: models of their own, llama.cpp's factors, exchanged while the server answers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from random_adapters import random_adapter, write_adapter
from served import Server
from tercet import LLM
from tiny_models import TINY_CONFIG

PROMPT = "Once upon a time"
TOKENS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("first", "second", "third")):
        write_adapter(folder / name, random_adapter(TINY_CONFIG, seed=seed, strength=1.0))
    return folder


@pytest.fixture(scope="module")
def client(tiny_model_file: Path, folder: Path) -> Iterator[httpx.Client]:
    named = [f"first={folder / 'first'}", str(folder / "second")]
    options = ["--alias", "tiny", "--lora", named[0], "--lora", named[1], "--lora-dir", str(folder)]
    server = Server(*options, "--threads", "1", str(tiny_model_file))
    try:
        with server.client() as client:
            yield client
    finally:
        server.stop()


@pytest.fixture(scope="module")
def expected(tiny_model_file: Path, folder: Path) -> dict[str, str]:
    """The text of each adapter, and of the model."""
    with LLM(tiny_model_file, threads=1) as llm:
        texts = {"tiny": llm.generate(PROMPT, temperature=0, max_tokens=TOKENS).text}
        for path in folder.iterdir():
            llm.adapters.load(path.name, path)
            texts[path.name] = llm.generate(PROMPT, adapter=path.name, temperature=0, max_tokens=TOKENS).text
    assert len(set(texts.values())) == len(texts)
    return texts


def text_of(client: httpx.Client, model: str, path: str = "/v1/completions", **body: Any) -> str:
    asked = {"model": model, "prompt": PROMPT, "temperature": 0, "max_tokens": TOKENS, **body}
    answer = client.post(path, json=asked)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    if "choices" not in found:
        return str(found["content"])
    assert found["model"] == model
    return str(found["choices"][0]["text"])


def post(client: httpx.Client, path: str, body: Any, status: int = 200) -> str:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.text


def test_adapters_are_models_of_their_own(client: httpx.Client, expected: dict[str, str]) -> None:
    entries = {entry["id"]: entry for entry in client.get("/v1/models").json()["data"]}
    assert list(entries) == ["tiny", "first", "second"]
    assert entries["first"]["parent"] == "tiny"
    assert "parent" not in entries["tiny"]
    assert client.get("/v1/models/second").json() == entries["second"]
    assert {entry["name"] for entry in client.get("/api/tags").json()["models"]} >= {"first:latest"}
    for name in ("tiny", "first", "second"):
        assert text_of(client, name) == expected[name]
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    for name in ("tiny", "first"):
        assert client.post("/v1/chat/completions", json={**chat, "model": name}).json()["model"] == name


def test_requests_of_all_adapters_at_once_are_not_mixed_up(
    client: httpx.Client, expected: dict[str, str]
) -> None:
    names = ["tiny", "first", "second"] * 6
    with ThreadPoolExecutor(9) as threads:
        found = list(threads.map(lambda name: text_of(client, name), names))
    assert found == [expected[name] for name in names]


def test_factors_as_llama_cpp_sets_them(client: httpx.Client, expected: dict[str, str]) -> None:
    listed = client.get("/lora-adapters").json()
    assert listed == [{"id": 0, "path": "first", "scale": 0.0}, {"id": 1, "path": "second", "scale": 0.0}]
    post(client, "/lora-adapters", [{"id": 1, "scale": 1.0}])
    try:
        assert client.get("/lora-adapters").json()[1]["scale"] == 1.0
        assert text_of(client, "tiny", "/completion") == expected["second"]
        assert text_of(client, "tiny", "/completion", lora=[]) == expected["tiny"]
        assert text_of(client, "tiny", "/completion", lora=[{"id": 0, "scale": 1.0}]) == expected["first"]
        assert text_of(client, "first") == expected["first"]
    finally:
        post(client, "/lora-adapters", [])
    assert text_of(client, "tiny") == expected["tiny"]
    for body in (
        [{"id": 7, "scale": 1}],
        [{"id": 0, "scale": "much"}],
        {"id": 0},
        [{"id": 0, "scale": 1}] * 2,
    ):
        post(client, "/lora-adapters", body, 400)


def test_adapters_are_exchanged_while_others_are_answered(
    client: httpx.Client, expected: dict[str, str]
) -> None:
    with ThreadPoolExecutor(4) as threads:
        others = [threads.submit(text_of, client, "first") for _ in range(8)]
        post(client, "/v1/load_lora_adapter", {"lora_name": "new", "lora_path": "third"})
        assert text_of(client, "new") == expected["third"]
        post(client, "/v1/load_lora_adapter", {"lora_name": "new", "lora_path": "second"}, 400)
        replaced = {"lora_name": "new", "lora_path": "second", "load_inplace": True}
        post(client, "/v1/load_lora_adapter", replaced)
        assert text_of(client, "new") == expected["second"]
        post(client, "/v1/unload_lora_adapter", {"lora_name": "new"})
        assert {other.result() for other in others} == {expected["first"]}
    post(client, "/v1/completions", {"model": "new", "prompt": PROMPT}, 404)
    post(client, "/v1/unload_lora_adapter", {"lora_name": "new"}, 404)


def test_only_adapters_of_the_folder_are_loaded(client: httpx.Client, tiny_model_file: Path) -> None:
    for path in ("..", "/etc", "../" + tiny_model_file.parent.name):
        post(client, "/v1/load_lora_adapter", {"lora_name": "x", "lora_path": path}, 400)
    for path in ("fourth", "a\0b", "0" * 1000):
        post(client, "/v1/load_lora_adapter", {"lora_name": "x", "lora_path": path}, 404)
    post(client, "/v1/load_lora_adapter", {"lora_name": "tiny", "lora_path": "third"}, 400)
    assert [entry["id"] for entry in client.get("/v1/models").json()["data"]] == ["tiny", "first", "second"]


def test_without_a_folder_none_is_loaded(serving: Server) -> None:
    with serving.client() as client:
        post(client, "/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "y"}, 501)
        post(client, "/v1/unload_lora_adapter", {"lora_name": "x"}, 501)
