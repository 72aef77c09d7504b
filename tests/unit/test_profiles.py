"""Levels and scenarios: names become settings, and the settings reach the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet import LLM, ParameterError
from tercet.engine.memory_plan import KV_TYPES
from tercet.engine.processors import available_cores
from tercet.formats.weights_memory import WEIGHTS_MEMORY
from tercet.kernels.decoder import HEADS
from tercet.models.profiles import LEVELS, SCENARIOS, engine_settings

MIB = 1 << 20


@pytest.mark.parametrize(
    ("level", "cores", "threads"),
    [
        ("baseline", 64, 1),
        ("optimized", 2, 2),
        ("optimized", 64, 4),
        ("aggressive", 6, 6),
        ("aggressive", 64, 8),
        (None, 64, 4),
    ],
)
def test_a_level_takes_threads_where_there_are_cores(level: str | None, cores: int, threads: int) -> None:
    assert engine_settings(cores, level).threads == threads


@pytest.mark.parametrize(
    ("scenario", "threads", "mebibytes", "priority"),
    [
        ("mobile", 2, 512, "latency"),
        ("edge", 4, 1024, "efficiency"),
        ("server", 8, 2048, "throughput"),
        ("cloud", 16, 4096, "scalability"),
    ],
)
def test_the_four_scenarios(scenario: str, threads: int, mebibytes: int, priority: str) -> None:
    settings = engine_settings(64, scenario=scenario)
    assert (settings.threads, settings.memory_bytes) == (threads, mebibytes * MIB)
    place = SCENARIOS[scenario]
    assert place.priority.name == priority
    assert (settings.max_sequences, settings.max_step_tokens) == (
        place.priority.max_sequences,
        place.priority.max_step_tokens,
    )
    assert engine_settings(2, scenario=scenario).threads == 2  # never more than there are cores


def test_what_the_caller_names_wins_over_scenario_and_that_over_level() -> None:
    assert engine_settings(64, "baseline", "edge").threads == 4
    assert engine_settings(64, "baseline", "edge").kv_dtype == SCENARIOS["edge"].kv_dtype
    assert engine_settings(64, "baseline", "edge").level == "baseline"
    assert engine_settings(64, "baseline", "edge", threads=3, kv_dtype="f32").threads == 3
    assert engine_settings(64, "aggressive", threads="all").threads == 64
    assert engine_settings(2, "aggressive", threads=5).threads == 5  # as it was asked for
    assert engine_settings(64, "aggressive", kv_dtype="f32").kv_dtype == "f32"


@pytest.mark.parametrize("threads", ["many", 0, -1, True])
def test_threads_that_cannot_be(threads: int | str) -> None:
    with pytest.raises(ParameterError, match="threads must be a whole number from 1, or 'all'"):
        engine_settings(4, threads=threads)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ParameterError, match="no level 'fast'; there are baseline, optimized, aggressive"):
        engine_settings(4, "fast")
    with pytest.raises(ParameterError, match="'desk'; there are mobile, edge, server, cloud"):
        engine_settings(4, scenario="desk")


def test_profiles_name_what_the_engine_knows() -> None:
    assert {level.weights_memory for level in LEVELS.values()} <= set(WEIGHTS_MEMORY)
    assert {level.head for level in LEVELS.values()} <= set(HEADS)
    assert {level.kv_dtype for level in LEVELS.values()} <= set(KV_TYPES)
    assert {place.kv_dtype for place in SCENARIOS.values()} <= set(KV_TYPES)


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_reaches_the_engine(tiny_model_file: Path, level: str) -> None:
    with LLM(tiny_model_file, level=level) as llm:
        assert llm.settings.level == level
        assert llm.threads == min(available_cores(), LEVELS[level].max_threads)
        runner = llm.engine.runner
        assert runner.decoder.threads == llm.threads
        assert runner.decoder.head == LEVELS[level].head
        assert runner.cache.dtype == LEVELS[level].kv_dtype
        assert llm.generate("Once", max_tokens=4, ignore_eos=True).generated_tokens == 4


def test_the_same_text_at_every_level_with_exact_keys_and_values(tiny_model_file: Path) -> None:
    texts = set()
    for level in LEVELS:
        with LLM(tiny_model_file, level=level, kv_dtype="f32") as llm:
            texts.add(llm.generate("Once upon", max_tokens=16, temperature=0, ignore_eos=True).text)
    assert len(texts) == 1
