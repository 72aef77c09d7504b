"""Adapters in the decoder: the numbers of the reference, and the same bits whoever shares the batch."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from random_adapters import pairs_of, random_adapter
from random_decoders import CONFIGS, GROUPED, assert_same_bits, logits_of, packed_model, random_tokens
from tercet import _core
from tercet.errors import ParameterError
from tercet.kernels.adapter import MATRICES, Adapter, AdapterUse
from tercet.kernels.decoder import Decoder, KvCache
from tercet.models.random_weights import random_weights
from tercet.reference import ReferenceDecoder

Logits = npt.NDArray[np.float32]
MODEL = packed_model(GROUPED)
TOKENS = random_tokens(GROUPED, 23)
BLOCKS = 4


def compute(
    decoder: Decoder,
    sequences: Sequence[Sequence[int] | npt.NDArray[np.int32]],
    uses: Sequence[AdapterUse] = (),
    hidden_states: bool = False,
) -> list[Logits]:
    """Logits of whole sequences in one call."""
    step: Callable[..., Logits] = decoder.hidden_states if hidden_states else decoder.forward
    starts = np.cumsum([0, *map(len, sequences)])
    tables = np.arange(BLOCKS * len(sequences), dtype=np.int32).reshape(-1, BLOCKS)
    logits = step(
        KvCache(decoder, BLOCKS * len(sequences), 16),
        np.concatenate([np.asarray(ids, np.int32) for ids in sequences]),
        starts,
        np.zeros(len(sequences), np.int32),
        tables,
        np.arange(starts[-1]),
        adapters=uses,
    )
    return [logits[begin:end] for begin, end in itertools.pairwise(starts)]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("quantize", [True, False], ids=["int8", "float"])
def test_logits_are_those_of_the_reference(name: str, quantize: bool) -> None:
    config = dataclasses.replace(CONFIGS[name], quantize_activations=quantize)
    tokens = random_tokens(config, 19)
    added = random_adapter(config)
    decoder = Decoder(config, packed_model(config), 1)
    [found] = compute(decoder, [tokens], [AdapterUse(0, Adapter(decoder, pairs_of(added)))], True)
    reference = ReferenceDecoder(config, random_weights(config), adapter=added)
    plain = ReferenceDecoder(config, random_weights(config)).hidden_states(tokens)
    expected = reference.hidden_states(tokens)
    assert np.abs(expected - plain).mean() > 0.1 * np.abs(plain).mean()
    # A value may round to its neighbour in int8 where sums are added in another order.
    tolerance = 0.05 if quantize else 1e-3
    assert np.abs(found - expected).mean() < tolerance * np.abs(expected).mean()


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("name", ["grouped", "rotated", "gemma3"])
def test_every_isa_and_thread_count_gives_the_same_bits(name: str, kind: str) -> None:
    config = CONFIGS[name]
    model, tokens = packed_model(config), random_tokens(config, 21)
    pairs = pairs_of(random_adapter(config), kind)

    def found(threads: int, isa: str) -> Logits:
        decoder = Decoder(config, model, threads, isa)
        return compute(decoder, [tokens], [AdapterUse(0, Adapter(decoder, pairs))])[0]

    expected = found(1, "reference")
    for isa in _core.available_isas():
        for threads in (1, 3):
            assert_same_bits(found(threads, isa), expected)


def test_a_large_adapter_is_shared_by_threads_without_a_trace() -> None:
    config = dataclasses.replace(GROUPED, hidden_size=384, ffn_size=1000, num_layers=1, head_dim=64)
    model, tokens = packed_model(config), random_tokens(config, 60)
    pairs = pairs_of(random_adapter(config, rank=32))
    found = []
    for threads in (1, 2, 5):
        decoder = Decoder(config, model, threads)
        found.append(compute(decoder, [tokens], [AdapterUse(0, Adapter(decoder, pairs))])[0])
    assert_same_bits(found[1], found[0])
    assert_same_bits(found[2], found[0])


def test_sequences_of_different_adapters_share_a_batch_without_a_trace() -> None:
    decoder = Decoder(GROUPED, MODEL, 2)
    first, second = (
        Adapter(decoder, pairs_of(random_adapter(GROUPED, rank, seed))) for rank, seed in ((4, 1), (16, 2))
    )
    own = [[], [(first, 1.0)], [(second, 1.0)], [(first, 0.5), (second, -2.0)], [(first, 1.0)], []]
    sequences = [random_tokens(GROUPED, 3 + 7 * index, index) for index in range(len(own))]
    uses = [AdapterUse(i, adapter, weight) for i, some in enumerate(own) for adapter, weight in some]
    together = compute(decoder, sequences, uses[::-1])
    for index, (tokens, some) in enumerate(zip(sequences, own, strict=True)):
        [alone] = compute(decoder, [tokens], [AdapterUse(0, adapter, weight) for adapter, weight in some])
        assert_same_bits(together[index], alone)
    assert not np.array_equal(compute(decoder, [sequences[1]])[0], together[1])


def test_an_adapter_of_zeros_changes_no_bit() -> None:
    decoder = Decoder(GROUPED, MODEL, 1)
    zero = Adapter(decoder, pairs_of(random_adapter(GROUPED, strength=0.0)))
    expected = logits_of(decoder, TOKENS)
    assert_same_bits(compute(decoder, [TOKENS], [AdapterUse(0, zero)])[0], expected)
    full = Adapter(decoder, pairs_of(random_adapter(GROUPED)))
    assert_same_bits(compute(decoder, [TOKENS], [AdapterUse(0, full, 0.0)])[0], expected)
    assert_same_bits(compute(decoder, [TOKENS], [AdapterUse(0, Adapter(decoder, {}))])[0], expected)


@pytest.mark.parametrize("part", MATRICES)
def test_an_adapter_may_be_of_one_matrix_alone(part: str) -> None:
    added = random_adapter(GROUPED, parts=[part])
    decoder = Decoder(GROUPED, MODEL, 1)
    [found] = compute(decoder, [TOKENS], [AdapterUse(0, Adapter(decoder, pairs_of(added)))])
    expected = ReferenceDecoder(GROUPED, random_weights(GROUPED), adapter=added).logits(TOKENS)
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).mean()
    assert not np.array_equal(found, logits_of(decoder, TOKENS))


def test_what_does_not_fit_is_refused() -> None:
    decoder = Decoder(GROUPED, MODEL, 1)
    pairs = pairs_of(random_adapter(GROUPED))
    wide = dataclasses.replace(GROUPED, ffn_size=224)
    other = Decoder(wide, packed_model(wide), 1)
    with pytest.raises(
        ParameterError, match=r"B of layers\.0\.ffn\.gate should be \[208, 5\], got \[224, 5\]"
    ):
        Adapter(decoder, pairs_of(random_adapter(wide, parts=["gate"])))
    with pytest.raises(ParameterError, match=r"A of layers\.0\.ffn\.down should be \[rank, 208\]"):
        Adapter(decoder, pairs_of(random_adapter(wide, parts=["down"])))
    with pytest.raises(ParameterError, match="below 3 and 7"):
        Adapter(decoder, {"layers.3.attention.q": pairs["layers.0.attention.q"]})
    for name in ("final_norm", "layers.0.attention.x", "layers.-1.attention.q"):
        with pytest.raises(ParameterError, match="is no matrix of a layer"):
            Adapter(decoder, {name: pairs["layers.0.attention.q"]})
    infinite = dataclasses.replace(pairs["layers.0.attention.q"], scale=float("inf"))
    with pytest.raises(ParameterError, match="finite"):
        Adapter(decoder, {"layers.0.attention.q": infinite})
    adapter = Adapter(decoder, pairs)
    with pytest.raises(ParameterError, match="made for this decoder"):
        compute(other, [TOKENS], [AdapterUse(0, adapter)])
    with pytest.raises(ParameterError, match="of a sequence below 1, got 1"):
        compute(decoder, [TOKENS], [AdapterUse(1, adapter)])
    with pytest.raises(ParameterError, match="of finite weight"):
        compute(decoder, [TOKENS], [AdapterUse(0, adapter, float("nan"))])
    with pytest.raises(ParameterError, match="another adapter than the sequence has already"):
        compute(decoder, [TOKENS], [AdapterUse(0, adapter), AdapterUse(0, adapter)])
