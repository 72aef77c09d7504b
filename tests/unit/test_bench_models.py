"""Files of random models: written in pieces, found again, deleted, refused with the arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tercet.bench import model_store, random_model
from tercet.bench.model_store import check_room, file_plan, random_model_file
from tercet.bench.random_model import RandomModel
from tercet.bench.random_tokenizer import random_tokenizer_json
from tercet.errors import ParameterError
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.models.loading import load_model
from tercet.models.shapes import SHAPES

TINY = SHAPES["tiny"]


@pytest.mark.parametrize("packing", ["two_bit", "five_per_byte", "bf16"])
@pytest.mark.parametrize("head", ["f16", "int8_planes", "int6_planes"])
def test_a_file_opens_and_passes_every_check(
    packing: str, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    with random_model_file("tiny", TINY, packing, head) as path:
        assert path.stat().st_size == file_plan(TINY, packing, head).file_bytes
        model = load_model(path, verify=True)
        assert model.config == TINY
        kinds = {"two_bit": PackedMatrix, "five_per_byte": PackedMatrix, "bf16": FloatMatrix}
        assert isinstance(model.weights["layers.0.ffn.gate"], kinds[packing])
        assert isinstance(model.weights["embedding"], FloatMatrix if head == "f16" else PlaneMatrix)
    assert not path.exists()


def test_a_random_model_reads_and_writes_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    tokenizer_json = random_tokenizer_json(TINY.vocab_size)
    with random_model_file("tiny", TINY, "two_bit", "f16", tokenizer_json=tokenizer_json) as path:
        assert path.name == "tiny-two_bit-f16-text.tercet"
        tokenizer = load_model(path).tokenizer()
    for text in ("plain", " b c zz", "naïve 東京\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(" b ba") == [257, 256 + 26]
    assert tokenizer.decode([TINY.vocab_size - 1]).startswith(" ")
    with pytest.raises(ParameterError, match="no room for all 256 bytes"):
        random_tokenizer_json(100)


def test_a_file_that_was_kept_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    with random_model_file("tiny", TINY, "two_bit", "f16", keep=True) as path:
        first = path.stat().st_mtime_ns
    with random_model_file("tiny", TINY, "two_bit", "f16") as again:
        assert again.stat().st_mtime_ns == first
    assert path.exists(), "what was kept once is deleted by hand only"


def test_large_matrices_repeat_a_pool_of_honest_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_model, "POOL_BYTES", 1 << 14)
    for packing in ("two_bit", "five_per_byte"):
        matrix = RandomModel(TINY, packing)["layers.0.ffn.gate"]
        assert isinstance(matrix, PackedMatrix)
        codes = matrix.unpack().codes  # refuses bytes and padding that cannot be
        assert np.mean(codes == 0) == pytest.approx(0.42, abs=0.02)


def test_what_does_not_fit_is_refused_with_the_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "total_memory_bytes", lambda: 8_000_000_000)
    with pytest.raises(
        ParameterError, match=r"weights 7\.0 GB \+ KV cache 0\.5 GB.*= 8\.6 GB.*8\.0 GB of memory"
    ):
        check_room("the shape x", 7_000_000_000, 500_000_000, tmp_path, False)
    check_room("the shape x", 5_000_000_000, 0, tmp_path, True)
    monkeypatch.setattr(model_store, "total_memory_bytes", lambda: None)
    with pytest.raises(ParameterError, match=r"on the disk, and .* are free"):
        check_room("the shape x", 10**18, 0, tmp_path, False)


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(ParameterError, match="packing must be one of two_bit, five_per_byte"):
        file_plan(TINY, "ten_bit", "f16")
    with pytest.raises(ParameterError, match="head must be one of"):
        file_plan(TINY, "two_bit", "two_bit")
