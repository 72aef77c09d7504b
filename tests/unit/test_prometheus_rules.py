"""What Prometheus makes of our rules and of the dashboard: asked of promtool, Prometheus' own.

The rules are compared with the alerts of a server over the same course of values; the expressions of the
dashboard are evaluated over the metrics of a service that has answered.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tercet import SamplingParams
from tercet.monitoring.alerts import RULES, AlertManager, Rule, adjusted
from tercet.monitoring.alerts.prometheus import alert_name, recorded_name, rule_file
from tercet.monitoring.catalogue import CATALOGUE
from tercet.monitoring.exposition import Sample
from tercet.monitoring.grafana import PANELS, dashboard, expressions
from tercet.monitoring.snapshots import Snapshot
from tercet.security.counts import SecurityCounts
from tercet.service.request import GenerationRequest
from tercet.service.service import Service
from tercet.service.settings import ServiceSettings

TARGET = 'job="tercet", instance="a:8080"'
STEP = 30
OURS = 'tercet_processors{job="tercet", instance="a:8080"}'
GAUGES = {
    "memory": f"process_resident_memory_bytes{{{TARGET}}}",
    "queue": f"tercet_queue_used{{{TARGET}}}",
    "kv_cache": f'vllm:kv_cache_usage_perc{{{TARGET}, model_name="tiny", engine="0"}}',
    "engine": f'tercet_engine_tick_age_seconds{{{TARGET}, model_name="tiny"}}',
}
E2E = f'vllm:e2e_request_latency_seconds_%s{{{TARGET}, model_name="tiny", engine="0"}}'
FIRST = f'vllm:time_to_first_token_seconds_bucket{{{TARGET}, model_name="tiny", engine="0", le="%s"}}'
# Rule -> series of counters with what they grow by in a step while the figure is right, between, wrong.
COUNTERS: dict[str, dict[str, tuple[float, float, float]]] = {
    "cpu": {f"process_cpu_seconds_total{{{TARGET}}}": (30, 46, 54)},  # of two processors for 30 s
    "performance": {
        f"tercet_decoded_tokens_total{{{TARGET}}}": (168, 159, 120),
        f"tercet_generating_seconds_total{{{TARGET}}}": (30, 30, 30),
    },
    "reliability": {
        f'tercet_requests_failed_total{{{TARGET}, model_name="tiny", kind="error"}}': (2, 3, 4),
        f'tercet_requests_failed_total{{{TARGET}, model_name="", kind="parameter"}}': (0, 6, 8),
        f'tercet_requests_succeeded_total{{{TARGET}, model_name="tiny"}}': (178, 186, 178),
    },
    "latency": {E2E % "sum": (30, 48, 60), E2E % "count": (10, 10, 10)},
    "first_token": {
        FIRST % "1.0": (100, 90, 10),
        FIRST % "2.5": (100, 95.1, 94),
        FIRST % "5.0": (100, 100, 100),
        FIRST % "+Inf": (100, 100, 100),
    },
}
JUDGED = {rule.name: rule for rule in RULES if rule.figure is not None}


@pytest.fixture(scope="module")
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("the program promtool is missing")
    return program


def ran(*command: str | Path) -> str:
    """What it printed; it must have gone well."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def evaluate(
    promtool: str,
    folder: Path,
    series: dict[str, str],
    queries: list[tuple[int, str, float]],
    rules: str | None = None,
    alerts: list[dict[str, Any]] | None = None,
) -> None:
    """Have promtool evaluate queries at seconds, each of which has one value without labels."""
    (folder / "rules.yml").write_text(rules or rule_file())
    test = {
        "interval": f"{STEP}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": alerts or [],
        "promql_expr_test": [
            {"expr": query, "eval_time": f"{at}s", "exp_samples": [{"labels": "{}", "value": value}]}
            for at, query, value in queries
        ],
    }
    content = {"rule_files": ["rules.yml"], "evaluation_interval": f"{STEP}s", "tests": [test]}
    (folder / "test.yml").write_text(json.dumps(content))  # which is YAML, too
    ran(promtool, "test", "rules", folder / "test.yml")


def firing(rule: Rule) -> str:
    """1 while the alert fires, otherwise 0."""
    return f'count(ALERTS{{alertname="{alert_name(rule)}", alertstate="firing"}}) or vector(0)'


def test_the_file_of_rules_is_valid_and_has_every_rule(promtool: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(rule_file(adjusted({"memory": {"above": 2.5e9, "hold_seconds": 0.25}, "cpu": None})))
    assert f"{2 * len(RULES) - 2} rules found" in ran(promtool, "check", "rules", path)
    path.write_text(rule_file())
    assert f"{2 * len(RULES)} rules found" in ran(promtool, "check", "rules", path)
    names = re.findall(r"alert: (\w+)", path.read_text())
    assert names == [alert_name(rule) for rule in RULES]
    assert "TercetKvCache" in names


@pytest.mark.parametrize("name", GAUGES)
def test_prometheus_and_the_server_agree_at_every_moment(name: str, promtool: str, tmp_path: Path) -> None:
    """A random course of a gauge: the same alerts begin and end with the same samples."""
    rule = JUDGED[name]
    easy, between = rule.clear_at * 0.5, (rule.clear_at + rule.threshold) / 2
    levels = [easy, rule.clear_at, between, rule.threshold, rule.threshold * 1.04]
    choose = random.Random(name)
    course: list[float] = []
    waits = int(rule.hold_seconds) // STEP + 1
    while len(course) < 400:
        course += [choose.choice(levels)] * choose.choice([1, 2, waits, waits + 3])
    manager, queries, changes = AlertManager([rule]), [], 0
    for number, value in enumerate(course):
        values: dict[str, Any] = {rule.figure: value}  # type: ignore[dict-item]
        changes += len(
            manager.observe(Snapshot(time=STEP * number, period_seconds=STEP if number else 0.0, **values))
        )
        queries.append((STEP * number, firing(rule), float(len(manager.active_alerts()))))
    assert changes >= 4
    series = {GAUGES[name]: " ".join(f"{value!r}" for value in course), OURS: f"2+0x{len(course)}"}
    evaluate(promtool, tmp_path, series, queries)


@pytest.mark.parametrize("name", COUNTERS)
def test_rates_fire_and_end_as_figures_of_windows_do(name: str, promtool: str, tmp_path: Path) -> None:
    """Half an hour each: right, between, wrong, between, right; between goes on as it was before."""
    phases, steps = [0, 1, 2, 1, 0], 60
    series = {OURS: f"2+0x{steps * len(phases)}"}
    for one, growth in COUNTERS[name].items():
        total, values = 0.0, []
        for phase in phases:
            for _ in range(steps):
                values.append(f"{total:g}")
                total += growth[phase]
        series[one] = " ".join(values)
    at_the_end = [STEP * (steps * number - 1) for number in range(1, 6)]
    expected = zip(at_the_end, [0.0, 0.0, 1.0, 1.0, 0.0], strict=True)
    evaluate(promtool, tmp_path, series, [(at, firing(JUDGED[name]), value) for at, value in expected])


def test_a_server_that_cannot_be_read_is_down_and_words_are_put_in(promtool: str, tmp_path: Path) -> None:
    series = {
        f"up{{{TARGET}}}": "1x9 0x20",
        'up{job="others", instance="b:9100"}': "0x30",  # none of ours
        OURS: "2x9",
        f"process_resident_memory_bytes{{{TARGET}}}": "2147483648x30",
        'process_resident_memory_bytes{job="others", instance="b:9100"}': "2147483648x30",
    }
    (down,) = [rule for rule in RULES if rule.name == "down"]
    memory = JUDGED["memory"]
    alerts = [
        {
            "alertname": alert_name(rule),
            "eval_time": f"{at}m",
            "exp_alerts": [
                {
                    "exp_labels": {
                        "severity": rule.severity,
                        "rule": rule.name,
                        "job": "tercet",
                        "instance": "a:8080",
                    },
                    "exp_annotations": {"summary": summary, "description": rule.advice},
                }
            ],
        }
        for rule, at, summary in [
            (down, 12, "Tercet at a:8080: Prometheus cannot read the server."),
            (memory, 3, "Tercet at a:8080: The process has 2GiB in RAM, more than 1,024 MiB."),
        ]
    ]
    evaluate(promtool, tmp_path, series, [(240, firing(down), 0.0)], alerts=alerts)


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    made = json.loads(json.dumps(dashboard(), allow_nan=False))
    assert (made["uid"], made["title"]) == ("tercet", "Tercet")
    panels = made["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    assert {panel["type"] for panel in panels} == {"row", "stat", "timeseries", "heatmap"}
    assert all(panel["title"] for panel in panels)
    taken: Counter[tuple[int, int]] = Counter()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken.update(
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        )
    assert max(taken.values()) == 1  # nothing lies over anything else
    assert {line for _, line in taken} == set(range(max(line for _, line in taken) + 1))
    variables = {one["name"] for one in made["templating"]["list"]} | {"__rate_interval"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) == variables
    for panel in panels:
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(letters)) == len(letters)
        assert panel["type"] == "row" or letters


def test_every_expression_is_parsed_and_every_metric_is_ours(promtool: str, tmp_path: Path) -> None:
    lines = ["groups:", "  - name: all", "    rules:"]
    for number, expression in enumerate(expressions()):
        lines += [f"      - record: one:{number}", f"        expr: {json.dumps(expression)}"]
    (tmp_path / "all.yml").write_text("\n".join(lines))
    assert f"{len(expressions())} rules found" in ran(promtool, "check", "rules", tmp_path / "all.yml")

    shown = {spec.name for spec in CATALOGUE if spec.kind != "histogram"}
    for spec in CATALOGUE:
        if spec.kind == "histogram":
            shown |= {spec.name + suffix for suffix in ("_bucket", "_sum", "_count")}
    recorded = {recorded_name(rule) for rule in RULES}
    for expression in expressions():
        used = metrics_of(expression)
        assert used <= shown | recorded | {"ALERTS"}, expression
    for rule in RULES:
        assert metrics_of(rule.expression) <= shown | {"up"}, rule.name


def metrics_of(expression: str) -> set[str]:
    """The names in an expression that are neither functions nor words of the language."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\b(by|without|on|ignoring) *\([^)]*\)", " ", expression)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?! *\()\b(?! *\()", bare)
    return set(words) - {"and", "or", "unless", "bool", "offset"}


@pytest.fixture(scope="module")
def samples(tiny_model_file: Path) -> list[Sample]:
    """What `/metrics` has after an answer."""

    async def work() -> list[Sample]:
        settings = ServiceSettings(models={"tiny": str(tiny_model_file)}, llm={"threads": 1})
        async with Service(settings) as service:
            params = SamplingParams(temperature=0, ignore_eos=True, max_tokens=9)
            request = GenerationRequest(prompt="Once upon a time", params=params)
            await (await service.submit(request)).result()
            service.metrics.count_http(200)
            service.metrics.security = SecurityCounts(time.monotonic)
            return service.metrics.samples()

    return asyncio.run(asyncio.wait_for(work(), 60))


def test_every_line_of_the_dashboard_shows_something(
    samples: list[Sample], promtool: str, tmp_path: Path
) -> None:
    """Evaluated over what a real service counts, read twenty times by a Prometheus."""
    series = {f"up{{{TARGET}}}": "1x20"}
    for name, labels, value in samples:
        own = "".join(f", {label}={json.dumps(text)}" for label, text in labels.items())
        number = "NaN" if value != value else f"{value:g}".replace("inf", "Inf")
        grows = name.endswith(("_total", "_bucket", "_sum", "_count"))
        series[f"{name}{{{TARGET}{own}}}"] = f"0+{number}x20" if grows else f"{number}x20"
    queries = [(19 * STEP, f"(count({line}) > bool 0) or vector(0)", 1.0) for line in expressions()]
    evaluate(promtool, tmp_path, series, queries)


def test_legends_name_labels_that_lines_have() -> None:
    for _, row in PANELS:
        for panel in row:
            for legend, expression in panel.lines:
                for label in re.findall(r"\{\{(\w+)\}\}", legend):
                    grouped = re.findall(r"by \((\w+)\)", expression)
                    assert label in grouped or (label == "instance" and not grouped), (panel.title, label)
