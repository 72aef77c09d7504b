"""Pruning: silent neurons go without a trace; others by energy; what cannot be cut is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.plugins.random_decoders import GROUPED, ROTATED, SILU_UNTIED
from tests.plugins.tiny_models import TEXTS, random_masters, tiny_tokenizer_json

from tercet.conversion import convert
from tercet.errors import ParameterError, StorageError
from tercet.llm import LLM
from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel, load_model
from tercet.models.saving import save_huggingface_folder
from tercet.pruning import prune
from tercet.pruning.narrower import narrower
from tercet.pruning.neurons import survey
from tercet.quantization.ternary_tensor import TernaryTensor

BITNET = dataclasses.replace(GROUPED, head_dim=16, vocab_size=500, max_context=128)
PLAIN = dataclasses.replace(SILU_UNTIED, vocab_size=500, max_context=128, eos_token_ids=(1,))
IDS = [0, *(17 * n % 500 for n in range(60))]
SILENT = 20


def write_model(path: Path, config: ModelConfig) -> Path:
    """A file in which gate of each layer has 20 rows of zeros, and up one more than the layer's number."""
    weights = dict(random_masters(config, 1))
    for layer in range(config.num_layers):
        weights[f"layers.{layer}.ffn.gate"][5 : 5 + SILENT] = 0
        weights[f"layers.{layer}.ffn.up"][100 : 101 + layer] = 0
    save_huggingface_folder(
        path / "folder", config, iter(weights.items()), tokenizer_json=tiny_tokenizer_json()
    )
    convert(path / "folder", path / "model.tercet")
    return path / "model.tercet"


@pytest.fixture(scope="module")
def bitnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("bitnet"), BITNET)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("plain"), PLAIN)


def logits(path: Path) -> np.ndarray:
    with LLM(path, threads=1) as llm:
        return llm.logits(IDS)


def test_without_a_norm_silent_neurons_go_and_the_logits_keep_their_bits(plain: Path, tmp_path: Path) -> None:
    done = prune(plain, tmp_path / "narrow.tercet")
    assert done.lossless
    assert done.silent == (SILENT + 1, SILENT + 2)
    assert done.ffn_size == PLAIN.ffn_size - SILENT - 1
    assert done.bytes_after < done.bytes_before
    assert logits(done.path).tobytes() == logits(plain).tobytes()


def test_with_a_norm_they_are_the_same_to_its_rounding(bitnet: Path, tmp_path: Path) -> None:
    done = prune(bitnet, tmp_path / "narrow.tercet")
    assert done.lossless
    assert done.ffn_size == BITNET.ffn_size - SILENT - 1
    before, after = logits(bitnet), logits(done.path)
    # A step of the int8 rounding behind the norm may fall the other way: far below one per cent.
    assert np.abs(after - before).max() < 0.01 * np.abs(before).max()
    assert (after.argmax(axis=1) == before.argmax(axis=1)).mean() > 0.95


def test_codes_and_scales_of_what_stays_are_not_touched(bitnet: Path) -> None:
    model = load_model(bitnet)
    kept = [np.arange(layer, BITNET.ffn_size - 10 + layer) for layer in range(BITNET.num_layers)]
    cut = narrower(model, kept)
    for part, along in (("gate", 0), ("up", 0), ("down", 1)):
        before, after = (_ternary(one, f"layers.1.ffn.{part}") for one in (model, cut))
        assert np.array_equal(after.codes, before.codes.take(kept[1], axis=along))
        assert after.scales == before.scales
        assert cut.tensors[f"layers.1.ffn.{part}"].shape == after.shape


def _ternary(model: LoadedModel, name: str) -> TernaryTensor:
    weight = model.reference_weights[name]
    assert isinstance(weight, TernaryTensor)
    return weight


def test_a_text_says_which_neurons_speak(bitnet: Path) -> None:
    model = load_model(bitnet)
    ids = np.array(IDS[:12])
    by_text, by_weights = survey(model, [ids])[0], survey(model)[0]
    assert (by_text.unseen & ~by_text.silent).any()  # 12 tokens do not wake every neuron
    assert (by_text.energy[by_text.unseen] == 0).all()
    assert np.array_equal(by_weights.unseen, by_weights.silent)
    order = by_text.order()
    assert set(order[: by_text.silent.sum()]) == set(np.flatnonzero(by_text.silent))
    assert (np.diff(by_text.energy[order]) >= 0).all()


def test_what_is_unseen_changes_nothing_on_that_text(plain: Path, tmp_path: Path) -> None:
    """With SiLU only silent neurons give nothing; a share beyond them changes the model, and says so."""
    text = tmp_path / "text.txt"
    text.write_text(" ".join(TEXTS))
    more = prune(plain, tmp_path / "half.tercet", 0.5, text=text, text_tokens=64)
    assert not more.lossless
    assert (more.ffn_size, more.text_tokens > 60) == (PLAIN.ffn_size - PLAIN.ffn_size // 2, True)
    assert np.isfinite(logits(more.path)).all()
    least = np.abs(logits(more.path) - logits(plain)).mean()
    assert 0 < least < np.abs(logits(plain)).mean()


def test_a_model_in_full_precision_can_be_narrower(tmp_path: Path) -> None:
    config = dataclasses.replace(BITNET, quantize_activations=False, architecture="llama",
                                 attention_sub_norm=False, ffn_sub_norm=False, activation="silu")  # fmt: skip
    save_huggingface_folder(tmp_path / "folder", config, random_masters(config))
    done = prune(tmp_path / "folder", tmp_path / "narrow.tercet", 0.25)
    assert load_model(done.path).tensors["layers.0.ffn.down"].shape == (96, 156)


def test_what_cannot_be(bitnet: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="share must be from 0 to below 1, not 1"):
        prune(bitnet, tmp_path / "a.tercet", 1.0)
    with pytest.raises(ParameterError, match="as many neurons"):
        narrower(load_model(bitnet), [np.arange(3), np.arange(4), np.arange(3)])
    short = tmp_path / "short.txt"
    short.write_text("")
    with pytest.raises(ParameterError, match="give it a longer text"):
        prune(bitnet, tmp_path / "a.tercet", text=short)
    done = prune(bitnet, tmp_path / "b.tercet")
    with pytest.raises(StorageError, match="exists"):
        prune(bitnet, done.path)
    rotated = dataclasses.replace(load_model(bitnet), config=ROTATED)
    with pytest.raises(ParameterError, match="a rotated basis"):
        narrower(rotated, [np.arange(4)] * ROTATED.num_layers)
