"""`tercet ternarize` as a person types it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from program import assert_refused, tercet
from tercet.models.saving import save_huggingface_folder
from tiny_models import TINY_CONFIG, random_masters, tiny_tokenizer_json


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = dataclasses.replace(
        TINY_CONFIG,
        architecture="llama",
        activation="silu",
        attention_sub_norm=False,
        ffn_sub_norm=False,
        quantize_activations=False,
    )
    folder = tmp_path_factory.mktemp("full") / "precise"
    save_huggingface_folder(folder, config, random_masters(config), tokenizer_json=tiny_tokenizer_json())
    return folder


def test_a_model_is_ternarized_reported_and_shown(source: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One day a girl named Lily found a big red ball.\n" * 40)
    options = ("--scales", "row", "--calibration", "text.txt", "--held-out-tokens", "256")
    done = tercet("ternarize", source, "small.tercet", *options, folder=tmp_path)
    assert done.status == 0, done
    assert "and lossy" in done.out
    assert "perplexity " in done.out
    assert "small.quality.md" in done.out
    assert "held-out text: built-in text" in (tmp_path / "small.quality.md").read_text()
    shown = tercet("inspect", "small.tercet", "--json", folder=tmp_path).data
    assert "lossy" in shown["metadata"]["ternarized"]
    assert shown["metadata"]["ternarized_with"].startswith("text.txt, ")
    assert "lossy" in tercet("inspect", "small.tercet", folder=tmp_path).out
    assert tercet("run", "Lily", "--model", "small.tercet", "--max-tokens", "3", folder=tmp_path).status == 0
    options = ("--method", "absmean", "--int8", "--overwrite", "--held-out-tokens", "64", "--json")
    done = tercet("ternarize", source, "small.tercet", *options, folder=tmp_path)
    assert done.data == json.loads((tmp_path / "small.quality.json").read_text())
    assert done.data["quantize_activations"] is True


def test_what_cannot_be_is_refused(source: Path, tmp_path: Path) -> None:
    for options, reason in (
        (("--method", "magic"), "absmean, calibrated"),
        (("--scales", "group"), "Take scales for a row"),
        (("--calibration", "none.txt"), "none.txt"),
    ):
        assert_refused(tercet("ternarize", source, "x.tercet", *options, folder=tmp_path), reason)
    assert not list(tmp_path.iterdir())
