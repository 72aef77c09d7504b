"""When two decoders agree: ours, in NumPy and in C++, with another program on the same files.

Activations unrounded: the relative error of all logits is under 1e-3 (it is some 1e-6: only the order of
sums differs).

Rounded to int8: an activation that lies at a tie may round the other way, which changes this token's logits
and those of later tokens that attend to it. A flip changes its sequence from there on, so many short
sequences say how rare flips are: at least 95 % of rows agree, and the rest is close. Then one long sequence
is computed with every code that differs shown to lie at a tie, and settled as the other side did; all its
rows agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from random_decoders import Feeder, logits_of
from stepwise_decoder import StepwiseDecoder
from tercet import _core
from tercet.kernels.decoder import Decoder, KvCache
from tercet.models.loading import LoadedModel, load_model
from tercet.quantization.activations import absmax_int8
from tercet.reference import ReferenceDecoder, linear

TOKENS = np.random.default_rng(2).integers(0, 200, 24)
PAIRS = np.random.default_rng(3).integers(0, 200, (60, 2))


class Other(Protocol):
    """Another program, on the same weights; `foreign_logits.Loaded` for one."""

    def logits(self, tokens: np.ndarray) -> np.ndarray: ...

    def unrounded_logits(self, tokens: np.ndarray) -> np.ndarray: ...

    def unrounded_state(self, tokens: np.ndarray) -> np.ndarray: ...

    def settled_logits(
        self, tokens: np.ndarray, settle: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray: ...


class Ours:
    """A model that `load_model` opens, its weights read once."""

    def __init__(self, path: Path) -> None:
        self.model: LoadedModel = load_model(path)
        self.config = self.model.config
        self._reference = dict(self.model.reference_weights)
        self._matrices = dict(self.model.weights)

    def reference(
        self,
        tokens: np.ndarray,
        rounded: bool | None = None,
        decoder: type[ReferenceDecoder] = ReferenceDecoder,
    ) -> np.ndarray:
        """float32 [tokens, vocab] of the decoder in NumPy, or one like it."""
        return decoder(self.config, self._reference, quantize_activations=rounded).logits(tokens)

    def core(self, tokens: np.ndarray, rounded: bool | None = None) -> np.ndarray:
        """float32 [tokens, vocab] of the decoder in C++, in pieces as a scheduler would feed them."""
        config = self.config
        if rounded is not None:
            config = dataclasses.replace(config, quantize_activations=rounded)
        feeder = Feeder(Decoder(config, self._matrices, threads=2))
        for part in np.array_split(tokens, 3):
            feeder.feed({"alone": part})
        return feeder.result("alone")

    def core_of_each(self, sequences: np.ndarray) -> np.ndarray:
        """float32 [sequences, tokens, vocab], all in one batch."""
        feeder = Feeder(Decoder(self.config, self._matrices, threads=2), num_blocks=len(sequences))
        feeder.feed({str(index): sequence for index, sequence in enumerate(sequences)})
        return np.stack([feeder.result(str(index)) for index in range(len(sequences))])

    def embeddings(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The vector of an embedding model, float32 [hidden], activations unrounded: NumPy's and C++'s."""
        config = dataclasses.replace(self.config, quantize_activations=False)
        decoder = Decoder(config, self._matrices, threads=2)
        cache = KvCache(decoder, num_blocks=1, block_tokens=len(tokens))
        last = len(tokens) - 1
        state = decoder.hidden_states(cache, tokens, [0, len(tokens)], [0], [[0]], [last])[0]
        return ReferenceDecoder(config, self._reference).embed(tokens), state / np.linalg.norm(state)

    def stepwise(self, tokens: np.ndarray) -> StepwiseDecoder:
        """The C++ decoder kernel by kernel, run on these tokens: it has the codes. Its logits are checked to
        be the decoder's, bit for bit."""
        stepwise = StepwiseDecoder(self.config, self._matrices, _core.available_isas()[-1])
        np.testing.assert_array_equal(
            stepwise.logits(tokens), logits_of(Decoder(self.config, self._matrices), tokens)
        )
        return stepwise


class Settlement:
    """Two decoders that round: one goes first and its codes are kept, the other takes them where it is at a
    tie itself, and only there."""

    def __init__(self) -> None:
        self.codes: list[np.ndarray] = []
        """Of the first decoder, in the order of its linear layers."""
        self.num_flipped = 0
        self.num_codes = 0

    def record(self, activations: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """Round as the first decoder."""
        codes = np.rint(activations * factors).astype(np.int8)
        self.codes.append(codes)
        return codes

    def settle(self, activations: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """Round as the second decoder, with the first one's choice at a tie."""
        ours, theirs = np.rint(activations * factors).astype(np.int8), self.codes.pop(0)
        tokens, columns = np.nonzero(ours != theirs)
        exact = activations[tokens, columns].astype(np.float64) * factors[tokens, 0]
        assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).max(initial=0) < 1e-3
        self.num_flipped += len(tokens)
        self.num_codes += ours.size
        return theirs

    def finish(self) -> None:
        """All codes are used up, and hardly any was at a tie."""
        assert not self.codes
        assert self.num_codes > 0
        assert self.num_flipped < 1e-3 * self.num_codes


def assert_unrounded_agreement(ours: Ours, other: Other) -> None:
    """Logits agree, activations as they are."""
    theirs = other.unrounded_logits(TOKENS)
    assert theirs.std() > 0.5
    for found in (ours.reference(TOKENS, rounded=False), ours.core(TOKENS, rounded=False)):
        assert np.linalg.norm(found - theirs) < 1e-3 * np.linalg.norm(theirs)
        np.testing.assert_allclose(found, theirs, atol=1e-4 * theirs.std())


def assert_same_embedding(ours: Ours, other: Other) -> None:
    """The last token's final state, of length 1, activations as they are."""
    theirs = other.unrounded_state(TOKENS)
    for found in ours.embeddings(TOKENS):
        np.testing.assert_allclose(found, theirs / np.linalg.norm(theirs), atol=1e-5)


def assert_rounded_agreement(ours: Ours, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits agree, activations rounded to int8."""
    assert ours.config.quantize_activations
    theirs = other.logits(PAIRS)
    spread = theirs.std()
    assert spread > 0.5
    for found in (np.stack([ours.reference(pair) for pair in PAIRS]), ours.core_of_each(PAIRS)):
        rows = np.abs(found - theirs).max(axis=-1)
        assert np.mean(rows < 2e-3) >= 0.95, f"{np.mean(rows < 2e-3):.3f} of the rows agree"
        assert np.sqrt(np.mean((found - theirs) ** 2)) < 0.02 * spread
    assert_settled_agreement(ours, other, monkeypatch)


def assert_settled_agreement(ours: Ours, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """All logits agree once every code that differs was shown to lie at a tie."""
    assert ours.config.quantize_activations
    _assert_settled_reference(ours, other, monkeypatch)
    _assert_settled_core(ours, other)


def _assert_settled_reference(ours: Ours, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference, at a tie, rounds as the other program did."""
    settlement = Settlement()
    theirs = other.settled_logits(TOKENS, settlement.record)

    def settled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, scales = absmax_int8(x)
        return settlement.settle(x, 1 / scales[:, None]), scales

    with monkeypatch.context() as patch:
        patch.setattr(linear, "absmax_int8", settled)
        found = ours.reference(TOKENS)
    settlement.finish()
    np.testing.assert_allclose(found, theirs, atol=1e-4 * theirs.std())


def _assert_settled_core(ours: Ours, other: Other) -> None:
    """The other program, at a tie, rounds as C++ did."""
    settlement = Settlement()
    stepwise = ours.stepwise(TOKENS)
    settlement.codes = list(stepwise.codes)
    theirs = other.settled_logits(TOKENS, settlement.settle)
    settlement.finish()
    found = ours.core(TOKENS)
    np.testing.assert_allclose(found, theirs, atol=1e-4 * theirs.std())
