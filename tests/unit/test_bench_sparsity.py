"""Zeros are counted where they are, and so are the tiles that they fill."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tercet.bench.session import Session
from tercet.bench.sparsity import bench_sparsity, zeros_of
from tercet.errors import ParameterError, UnsupportedModelError
from tercet.models.loading import load_model
from tercet.reference.decoder import ReferenceDecoder


def test_zeros_are_those_of_the_reference(tiny_model_file: Path) -> None:
    """The first layer by hand: h = norm(x + attention), gates closed where Gate h is not positive."""
    model = load_model(tiny_model_file)
    ids = [0, 5, 9, 77]
    reference = ReferenceDecoder(model.config, model.reference_weights)
    x = reference._embedded(np.array(ids))
    x = x + reference._attention(0, x, np.arange(4))
    h = reference._norm("layers.0.ffn_norm", x)
    gate = reference._project("layers.0.ffn.gate", h)
    zeros = zeros_of(model, [ids[:4]])
    assert np.array_equal(zeros["layers.0.ffn.gate"], gate <= 0)
    assert zeros["layers.1.ffn.down"].shape == (4, 50)
    # A closed gate makes the input of `down` zero; rounding to int8 adds more.
    assert not (zeros["layers.0.ffn.gate"] & ~zeros["layers.0.ffn.down"]).any()


def test_report(tiny_model_file: Path) -> None:
    model = load_model(tiny_model_file)
    report = bench_sparsity(Session(runs=1), model, "tiny", ["Once upon a time", "the little dog"] * 9, 60)
    *layers, everything = report.rows
    assert [row["layer"] for row in layers] == ["0", "1"]
    assert everything["bytes"] == pytest.approx(sum(row["bytes"] for row in layers))
    assert everything["zero_gates"] == pytest.approx(np.mean([row["zero_gates"] for row in layers]))
    for row in layers:
        assert 0.2 < row["zero_gates"] < row["zero_inputs"] < 1
        assert 0 <= row["up_tiles"] <= row["zero_gates"]
        assert 0 <= row["bytes"] <= row["bytes_sorted"] + 0.05


def test_gates_that_are_never_zero(tiny_model_file: Path) -> None:
    model = load_model(tiny_model_file)
    smooth = dataclasses.replace(model, config=dataclasses.replace(model.config, activation="silu"))
    with pytest.raises(UnsupportedModelError, match="never exactly zero"):
        bench_sparsity(Session(runs=1), smooth, "tiny", ["text"], 10)
    with pytest.raises(ParameterError, match="fewer than two tokens"):
        bench_sparsity(Session(runs=1), model, "tiny", [], 10)
