"""What training measured is what the file does: the PyTorch network and the engine give the same logits.

The way is the real one: a checkpoint folder is written by training, converted, and opened. With float
activations the two differ by float noise. With int8 activations a rounding at a tie may fall either way;
every code that differs is found, must lie at a tie, and after it is settled the engine's way the logits
must be equal again.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'train') is not installed")

from tokenizers import Tokenizer  # noqa: E402

from random_decoders import logits_of, random_tokens  # noqa: E402
from stepwise_decoder import StepwiseDecoder  # noqa: E402
from tercet import _core  # noqa: E402
from tercet.conversion import convert  # noqa: E402
from tercet.formats.huggingface.quantization import OWN_CLASS  # noqa: E402
from tercet.kernels.decoder import Decoder  # noqa: E402
from tercet.models.config import ModelConfig  # noqa: E402
from tercet.models.loading import load_model  # noqa: E402
from tercet.models.rotation import Rotation  # noqa: E402
from tercet.reference import ReferenceDecoder  # noqa: E402
from tercet.training import bitlinear  # noqa: E402
from tercet.training.checkpoint import save_model_folder  # noqa: E402
from tercet.training.model import TernaryDecoder  # noqa: E402
from tiny_models import TINY_CONFIG, tiny_tokenizer_json  # noqa: E402

NUM_TOKENS = 40
CLEAR_MARGIN = 1.0


def trained(config: ModelConfig, seed: int) -> TernaryDecoder:
    """A network with random latent weights, spread so that logits differ clearly."""
    model = TernaryDecoder(config)
    model.initialize(seed)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(20.0)
    return model.eval()


def opened(model: TernaryDecoder, folder: Path) -> tuple[TernaryDecoder, Path]:
    folder.mkdir()
    save_model_folder(folder, model, Tokenizer.from_str(tiny_tokenizer_json().decode()))
    convert(folder, folder / "model.tercet", embedding_type="f32")
    return model, folder / "model.tercet"


def torch_logits(model: TernaryDecoder, tokens: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model.logits(torch.from_numpy(tokens.astype(np.int64))[None])[0].numpy())


def test_float_activations(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY_CONFIG, quantize_activations=False)
    model, file = opened(trained(dataclasses.replace(TINY_CONFIG), 1), tmp_path / "run")
    model.quantization.activation_rule = "none"
    loaded = load_model(file)
    tokens = random_tokens(config, NUM_TOKENS)
    ours, theirs = torch_logits(model, tokens), logits_of(Decoder(config, loaded.weights, 2), tokens)
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-3


WIDE = dataclasses.replace(TINY_CONFIG, hidden_size=48, num_heads=4, num_kv_heads=2, head_dim=12, ffn_size=64)
V2 = Rotation(
    block_size=16,
    inputs=tuple(f"layers.{layer}.{part}" for layer in (0, 1) for part in ("attention.o", "ffn.down")),
)
VARIANTS: dict[str, dict[str, Any]] = {
    "binary": {"weight_rule": "sign"},
    "v2": {"activation_rule": "int4", "rotation": V2},
    "a4.8": {"activation_rule": "int4_int8"},
    "weights alone": {"quantize_activations": False},
    "all at once": {
        "weight_rule": "sign",
        "activation_rule": "int4_int8",
        "rotation": V2,
        "activation": "silu",
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_folder_and_file_say_the_rules(name: str, tmp_path: Path) -> None:
    """A checkpoint of a variant is a model of that variant, and so is what it is converted to, and back."""
    config = dataclasses.replace(WIDE, **VARIANTS[name])
    model, file = opened(trained(config, 4), tmp_path / "run")
    convert(file, tmp_path / "back", to="huggingface", embedding_type="f32")
    tokens = random_tokens(config, NUM_TOKENS)
    ours = torch_logits(model, tokens)
    for path in (tmp_path / "run", file) + ((tmp_path / "back",) if config.quantize_activations else ()):
        loaded = load_model(path)
        assert loaded.config == config
        theirs = ReferenceDecoder(loaded.config, loaded.reference_weights).logits(tokens)
        assert np.abs(ours - theirs).max(axis=1).mean() < 1e-3 * theirs.std()
        engine = logits_of(Decoder(loaded.config, loaded.weights, 2), tokens)
        assert np.abs(ours - engine).max(axis=1).mean() < 1e-3 * theirs.std()
    described = json.loads((tmp_path / "run" / "config.json").read_text())["quantization_config"]
    assert described["linear_class"] == OWN_CLASS


def test_the_folder_of_the_float_twin_holds_floats(tmp_path: Path) -> None:
    model = TernaryDecoder(TINY_CONFIG, ternary=False)
    model.initialize(0)
    (tmp_path / "run").mkdir()
    save_model_folder(tmp_path / "run", model, Tokenizer.from_str(tiny_tokenizer_json().decode()))
    loaded, tokens = load_model(tmp_path / "run"), random_tokens(TINY_CONFIG, NUM_TOKENS)
    theirs = ReferenceDecoder(loaded.config, loaded.reference_weights).logits(tokens)
    np.testing.assert_allclose(torch_logits(model, tokens), theirs, atol=1e-4 * theirs.std())


@pytest.mark.parametrize("seed", range(3))
def test_int8_activations(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = opened(trained(TINY_CONFIG, seed), tmp_path / "run")
    loaded = load_model(file)
    tokens = random_tokens(TINY_CONFIG, NUM_TOKENS, seed)
    stepwise = StepwiseDecoder(TINY_CONFIG, loaded.weights, _core.available_isas()[-1])
    theirs = stepwise.logits(tokens)
    codes = list(stepwise.codes)

    def settled(activations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        factor = 127.0 / activations.abs().amax(dim=-1, keepdim=True).clamp(min=1e-5)
        ours, engine = (activations * factor).round(), torch.from_numpy(codes.pop(0)).float()[None]
        exact = (activations * factor)[ours != engine]
        assert ((exact - exact.floor() - 0.5).abs() < 1e-3).all()
        return engine, 1 / factor

    monkeypatch.setattr(bitlinear, "absmax_int8", settled)
    ours = torch_logits(model, tokens)
    assert not codes
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * theirs.std())
    sorted_logits = np.sort(theirs, axis=-1)
    clear = sorted_logits[:, -1] - sorted_logits[:, -2] > CLEAR_MARGIN
    assert clear.any()
    assert (ours.argmax(-1) == theirs.argmax(-1))[clear].all()
