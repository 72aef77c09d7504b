"""A native file of version 1, written by release 0.1 and never again: every later release must read it.

`tiny-v1.json` says what was in it: codes, scales, token ids, and the logits of the last token of a prompt.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.formats.matrices import PackedMatrix
from tercet.formats.tercet import FilePlan, TensorPlan, TercetFile, create_file
from tercet.models.loading import load_model
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference import ReferenceDecoder
from tercet.tokenization import ChatTemplate

FILE = Path(__file__).with_name("tiny-v1.tercet")


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FILE.with_suffix(".json").read_bytes())
    return content


def test_the_file_is_the_one_that_was_written(expected: dict[str, Any]) -> None:
    """If this fails, the file was changed (line endings?), and nothing below means anything."""
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == expected["sha256"]


def test_codes_and_scales(expected: dict[str, Any]) -> None:
    weights = load_model(FILE).reference_weights
    ternary = {name: weight for name, weight in weights.items() if isinstance(weight, TernaryTensor)}
    digests = {name: hashlib.sha256(weight.codes.tobytes()).hexdigest() for name, weight in ternary.items()}
    assert digests == expected["codes_sha256"]
    assert {name: float(weight.scales) for name, weight in ternary.items()} == expected["scales"]


def test_tokens_and_logits(expected: dict[str, Any]) -> None:
    model = load_model(FILE)
    tokenizer = model.tokenizer()
    assert tokenizer.encode(expected["prompt"]) == expected["token_ids"]
    assert tokenizer.decode(expected["token_ids"]) == expected["prompt"]
    template = ChatTemplate(str(model.chat_template), tokenizer)
    assert template.encode(expected["messages"]) == expected["chat_ids"]
    decoder = ReferenceDecoder(model.config, model.reference_weights, quantize_activations=False)
    logits = decoder.logits(expected["token_ids"])[-1]
    np.testing.assert_allclose(logits, expected["last_logits"], atol=2e-4 * np.std(logits))


def test_writing_it_again_gives_the_same_bytes(tmp_path: Path) -> None:
    file = TercetFile(FILE)
    header = file.header
    tensors = [
        TensorPlan(name, entry.type, entry.rows, entry.depth, *_scales_of(entry))
        for name, entry in header.tensors.items()
    ]
    blobs = {name: file.blob(name) for name in header.blobs}
    plan = FilePlan(header.config, tensors, blobs, header.generation, header.chat_template, header.metadata)
    with create_file(tmp_path / "again.tercet", plan) as writer:
        for name in header.tensors:
            matrix = file.tensor(name)
            writer.write_tensor(
                name, [matrix.data], matrix.scales if isinstance(matrix, PackedMatrix) else None
            )
    assert (tmp_path / "again.tercet").read_bytes() == FILE.read_bytes()


def _scales_of(entry: Any) -> tuple[str | None, int | None]:
    return (None, None) if entry.scales is None else (entry.scales.granularity, entry.scales.group_size)
