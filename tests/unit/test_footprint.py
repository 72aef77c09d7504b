"""Energy and CO2 of a history: what was measured has a price, what was not has none."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tercet.bench.full_precision import in_floats, measure_precisions
from tercet.cli.monitor import app
from tercet.errors import ParameterError
from tercet.models.loading import load_model
from tercet.models.registry import resolve
from tercet.monitoring.footprint import footprint, grams_of_co2
from tercet.monitoring.history import History
from tercet.monitoring.snapshots import Snapshot
from tercet.monitoring.spans import Span

NOW = time.time()
MEASURED = Snapshot(time=NOW - 10, period_seconds=60, requests=4, generated_tokens=2_000, energy_joules=900.0)
UNMEASURED = Snapshot(time=NOW - 5, period_seconds=60, requests=1, generated_tokens=500)


def test_only_measured_windows_have_a_price() -> None:
    found = footprint([Span.of(MEASURED), Span.of(UNMEASURED)], 1, 400)
    assert (found["generated_tokens"], found["requests"]) == (2_000, 4)
    assert (found["measured_seconds"], found["recorded_seconds"]) == (60, 120)
    assert found["joules_per_1000_tokens"] == 450
    assert found["co2_grams"] == pytest.approx(900 / 3.6e6 * 400)
    assert found["co2_grams_per_1000_tokens"] == pytest.approx(0.05)
    none = footprint([Span.of(UNMEASURED)], 1, 400)
    assert none["source"] == "not measured"
    assert {none[key] for key in ("joules", "joules_per_1000_tokens", "co2_grams", "generated_tokens")} == {
        None
    }
    assert footprint([Span.of(MEASURED)], 1)["co2_grams"] is None


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_an_intensity_is_a_number_from_0(wrong: float) -> None:
    with pytest.raises(ParameterError, match="grams of CO2"):
        grams_of_co2(1.0, wrong)


def test_the_report_of_a_history(tmp_path: Path) -> None:
    for name, snapshots in {"measured": [MEASURED, UNMEASURED], "unmeasured": [UNMEASURED]}.items():
        history = History(tmp_path / name)
        for one in snapshots:
            history.add(one)
        history.close()
    run = CliRunner().invoke
    told = run(app, ["energy", "--history", str(tmp_path / "measured"), "--grid-intensity", "400"])
    assert told.exit_code == 0
    assert "450.0 J for a thousand tokens" in told.stdout
    assert "0.05 g for a thousand tokens" in told.stdout
    told = run(app, ["energy", "--history", str(tmp_path / "measured")])
    assert "state the grid's intensity" in told.stdout
    told = run(app, ["energy", "--history", str(tmp_path / "unmeasured"), "--grid-intensity", "400"])
    assert "energy: not measured" in told.stdout
    assert "CO2: not measured" in told.stdout
    told = run(app, ["energy", "--history", str(tmp_path / "measured"), "--hours", "0.0001"])
    assert "nothing was recorded" in told.stdout
    options = ["--compare", "llama-tercet-tiny", "--tokens", "4", "--json"]
    content = json.loads(run(app, ["energy", "--history", str(tmp_path / "measured"), *options]).stdout)
    assert [row["precision"] for row in content["comparison"]] == ["ternary", "bf16"]
    assert all(row["milliseconds_per_token"] > 0 for row in content["comparison"])


def test_full_precision_is_the_same_values_in_floats() -> None:
    loaded = load_model(resolve())
    dense = in_floats(loaded, "f32")
    name = next(name for name, info in loaded.tensors.items() if info.granularity is not None)
    ternary = loaded.reference_weights[name]
    np.testing.assert_array_equal(dense.weights[name].float32(), ternary.dequantize())
    assert list(dense.weights) == list(loaded.weights)
    with pytest.raises(ParameterError, match="a float type is one of"):
        measure_precisions(resolve(), type_name="int3")
    with pytest.raises(ParameterError, match="do not fit"):
        measure_precisions(resolve(), tokens=10**6)
