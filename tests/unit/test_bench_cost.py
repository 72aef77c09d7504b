"""What a load costs: by hand, from a report, and with values that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tercet.bench.cost import Load, Prices, Speed, monthly_cost
from tercet.cli.app import app
from tercet.errors import FormatError, ParameterError

SPEED = Speed(prompt_tokens_per_second=400.0, answer_tokens_per_second=100.0, each_tokens_per_second=10.0)


def report(*rows: dict[str, float]) -> dict[str, Any]:
    return {"benchmark": "load", "rows": list(rows)}


def row(sequences: int, in_all: float, each: float) -> dict[str, float]:
    return {
        "sequences": sequences,
        "tokens_per_second": in_all,
        "tokens_per_second_each": each,
        "prompt_tokens": 64,
        "tokens_each": 32,
    }


def test_a_load_by_hand() -> None:
    """400/400 + 200/100 = 3 s; 3600/3 · 0.5 = 600 an hour; the busiest has 1,200: two machines."""
    load = Load(12_000, prompt_tokens=400, answer_tokens=200, busiest_hour=0.1, use=0.5, spare_machines=1)
    cost = monthly_cost(SPEED, load, Prices(machine_hour=1.0, people_a_month=100.0))
    assert (cost.seconds_a_request, cost.requests_an_hour, cost.machines) == (3.0, 600.0, 3)
    assert cost.a_month == 3 * 730 + 100
    assert cost.a_thousand_requests == pytest.approx(2290 / 365)  # 12,000 a day are 365,000 a month
    assert cost.a_million_answer_tokens == pytest.approx(2290 / 73)
    assert cost.break_even_requests_per_day is None  # there is no API to compare with


def test_a_machine_of_ones_own_costs_its_price_and_its_power() -> None:
    prices = Prices(machine=960.0, machine_months=48, watts=100, kilowatt_hour=0.30)
    assert monthly_cost(SPEED, Load(), prices).a_month == pytest.approx(20 + 21.9)


def test_at_the_break_even_both_cost_the_same() -> None:
    prices = Prices(machine_hour=0.01, api_million_prompt_tokens=1.0, api_million_answer_tokens=2.0)
    found = monthly_cost(SPEED, Load(), prices).break_even_requests_per_day
    assert found is not None
    there = monthly_cost(SPEED, Load(requests_per_day=found), prices)
    assert there.machines == 1
    assert there.a_month == pytest.approx(there.api_a_month)
    dear = Prices(machine_hour=100.0, api_million_answer_tokens=2.0)
    assert monthly_cost(SPEED, Load(), dear).break_even_requests_per_day is None


def test_speeds_come_from_the_fastest_row_that_serves_every_reader() -> None:
    """16 requests of 32 tokens at 64 in all take 8 s: 31 / 6.2 = 5 for answers, 3 for 1,024 of prompts."""
    speed = Speed.of_report(report(row(1, 20, 24), row(16, 64, 6.2), row(32, 70, 3)))
    assert speed.prompt_tokens_per_second == pytest.approx(1024 / 3)
    assert speed.answer_tokens_per_second == pytest.approx(16 * 6.2)
    with pytest.raises(ParameterError, match=r"100 tokens a second, the best 24\.0"):
        Speed.of_report(report(row(1, 20, 24)), each_at_least=100)


@pytest.mark.parametrize(
    "found", [{}, {"benchmark": "decode", "rows": [{}]}, report(), report(row(1, 50, 24))]
)
def test_what_is_no_report_is_refused(found: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        Speed.of_report(found)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_values_that_cannot_be(value: float) -> None:
    with pytest.raises(ParameterError, match="answer_tokens is a number above 0"):
        Load(answer_tokens=value)
    if value != 0:
        with pytest.raises(ParameterError, match="watts is a number from 0"):
            Prices(watts=value)


def test_the_command(tmp_path: Path) -> None:
    measured = tmp_path / "load.json"
    measured.write_text(json.dumps(report(row(16, 64, 6.2))))
    done = CliRunner().invoke(app, ["bench", "cost", str(measured), "--machine-hour", "2", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["a_month"] == 1460
    text = CliRunner().invoke(
        app, ["bench", "cost", str(measured), "--machine-hour", "0.01", "--api-million-answer-tokens", "9"]
    )
    assert "requests a day" in text.stdout
    measured.write_text("{")
    assert CliRunner().invoke(app, ["bench", "cost", str(measured)]).exit_code == 2
