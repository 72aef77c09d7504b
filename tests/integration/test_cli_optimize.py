"""`tercet optimize`, and levels and scenarios at the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from program import assert_refused, tercet
from tercet.models.profiles import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_with_its_arithmetic(scenario: str, tiny_model_file: Path) -> None:
    found = tercet("optimize", scenario, tiny_model_file, "--json")
    assert found.status == 0, found
    data = found.data
    plan, needs = data["memory_plan"], data["memory_plan"]["model"]
    place = SCENARIOS[scenario]
    assert plan["budget"] == place.memory_bytes
    fixed = needs["program"] + needs["weights"] + needs["scratch"]
    each = plan["num_blocks"] // plan["max_sequences"] * 16 * needs["kv_per_token"]
    each += needs["logits_per_sequence"]
    assert data["batch_size"] == min(place.priority.max_sequences, (plan["budget"] - fixed) // each)
    assert f"-> {data['batch_size']} at once" in data["batch_size_arithmetic"]
    assert data["settings"]["threads"] == min(place.threads, data["cores"])
    assert all(rate > 0 for rate in data["bandwidth"].values())
    fits = {fit["model"]: fit for fit in data["fits_mobile"]}
    assert fits["llama-tercet-tiny"]["context"] == 512
    assert fits["shape 700m"]["context"] > 128
    assert fits["shape 100b"]["context"] is None
    assert fits["shape 100b"]["weights_bytes"] > 10 << 30


def test_for_people() -> None:
    shown = tercet("optimize", "edge")
    assert shown.status == 0, shown
    for part in (
        "priority",
        "batch size",
        "llama-tercet-tiny",
        "Which models fit mobile",
        "measured",
        "GB/s",
    ):
        assert part in shown.out


def test_an_unknown_scenario_lists_the_four() -> None:
    assert_refused(tercet("optimize", "desk"), "'desk'", "mobile, edge, server, cloud")
    assert_refused(tercet("run", "Once", "--scenario", "desk"), "mobile, edge, server, cloud")
    assert_refused(tercet("run", "Once", "--level", "fast"), "baseline, optimized, aggressive")


def test_a_model_that_cannot_fit_is_refused_with_the_arithmetic() -> None:
    """A budget that nothing fits into, as if the telephone were smaller."""
    smaller = (
        "import dataclasses; from tercet.models import profiles; "
        "profiles.SCENARIOS = {'mobile': dataclasses.replace("
        "profiles.SCENARIOS['mobile'], memory_bytes=20 << 20)}"
    )
    for arguments in (("run", "Once", "--scenario", "mobile"), ("optimize", "mobile")):
        parts = ("does not fit into 20.0 MiB", " program + ", " weights + ", " scratch", "Choose a scenario")
        assert_refused(tercet(*arguments, first=smaller), *parts)


@pytest.mark.parametrize("options", [["--level", "aggressive", "--threads", "all"], ["--scenario", "mobile"]])
def test_run_takes_levels_and_scenarios(options: list[str]) -> None:
    told = tercet("run", "Once upon a time", "-n", "4", "--seed", "1", *options)
    assert told.status == 0, told
    assert told.out.strip()


def test_threads_are_a_number_or_all() -> None:
    refused = tercet("run", "Once", "--threads", "many")
    assert refused.status == 2
    assert "neither a whole number nor" in refused.err
