"""Where C++ and NumPy differ with int8 activations, a rounding fell the other way, and nothing else happened.

Both compute the same float values up to the order of sums, so an activation that lies at a tie between two
integers may become either. That changes the logits of its token, and of later tokens that attend to it, by
more than float noise. Here every such activation is found: the C++ decoder is rebuilt from its kernels, bit
for bit, to learn its codes; the reference then checks that a code of its own that differs lies at a tie,
takes the other one, and must end at the same logits.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from random_decoders import CONFIGS, assert_same_bits, logits_of, packed_model, random_tokens
from stepwise_decoder import StepwiseDecoder
from tercet import _core
from tercet.kernels.decoder import Decoder
from tercet.models.random_weights import random_weights
from tercet.quantization.activations import absmax_int8
from tercet.reference import ReferenceDecoder, linear


class Settlement:
    """Stands in for the reference's `absmax_int8`: rounds as C++ did where the value is at a tie."""

    def __init__(self, codes: list[np.ndarray]) -> None:
        self.codes = list(codes)
        self.num_flipped = 0
        self.num_codes = 0

    def absmax_int8(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ours, scales = absmax_int8(x)
        theirs = self.codes.pop(0)
        tokens, columns = np.nonzero(ours != theirs)
        exact = x[tokens, columns].astype(np.float64) / scales[tokens]
        assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).max(initial=0) < 1e-3
        self.num_flipped += len(tokens)
        self.num_codes += ours.size
        return theirs, scales


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("quantize", [True, False], ids=["int8", "float"])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_decoder_is_the_sum_of_its_kernels(name: str, quantize: bool, isa: str) -> None:
    config, model = (
        dataclasses.replace(CONFIGS[name], quantize_activations=quantize),
        packed_model(CONFIGS[name]),
    )
    tokens = random_tokens(config, 18)
    assert_same_bits(
        StepwiseDecoder(config, model, isa).logits(tokens), logits_of(Decoder(config, model, 2, isa), tokens)
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", CONFIGS)
def test_every_difference_is_a_tie(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config, model = CONFIGS[name], packed_model(CONFIGS[name], seed=seed)
    tokens = random_tokens(config, 30, seed)
    stepwise = StepwiseDecoder(config, model, _core.available_isas()[-1])
    theirs = stepwise.logits(tokens)
    settlement = Settlement(stepwise.codes)
    monkeypatch.setattr(linear, "absmax_int8", settlement.absmax_int8)
    ours = ReferenceDecoder(config, random_weights(config, seed)).logits(tokens)
    assert not settlement.codes
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * theirs.std())
    assert settlement.num_flipped < 1e-4 * settlement.num_codes
