"""A memory budget: its arithmetic against real sizes, and its refusals."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from program import environment
from tercet import LLM, MemoryLimitError
from tercet.bench.model_store import write_random_model
from tercet.bench.random_model import RandomModel
from tercet.engine.memory_plan import (
    BLOCK_TOKENS,
    KV_TYPES,
    ModelMemory,
    kv_bytes_per_token,
    plan_memory,
    scratch_bound,
    weights_bytes,
)
from tercet.kernels.decoder import Decoder, KvCache
from tercet.models.loading import load_model
from tercet.models.shapes import shape
from tiny_models import TINY_CONFIG

KIB = 1 << 10
NEEDS = ModelMemory(program=100, weights=500, scratch=50, kv_per_token=2, logits_per_sequence=8)


def test_the_budget_is_spent_on_sequences() -> None:
    plan = plan_memory(NEEDS, budget=650 + 3 * (256 * 2 + 8) + 519, own_context=256, most_sequences=16)
    assert (plan.context, plan.max_sequences) == (256, 3)
    assert plan.num_blocks == 3 * 256 // BLOCK_TOKENS
    assert plan.model.fixed + plan.max_sequences * plan.model.sequence(256) <= plan.budget


def test_no_more_sequences_than_the_priority_wants() -> None:
    assert plan_memory(NEEDS, budget=1_000_000, own_context=256, most_sequences=4).max_sequences == 4


def test_a_long_context_is_shortened_to_what_fits_unless_it_was_asked_for() -> None:
    plan = plan_memory(NEEDS, budget=650 + 1000, own_context=4096, most_sequences=4)
    assert plan.context == (1000 - 8) // 2 // BLOCK_TOKENS * BLOCK_TOKENS
    assert plan.max_sequences == 1
    with pytest.raises(MemoryLimitError, match=r"one context of 4096 tokens .* Ask for a shorter context"):
        plan_memory(NEEDS, budget=650 + 1000, own_context=4096, most_sequences=4, asked_context=4096)


def test_a_model_that_cannot_fit_is_refused_with_the_arithmetic() -> None:
    large = ModelMemory(70 << 20, 1000 << 20, 10 << 20, 1 << 10, 1 << 20)
    with pytest.raises(MemoryLimitError) as refused:
        plan_memory(large, budget=512 << 20, own_context=4096, most_sequences=4)
    told = str(refused.value)
    for part in ("512.0 MiB", "70.0 MiB program", "1000.0 MiB weights", "10.0 MiB scratch", "1081.1 MiB"):
        assert part in told
    assert told.endswith("Choose a scenario with more memory, or a smaller model.")


@pytest.mark.parametrize("kv_dtype", KV_TYPES)
def test_bytes_of_keys_and_values_are_those_of_the_cache(kv_dtype: str) -> None:
    weights = dict(RandomModel(TINY_CONFIG, "two_bit", "f16", 0))
    cache = KvCache(Decoder(TINY_CONFIG, weights), 7, BLOCK_TOKENS, kv_dtype)
    assert cache.nbytes == 7 * BLOCK_TOKENS * kv_bytes_per_token(TINY_CONFIG, kv_dtype)


def test_bytes_of_weights_are_those_of_the_matrices(tiny_model_file: Path, tiny_model_folder: Path) -> None:
    for path in (tiny_model_file, tiny_model_folder):
        loaded = load_model(path)
        real = 0
        for matrix in loaded.weights.values():
            scales = getattr(matrix, "scales", np.empty(0, np.float32))
            real += matrix.data.nbytes + scales.nbytes
        assert weights_bytes(loaded.config, loaded.tensors) == real, path


@pytest.mark.parametrize(("name", "threads"), [("tiny", 1), ("tiny", 2)])
def test_scratch_memory_stays_below_its_bound(name: str, threads: int) -> None:
    """After the largest step that there is, with logits of every token."""
    config = dataclasses.replace(shape(name), num_layers=1, vocab_size=512)
    for packing in ("two_bit", "five_per_byte"):
        decoder = Decoder(config, dict(RandomModel(config, packing, "f16", 0)), threads=threads)
        cache = KvCache(decoder, 32, BLOCK_TOKENS)
        blocks = np.arange(32, dtype=np.int32).reshape(1, -1)
        for count in (1, 100, 300, 512):
            decoder.forward(cache, np.zeros(count, np.int32), [0, count], [0], blocks, np.arange(count))
        assert 0 < decoder.scratch_bytes <= scratch_bound(config, threads)


def test_the_process_stays_within_the_memory_of_a_scenario() -> None:
    """In a process of its own: what a test process holds besides is not the model's."""
    program = (
        "from tercet import LLM\n"
        "llm = LLM(scenario='mobile')\n"
        "llm.generate(['Once upon a time'] * 9, max_tokens=40, ignore_eos=True)\n"
        "plan = llm.memory_plan\n"
        "print(llm.memory_usage().peak_resident_bytes, plan.budget, plan.max_sequences, plan.num_blocks,"
        " llm.engine.pool.num_blocks, llm.engine.limits.max_sequences)"
    )
    shown = subprocess.check_output([sys.executable, "-c", program], env=environment(), timeout=120)
    peak, budget, sequences, blocks, real_blocks, real_sequences = map(int, shown.split())
    assert peak <= budget == 512 << 20
    assert (sequences, blocks) == (real_sequences, real_blocks)


def test_weights_on_huge_pages_count_once(tmp_path: Path) -> None:
    config = dataclasses.replace(shape("125m"), num_layers=4)
    path = tmp_path / "model.tercet"
    write_random_model(path, config, "two_bit", "f32")
    program = (
        "import sys; from pathlib import Path; from tercet.engine.opening import load_for, open_engine\n"
        "from tercet.models.profiles import engine_settings\n"
        "settings = engine_settings(2, scenario='mobile', weights_memory=sys.argv[2])\n"
        "opened = open_engine(load_for(Path(sys.argv[1]), settings), settings)\n"
        "print(opened.memory_plan.model.program, opened.memory_plan.model.weights)"
    )
    found = {}
    for memory in ("mapped", "huge"):
        command = [sys.executable, "-c", program, str(path), memory]
        found[memory] = [int(part) for part in subprocess.check_output(command, env=environment()).split()]
    assert found["mapped"][1] == found["huge"][1] > 90 << 20
    assert abs(found["mapped"][0] - found["huge"][0]) < 16 << 20


def test_llm_refuses_before_it_reads_the_weights(
    tiny_model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enormous(*arguments: object) -> int:
        return 3 << 30

    monkeypatch.setattr("tercet.engine.memory_plan.weights_bytes", enormous)
    monkeypatch.setattr("tercet.engine.opening.make_decoder", None)  # whoever makes one fails
    with pytest.raises(MemoryLimitError, match=r"does not fit into 2048.0 MiB: .* 3072.0 MiB weights"):
        LLM(tiny_model_file, scenario="server")
