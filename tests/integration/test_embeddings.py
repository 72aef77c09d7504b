"""`/v1/embeddings` of a real server, with a small embedding model and with one that predicts tokens."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from openai.types import CreateEmbeddingResponse

from embedding_models import embedding_model
from served import Server
from tercet import LLM

TEXTS = ["Once upon a time", "The little dog", "a cat, a boat and 3 friends"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embedding_model(tmp_path_factory.mktemp("embeddings") / "tiny-embedding")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    server = Server(model)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def vectors(model: Path) -> np.ndarray:
    with LLM(model) as llm:
        return llm.embed(TEXTS)


def embed(server: Server, **body: Any) -> httpx.Response:
    with server.client() as client:
        return client.post("/v1/embeddings", json={"input": TEXTS, **body})


def test_vectors_are_those_of_the_library_to_the_last_bit(server: Server, vectors: np.ndarray) -> None:
    answer = embed(server).json()
    CreateEmbeddingResponse.model_validate(answer, strict=True)
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]
    numbers = np.array([entry["embedding"] for entry in answer["data"]], np.float32)
    assert np.array_equal(numbers, vectors)
    coded = embed(server, encoding_format="base64").json()
    for entry, vector in zip(coded["data"], vectors, strict=True):
        assert base64.b64decode(entry["embedding"]) == vector.astype("<f4").tobytes()
    assert answer["usage"] == coded["usage"]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > len(TEXTS)


def test_one_text_and_token_ids_give_the_same(server: Server, model: Path, vectors: np.ndarray) -> None:
    with LLM(model) as llm:
        ids = [llm.embedding_tokens(text) for text in TEXTS]
    for given in (TEXTS[1], ids[1]):
        [entry] = embed(server, input=given).json()["data"]
        assert np.array_equal(np.float32(entry["embedding"]), vectors[1])
    entries = embed(server, input=ids).json()["data"]
    assert np.array_equal(np.array([entry["embedding"] for entry in entries], np.float32), vectors)


def test_fewer_dimensions_are_the_first_ones_at_length_one(server: Server, vectors: np.ndarray) -> None:
    entries = embed(server, dimensions=8).json()["data"]
    short = np.array([entry["embedding"] for entry in entries])
    assert short.shape == (3, 8)
    assert np.linalg.norm(short, axis=1) == pytest.approx(np.ones(3), abs=1e-6)
    expected = vectors[:, :8] / np.linalg.norm(vectors[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(short, expected, atol=1e-6)
    assert embed(server, dimensions=37).json()["error"]["param"] == "dimensions"


def test_the_official_client_decodes_them(server: Server, vectors: np.ndarray) -> None:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none") as client:
        name = embed(server).json()["model"]
        answer = client.embeddings.create(model=name, input=TEXTS)  # it asks for base64
        assert np.array_equal(np.array([entry.embedding for entry in answer.data], np.float32), vectors)
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}])
    assert "embedding" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": None}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_what_cannot_be_is_refused_by_name(server: Server, body: dict[str, Any], param: str) -> None:
    response = embed(server, **body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_text_that_does_not_fit_is_refused_and_not_cut(server: Server) -> None:
    error = embed(server, input="dog " * 100).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "64" in error["message"]


def test_a_model_that_predicts_tokens_says_that_it_makes_no_embeddings(serving: Server) -> None:
    response = embed(serving)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "unsupported_model"
    assert error["param"] == "model"
    assert "not made for embeddings" in error["message"]
