"""The calculator of docs/paths/organizations.md, in a real browser: the same bits as `tercet.bench.cost`."""

from __future__ import annotations

import json
import random
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tercet.bench.cost import Load, Prices, Speed, monthly_cost

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "paths" / "organizations.md").read_text(encoding="utf-8")
FORM = PAGE[PAGE.index("<form") : PAGE.index("</form>") + len("</form>")]
SCRIPT = (ROOT / "docs" / "paths" / "cost.js").read_text(encoding="utf-8")


def some_values(generator: random.Random) -> dict[str, float]:
    """Values over many orders of magnitude; every second one that may be zero is."""
    values: dict[str, float] = {}
    for kind in (Speed, Load, Prices):
        for field in fields(kind):
            zero = field.name in kind.zero_allowed and generator.random() < 0.5
            values[field.name] = 0.0 if zero else 10 ** generator.uniform(-2, 4)
    values["spare_machines"] = float(generator.randrange(3))
    return values


def in_python(values: dict[str, float]) -> dict[str, Any]:
    parts = [
        kind(**{field.name: values[field.name] for field in fields(kind)}) for kind in (Speed, Load, Prices)
    ]
    return asdict(monthly_cost(*parts))  # type: ignore[arg-type]


def test_the_page_and_the_command_compute_the_same(chromium: Browser) -> None:
    page = chromium.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_content(f"<script>{SCRIPT}</script>{FORM}", wait_until="load")
    generator = random.Random(1)
    cases = [some_values(generator) for _ in range(300)]
    assert page.evaluate("(cases) => cases.map(monthlyCost)", cases) == [in_python(case) for case in cases]

    shown = page.locator("output[name=a_month]")
    assert shown.inner_text() == "73"
    page.fill("input[name=machine_hour]", "1")
    assert shown.inner_text() == "730"
    least = page.locator("output[name=break_even_requests_per_day]")
    assert least.inner_text() == "–"
    page.fill("input[name=api_million_answer_tokens]", "0.5")
    assert least.inner_text() == "never within one machine"
    page.fill("input[name=use]", "0")
    assert shown.inner_text() == "–"
    assert page.locator("[role=status]").inner_text() == "Not a possible value: Share of that hour at work"
    assert not complaints
    page.close()


def test_the_page_asks_for_everything_and_begins_with_what_was_measured() -> None:
    """Names and defaults of the form; its speeds are those of the committed report, rounded."""
    inputs = dict(re.findall(r'<input name="(\w+)"[^>]* value="([\d.]+)">', FORM))
    measured = ROOT / "benchmarks" / "results" / "2026-11-23-intel-r-xeon-r-processor-attention.json"
    reports = json.loads(measured.read_text())["reports"]
    speed = Speed.of_report(next(report for report in reports if report.get("benchmark") == "load"))
    assert inputs.pop("prompt_tokens_per_second") == f"{speed.prompt_tokens_per_second:.0f}"
    assert inputs.pop("answer_tokens_per_second") == f"{speed.answer_tokens_per_second:.0f}"
    defaults = {**asdict(Load()), **asdict(Prices()), "machine_hour": 0.1}
    assert {name: float(value) for name, value in inputs.items()} == pytest.approx(defaults)
    above = set(re.findall(r'<input name="(\w+)"[^>]* data-above="0"', FORM))
    assert above - {"prompt_tokens_per_second", "answer_tokens_per_second"} == (
        {field.name for kind in (Load, Prices) for field in fields(kind)}
        - Load.zero_allowed
        - Prices.zero_allowed
    )
