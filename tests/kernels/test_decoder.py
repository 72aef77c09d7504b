"""The decoder in C++: the same bits however it is run, and the numbers of the reference."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_decoders import CONFIGS, GROUPED, Feeder, assert_same_bits, logits_of, packed_model, random_tokens
from tercet import _core
from tercet.formats.matrices import PackedMatrix
from tercet.kernels.decoder import Decoder
from tercet.models.random_weights import random_weights
from tercet.reference import ReferenceDecoder

ISAS = _core.available_isas()
MODELS = {name: packed_model(config) for name, config in CONFIGS.items()}
names = pytest.mark.parametrize("name", CONFIGS)


@names
@pytest.mark.parametrize("quantize", [True, False], ids=["int8", "float"])
@pytest.mark.parametrize("packing", ["two_bit", "five_per_byte"])
def test_every_isa_and_thread_count_gives_the_same_bits(name: str, quantize: bool, packing: str) -> None:
    config = dataclasses.replace(CONFIGS[name], quantize_activations=quantize)
    model = packed_model(config, packing)
    tokens = random_tokens(config, 37)
    expected = logits_of(Decoder(config, MODELS[name], 1, "reference"), tokens)
    for isa in ISAS:
        for threads in (1, 2, 3):
            assert_same_bits(logits_of(Decoder(config, model, threads, isa), tokens), expected)


@pytest.mark.parametrize("quantize", [True, False], ids=["int8", "float"])
def test_threads_share_every_step_of_a_wider_model_without_a_trace(quantize: bool) -> None:
    """The models above are so small that one thread does nearly everything; here every step is worth two."""
    config = dataclasses.replace(
        GROUPED, hidden_size=384, ffn_size=1000, num_layers=2, head_dim=64, quantize_activations=quantize
    )
    model = packed_model(config)
    tokens = random_tokens(config, 200)
    expected = logits_of(Decoder(config, model, 1), tokens)
    for threads in (2, 3, 5):
        assert_same_bits(logits_of(Decoder(config, model, threads), tokens), expected)


@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize("head_type", ["f32", "f16", "bf16"])
def test_every_storage_type_gives_the_same_bits_on_every_isa(dtype: str, head_type: str) -> None:
    model = packed_model(GROUPED, head_type=head_type)
    tokens = random_tokens(GROUPED, 21)
    expected = logits_of(Decoder(GROUPED, model, 1, "reference"), tokens, dtype=dtype)
    for isa in ISAS:
        assert_same_bits(logits_of(Decoder(GROUPED, model, 2, isa), tokens, dtype=dtype), expected)
    exact = logits_of(Decoder(GROUPED, MODELS["grouped"]), tokens)
    assert np.sqrt(np.mean((expected - exact) ** 2)) < 0.1 * np.std(exact)


@names
def test_prompts_may_be_cut_anywhere_and_blocks_have_any_size(name: str) -> None:
    config = CONFIGS[name]
    decoder = Decoder(config, MODELS[name], 2)
    tokens = random_tokens(config, 50)
    expected = logits_of(decoder, tokens)
    for block_tokens in (1, 7, 16, 64):
        for sizes in ([50], [1] * 50, [13, 1, 1, 30, 5]):
            feeder = Feeder(decoder, block_tokens)
            for end, size in zip(np.cumsum(sizes), sizes, strict=True):
                feeder.feed({"cut": tokens[end - size : end]})
            assert_same_bits(feeder.result("cut"), expected)


def test_a_long_prompt_in_one_call_equals_the_same_in_pieces() -> None:
    """More tokens than the decoder computes at a time."""
    decoder = Decoder(GROUPED, MODELS["grouped"], 2)
    tokens = random_tokens(GROUPED, 400)
    feeder = Feeder(decoder)
    for begin in range(0, 400, 90):
        feeder.feed({"pieces": tokens[begin : begin + 90]})
    assert_same_bits(feeder.result("pieces"), logits_of(decoder, tokens))


@settings(max_examples=25)
@given(data=st.data())
def test_a_sequence_does_not_see_who_shares_its_batch(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(CONFIGS)))
    config = CONFIGS[name]
    threads = data.draw(st.integers(1, 2))
    decoder = Decoder(config, MODELS[name], threads, data.draw(st.sampled_from(ISAS)))
    prompts = {
        f"sequence {i}": random_tokens(config, 24, seed=i) for i in range(data.draw(st.integers(2, 4)))
    }
    feeder = Feeder(decoder, block_tokens=data.draw(st.integers(1, 20)), num_blocks=4 * 24)
    fed = dict.fromkeys(prompts, 0)
    while any(count < 24 for count in fed.values()):
        unfinished = [who for who, count in fed.items() if count < 24]
        batch = data.draw(st.lists(st.sampled_from(unfinished), min_size=1, unique=True))
        sizes = {who: data.draw(st.integers(1, 24 - fed[who])) for who in batch}
        feeder.feed({who: prompts[who][fed[who] : fed[who] + size] for who, size in sizes.items()})
        for who, size in sizes.items():
            fed[who] += size
    for who, tokens in prompts.items():
        assert_same_bits(feeder.result(who), logits_of(Decoder(config, MODELS[name], 1, "reference"), tokens))


def test_sequences_may_share_the_blocks_of_a_common_beginning() -> None:
    decoder = Decoder(GROUPED, MODELS["grouped"], 2)
    common, left, right = (random_tokens(GROUPED, count, seed=count) for count in (16, 3, 5))
    feeder = Feeder(decoder)
    feeder.feed({"common": common})
    logits = decoder.forward(
        feeder.cache, [*left, *right], [0, 3, 8], [16, 16], [[0, 1], [0, 2]], list(range(8))
    )
    assert_same_bits(logits[:3], logits_of(decoder, [*common, *left])[16:])
    assert_same_bits(logits[3:], logits_of(decoder, [*common, *right])[16:])


def test_only_the_wanted_rows_come_in_the_wanted_order() -> None:
    decoder = Decoder(GROUPED, MODELS["grouped"])
    tokens = random_tokens(GROUPED, 20)
    every = logits_of(decoder, tokens)
    cache = Feeder(decoder).cache
    wanted = decoder.forward(cache, tokens, [0, 20], [0], [[0, 1]], [19, 3, 3])
    assert_same_bits(wanted, every[[19, 3, 3]])
    assert decoder.forward(cache, tokens, [0, 20], [0], [[0, 1]], []).shape == (0, GROUPED.vocab_size)


@names
def test_without_int8_activations_logits_are_the_reference_s(name: str) -> None:
    config = dataclasses.replace(CONFIGS[name], quantize_activations=False)
    tokens = random_tokens(config, 60)
    expected = ReferenceDecoder(config, random_weights(config)).logits(tokens)
    got = logits_of(Decoder(config, MODELS[name], 2), tokens)
    assert np.abs(got - expected).max() < 1e-3 * np.abs(expected).max()


@names
def test_with_int8_activations_logits_are_the_reference_s_but_for_ties(name: str) -> None:
    """Short prompts: an activation that rounds the other way touches its own and later tokens of its prompt.

    test_decoder_roundings.py finds each such activation.
    """
    config = CONFIGS[name]
    reference = ReferenceDecoder(config, dict(random_weights(config)))
    decoder = Decoder(config, MODELS[name], 2)
    prompts = [random_tokens(config, 4, seed) for seed in range(150)]
    expected = np.concatenate([reference.logits(tokens) for tokens in prompts])
    got = np.concatenate([logits_of(decoder, tokens) for tokens in prompts])
    row_error = np.abs(got - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert np.mean(row_error < 2e-3) >= 0.95
    assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 0.02


def test_a_scale_for_each_row() -> None:
    scales = np.random.default_rng(0).uniform(0.02, 0.2, GROUPED.ffn_size).astype(np.float32)
    model = MODELS["grouped"] | {
        name: dataclasses.replace(matrix, scales=scales)
        for name, matrix in MODELS["grouped"].items()
        if isinstance(matrix, PackedMatrix) and name.endswith(("gate", "up"))
    }
    weights = {
        name: matrix.unpack() if isinstance(matrix, PackedMatrix) else np.squeeze(matrix.float32())
        for name, matrix in model.items()
    }
    tokens = random_tokens(GROUPED, 30)
    for quantize in (True, False):
        config = dataclasses.replace(GROUPED, quantize_activations=quantize)
        got = logits_of(Decoder(config, model), tokens)
        expected = ReferenceDecoder(config, weights).logits(tokens)
        assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 0.02


def test_weights_stay_in_a_read_only_mapped_file(tmp_path: Path) -> None:
    model = {}
    for name, matrix in MODELS["grouped"].items():
        path = tmp_path / name
        path.write_bytes(matrix.data.tobytes())
        mapped = np.memmap(path, matrix.data.dtype, mode="r")
        model[name] = dataclasses.replace(matrix, data=mapped)
    tokens = random_tokens(GROUPED, 10)
    decoder = Decoder(GROUPED, model)
    del model, mapped  # the decoder keeps what it needs
    assert_same_bits(logits_of(decoder, tokens), logits_of(Decoder(GROUPED, MODELS["grouped"]), tokens))


def test_python_threads_may_share_a_decoder() -> None:
    decoder = Decoder(GROUPED, MODELS["grouped"], 2)
    prompts = [random_tokens(GROUPED, 40, seed) for seed in range(4)]
    expected = [logits_of(decoder, tokens) for tokens in prompts]
    got: list[np.ndarray | None] = [None] * 4

    def run(index: int) -> None:
        got[index] = logits_of(decoder, prompts[index])

    workers = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for mine, alone in zip(got, expected, strict=True):
        assert mine is not None
        assert_same_bits(mine, alone)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library's rounding modes by number are glibc's")
def test_rounding_modes_of_the_host_program_do_not_matter() -> None:
    decoder = Decoder(GROUPED, MODELS["grouped"], 2)
    feeder = Feeder(decoder)
    tokens = random_tokens(GROUPED, 30)
    expected = logits_of(decoder, tokens)
    libm = ctypes.CDLL("libm.so.6")
    upward = 0x800 if libm.fesetround(0x800) == 0 else 0x400000  # x86, aarch64
    libm.fesetround(upward)
    try:
        feeder.feed({"upward": tokens})
        assert libm.fegetround() == upward  # the program gets its own mode back
    finally:
        libm.fesetround(0)
    assert_same_bits(feeder.result("upward"), expected)


def test_nan_in_a_weight_reaches_the_logits() -> None:
    """Integers have no NaN: the scale of the activations carries it."""
    broken = MODELS["grouped"]["embedding"].data.copy()
    broken[5 * GROUPED.hidden_size + 3] = np.nan
    model = MODELS["grouped"] | {
        "embedding": dataclasses.replace(MODELS["grouped"]["embedding"], data=broken)
    }
    logits = logits_of(Decoder(GROUPED, model), [4, 5])
    assert np.isfinite(np.delete(logits[0], 5)).all()
    assert np.isnan(logits[1]).all()


def test_scratch_memory_grows_to_the_largest_step_and_stays() -> None:
    decoder = Decoder(GROUPED, MODELS["grouped"], 2)
    feeder = Feeder(decoder)
    feeder.feed({"long": random_tokens(GROUPED, 300)})
    feeder.feed({"long": random_tokens(GROUPED, 1)})  # one token, whose spans the threads share
    grown = decoder.scratch_bytes
    assert grown > 0
    for token in random_tokens(GROUPED, 50):
        feeder.feed({"short": [token]})
    assert decoder.scratch_bytes == grown
