"""What training measured is what the file does: the PyTorch network and the engine give the same logits.

The way is the real one: a checkpoint folder is written by training, converted, and opened. With float
activations the two differ by float noise. With int8 activations a rounding at a tie may fall either way;
every code that differs is found, must lie at a tie, and after it is settled the engine's way the logits
must be equal again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'train') is not installed")

from tokenizers import Tokenizer  # noqa: E402

from random_decoders import logits_of, random_tokens  # noqa: E402
from stepwise_decoder import StepwiseDecoder  # noqa: E402
from tercet import _core  # noqa: E402
from tercet.conversion import convert  # noqa: E402
from tercet.kernels.decoder import Decoder  # noqa: E402
from tercet.models.config import ModelConfig  # noqa: E402
from tercet.models.loading import load_model  # noqa: E402
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
