"""Embeddings through the Python front door, against the specification."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tercet import LLM
from tercet.errors import (
    ContextLengthError,
    FormatError,
    ParameterError,
    UnsupportedFormatError,
    UnsupportedModelError,
)
from tercet.models.config import ModelConfig
from tercet.models.loading import load_model
from tercet.models.saving import save_huggingface_folder
from tercet.reference import ReferenceDecoder
from tercet.tokenization.frame import read_frame
from tiny_models import TINY_CONFIG, random_masters, tiny_tokenizer_json

QWEN = dataclasses.replace(
    TINY_CONFIG, architecture="qwen3", activation="silu", attention_sub_norm=False, ffn_sub_norm=False,
    qk_norm=True, projection_norms=True, pooling="last", normalize_embeddings=True, bos_token_id=None,
)  # fmt: skip
GEMMA = dataclasses.replace(
    QWEN, architecture="gemma3", activation="gelu_tanh", post_norms=True, embedding_scale=6.0,
    attention_scale=0.5, sliding_window=5, sliding_pattern=2, rope_local_theta=100.0,
    normalize_embeddings=False, bos_token_id=0,
)  # fmt: skip
END = "<|end_of_text|>"
TEXTS = ["Once upon a time", "The little dog", "a cat, a boat and 3 friends", "!"]


def save(folder: Path, config: ModelConfig, tokenizer_json: bytes) -> Path:
    save_huggingface_folder(folder, config, random_masters(config), tokenizer_json=tokenizer_json)
    return folder


def framed(tokenizer_json: bytes, template: list[dict[str, object]]) -> bytes:
    """The tokenizer with a post-processor, as embedding models have one that ends every text."""
    parsed = json.loads(tokenizer_json)
    parsed["post_processor"] = {
        "type": "TemplateProcessing", "single": template, "pair": [*template, *template],
        "special_tokens": {END: {"id": END, "ids": [1], "tokens": [END]}},
    }  # fmt: skip
    return json.dumps(parsed).encode()


TEXT_AND_END = [
    {"Sequence": {"id": "A", "type_id": 0}},
    {"SpecialToken": {"id": END, "type_id": 0}},
]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    folder = tmp_path_factory.mktemp("embedding") / "qwen"
    with LLM(save(folder, QWEN, framed(tiny_tokenizer_json(), TEXT_AND_END)), threads=1) as llm:
        yield llm


def specified(llm: LLM, ids: list[int]) -> np.ndarray:
    loaded = load_model(llm.path)
    return ReferenceDecoder(loaded.config, loaded.reference_weights).embed(ids)


def test_vectors_are_those_of_the_specification(qwen: LLM) -> None:
    assert qwen.makes_embeddings
    vectors = qwen.embed(TEXTS)
    assert vectors.shape == (4, 36)
    assert vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        expected = specified(qwen, [*qwen.tokenize(text), 1])  # the file ends a text with <|end_of_text|>
        np.testing.assert_allclose(vector, expected, atol=2e-3)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-6)


def test_a_vector_does_not_depend_on_its_company(qwen: LLM) -> None:
    many = TEXTS * 12  # more tokens, and more texts, than one step takes
    vectors = qwen.embed(many)
    for index in (0, 17, 30, 47):
        assert np.array_equal(vectors[index], qwen.embed(many[index]))
    assert np.array_equal(qwen.embed([[5, 6, 7]]), qwen.embed([5, 6, 7])[None])
    assert qwen.embed([]).shape == (0, 36)


def test_scaled_windowed_and_not_normalized(tmp_path: Path) -> None:
    with LLM(save(tmp_path / "gemma", GEMMA, tiny_tokenizer_json()), threads=2) as llm:
        vector = llm.embed(TEXTS[2])
        expected = specified(llm, [0, *llm.tokenize(TEXTS[2])])  # no frame in the file, so the config's token
    assert np.linalg.norm(vector) > 2
    np.testing.assert_allclose(vector, expected, atol=2e-2)


def test_a_text_of_several_steps(tmp_path: Path) -> None:
    config = dataclasses.replace(QWEN, max_context=700, quantize_activations=True)
    ids = np.random.default_rng(0).integers(0, 500, 700).tolist()
    with LLM(save(tmp_path / "long", config, tiny_tokenizer_json()), threads=1) as llm:
        together = llm.embed([ids[:600], ids[:3], ids])
        assert np.array_equal(together[2], llm.embed(ids))
        np.testing.assert_allclose(together[0], specified(llm, ids[:600]), atol=5e-3)


def test_what_cannot_be_embedded(qwen: LLM, tiny_model_file: Path) -> None:
    with pytest.raises(ContextLengthError, match="65 tokens do not fit into the context of 64"):
        qwen.embed([TEXTS[0], [1] * 65])
    with pytest.raises(ParameterError, match="a text has no tokens"):
        qwen.embed([[1], []])
    with pytest.raises(ParameterError, match="token 0 is 500"):
        qwen.embed([500])
    with pytest.raises(UnsupportedModelError, match="makes embeddings and predicts no tokens; use embed"):
        qwen.generate("Once")
    with (
        LLM(tiny_model_file, threads=1) as llm,
        pytest.raises(UnsupportedModelError, match="predicts tokens and was not made for embeddings"),
    ):
        llm.embed("Once")


def test_frames_of_tokenizers() -> None:
    plain = json.loads(tiny_tokenizer_json())
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    ids = {"<s>": {"id": "<s>", "ids": [7, 8], "tokens": ["<", "s>"]}}

    def frame(processor: object) -> tuple[list[int], list[int]]:
        return read_frame(json.dumps(plain | {"post_processor": processor}).encode())

    both = {"type": "TemplateProcessing", "single": [begin, TEXT_AND_END[0], begin], "special_tokens": ids}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    assert frame(None) == frame(byte_level) == ([], [])
    assert frame(both) == ([7, 8], [7, 8])
    assert frame({"type": "Sequence", "processors": [byte_level, both]}) == ([7, 8], [7, 8])
    with pytest.raises(UnsupportedFormatError, match="frames texts by 'BertProcessing'"):
        frame({"type": "BertProcessing", "sep": ["[SEP]", 1], "cls": ["[CLS]", 2]})
    with pytest.raises(UnsupportedFormatError, match="writes a text 2 times into its frame"):
        frame(both | {"single": [TEXT_AND_END[0], TEXT_AND_END[0]]})
    for damaged in (5, {"type": "TemplateProcessing"}, both | {"special_tokens": {}}):
        with pytest.raises(FormatError, match="post-processor is damaged"):
            frame(damaged)
    with pytest.raises(FormatError, match="frames texts by -1, which is no token id"):
        frame(both | {"special_tokens": {"<s>": {"ids": [-1]}}})
