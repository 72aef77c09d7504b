"""A dashboard for Grafana, over all servers that Prometheus reads or a choice of them.

`dashboard()` is the object that Grafana imports. Panels stand in `PANELS`, row by row: title, unit, and what
is drawn. The figures of alerts are the recorded series of `alerts.prometheus`, each with its threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tercet.monitoring.alerts.prometheus import alert_name, recorded_name
from tercet.monitoring.alerts.rules import RULES, UNITS, Rule

__all__ = ["PANELS", "Panel", "dashboard", "expressions"]

WIDTH = 24
HEIGHT = 8
CHOSEN = 'job=~"$job", instance=~"$instance"'
"""The label matchers of every series; Grafana puts in what is chosen."""
SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """A chart: (legend, expression) of each line; `[..]` stands for the range that fits the zoom."""

    title: str
    unit: str
    lines: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    about: str = ""
    threshold: float | None = None


def _rate(metric: str, by: str = "instance") -> str:
    return f"sum by ({by}) (rate({_of(metric)}[..]))"


def _of(metric: str, more: str = "") -> str:
    return f"{metric}{{{CHOSEN}{more}}}"


def _quantiles(metric: str, mean: bool = False) -> list[tuple[str, str]]:
    buckets = f"sum by (le) (rate({_of(metric + '_bucket')}[..]))"
    lines = [
        (f"p{round(100 * quantile)}", f"histogram_quantile({quantile:g}, {buckets})")
        for quantile in (0.5, 0.95, 0.99)
    ]
    return [*lines, ("mean", _mean(metric))] if mean else lines


def _mean(metric: str) -> str:
    total, count = (f"sum(rate({_of(metric + suffix)}[..]))" for suffix in ("_sum", "_count"))
    return f"{total} / {count}"


def _heatmap(title: str, metric: str, about: str) -> Panel:
    buckets = f"sum by (le) (increase({_of(metric + '_bucket')}[..]))"
    return Panel(title, "short", [("{{le}}", buckets)], "heatmap", about)


def _figure(rule: Rule) -> Panel:
    """The figure of a rule, with its threshold."""
    title = rule.name.replace("_", " ").capitalize()
    lines = [("{{instance}}", _of(recorded_name(rule)))]
    about = f"Recorded for {alert_name(rule)}. {rule.advice}"
    return Panel(title, UNITS[rule.unit].grafana, lines, about=about, threshold=rule.threshold)


PANELS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "At a glance",
        (
            Panel("Servers that answer", "short", [("", f"sum({_of('tercet:up')})")], "stat"),
            Panel(
                "Alerts that fire",
                "short",
                [("", f'sum(ALERTS{{alertname=~"Tercet.*", alertstate="firing", {CHOSEN}}}) or vector(0)')],
                "stat",
            ),
            Panel(
                "Requests a second", "reqps", [("", f"sum(rate({_of('tercet_requests_total')}[..]))")], "stat"
            ),
            Panel(
                "Tokens a second",
                "short",
                [("", f"sum(rate({_of('vllm:generation_tokens_total')}[..]))")],
                "stat",
            ),
        ),
    ),
    (
        "Requests",
        (
            Panel(
                "Requests by how they ended",
                "reqps",
                [
                    ("{{finished_reason}}", _rate("vllm:request_success_total", "finished_reason")),
                    ("refused: {{reason}}", _rate("vllm:admission_rejections_total", "reason")),
                ],
                about="Those that began, by their end; and those refused for want of room.",
            ),
            Panel("Failures by why", "reqps", [("{{kind}}", _rate("tercet_requests_failed_total", "kind"))]),
            Panel(
                "Responses by status", "reqps", [("{{code}}", _rate("tercet_http_responses_total", "code"))]
            ),
            Panel(
                "Running and waiting",
                "short",
                [
                    ("running", f"sum({_of('vllm:num_requests_running')})"),
                    ("waiting", f"sum({_of('vllm:num_requests_waiting')})"),
                    ("in flight", f"sum({_of('tercet_requests_in_flight')})"),
                ],
            ),
        ),
    ),
    (
        "Latency",
        (
            Panel(
                "Time to the first token",
                "s",
                [
                    *_quantiles("vllm:time_to_first_token_seconds"),
                    ("mean", _mean("vllm:time_to_first_token_seconds")),
                ],
            ),
            Panel("Between tokens", "s", _quantiles("vllm:inter_token_latency_seconds")),
            Panel(
                "Time per token of a request", "s", _quantiles("vllm:request_time_per_output_token_seconds")
            ),
            Panel(
                "Whole request",
                "s",
                [
                    *_quantiles("vllm:e2e_request_latency_seconds"),
                    ("mean", _mean("vllm:e2e_request_latency_seconds")),
                ],
            ),
            Panel(
                "Where the time goes",
                "s",
                [
                    ("queue", _mean("vllm:request_queue_time_seconds")),
                    ("prompt", _mean("vllm:request_prefill_time_seconds")),
                    ("answer", _mean("vllm:request_decode_time_seconds")),
                ],
                about="Means of the requests that ended.",
            ),
            Panel("Event loop, how late", "s", _quantiles("tercet_event_loop_lag_seconds")),
        ),
    ),
    (
        "Tokens",
        (
            Panel(
                "Tokens a second",
                "short",
                [
                    ("prompt", f"sum(rate({_of('vllm:prompt_tokens_total')}[..]))"),
                    ("of it, cached", f"sum(rate({_of('vllm:prompt_tokens_cached_total')}[..]))"),
                    ("generated", f"sum(rate({_of('vllm:generation_tokens_total')}[..]))"),
                ],
            ),
            Panel(
                "Found in caches",
                "percentunit",
                [
                    (
                        "prompts",
                        f"sum(rate({_of('vllm:prefix_cache_hits_total')}[..])) / "
                        f"sum(rate({_of('vllm:prefix_cache_queries_total')}[..]))",
                    ),
                    (
                        "responses",
                        f"sum(rate({_of('tercet_response_cache_hits_total')}[..])) / "
                        f"(sum(rate({_of('tercet_response_cache_hits_total')}[..])) + "
                        f"sum(rate({_of('tercet_response_cache_misses_total')}[..])))",
                    ),
                ],
            ),
            _heatmap("Length of prompts", "vllm:request_prompt_tokens", "Tokens."),
            _heatmap("Length of answers", "vllm:request_generation_tokens", "Tokens."),
            _heatmap(
                "Tokens of a step", "vllm:iteration_tokens_total", "How full the steps of the engine are."
            ),
            Panel(
                "Set aside for want of memory",
                "short",
                [
                    ("requests a second", _rate("vllm:num_preemptions_total")),
                    ("tokens a second", _rate("tercet_recomputed_tokens_total")),
                ],
            ),
        ),
    ),
    ("What alerts judge", tuple(_figure(rule) for rule in RULES if rule.figure is not None)),
    (
        "Process and security",
        (
            Panel(
                "Memory",
                "bytes",
                [
                    ("{{instance}}", _of("process_resident_memory_bytes")),
                    ("{{instance}}, the most so far", _of("process_peak_resident_memory_bytes")),
                ],
            ),
            Panel("Open files", "short", [("{{instance}}", _of("process_open_fds"))]),
            Panel(
                "Engines that died",
                "short",
                [
                    (
                        "{{instance}}",
                        f"sum by (instance) (increase({_of('tercet_engine_restarts_total')}[..]))",
                    )
                ],
            ),
            Panel(
                "Refused, by why", "reqps", [("{{reason}}", _rate("tercet_security_blocked_total", "reason"))]
            ),
            Panel("Security events", "reqps", [("{{kind}}", _rate("tercet_security_events_total", "kind"))]),
        ),
    ),
)


def expressions() -> list[str]:
    """Every expression of the dashboard, as Prometheus gets it: with a range, and everything chosen."""
    found = [line for panel in _panels() for _, line in panel.lines]
    return [one.replace("[..]", "[5m]").replace("$job", ".*").replace("$instance", ".*") for one in found]


def dashboard() -> dict[str, Any]:
    """The dashboard, as `json.dumps` and Grafana take it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in PANELS:
        panels.append(_row(title, top, len(panels) + 1))
        top += 1
        width, height = (WIDTH // 4, HEIGHT // 2) if row[0].kind == "stat" else (WIDTH // 2, HEIGHT)
        for number, panel in enumerate(row):
            column, line = number % (WIDTH // width), number // (WIDTH // width)
            place = {"x": column * width, "y": top + line * height, "w": width, "h": height}
            panels.append(_chart(panel, place, len(panels) + 1))
        top += -(-len(row) * width // WIDTH) * height
    return {
        "uid": "tercet",
        "title": "Tercet",
        "description": "Servers of ternary language models. Made by `tercet monitor dashboard`.",
        "tags": ["tercet"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [_datasource(), _choice("job", ""), _choice("instance", '{job=~"$job"}')]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _panels() -> Iterator[Panel]:
    for _, row in PANELS:
        yield from row


def _row(title: str, top: int, number: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _chart(panel: Panel, place: dict[str, int], number: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    custom: dict[str, Any] = {}
    if panel.threshold is not None:
        steps.append({"color": "red", "value": panel.threshold})
        custom = {"thresholdsStyle": {"mode": "line"}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": _options(panel.kind),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": expression.replace("[..]", "[$__rate_interval]"),
                "legendFormat": legend or "__auto",
                "format": "heatmap" if panel.kind == "heatmap" else "time_series",
                "range": True,
            }
            for index, (legend, expression) in enumerate(panel.lines)
        ],
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    if kind == "heatmap":
        return {"calculate": False, "yAxis": {"unit": "short"}}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _choice(label: str, chosen: str) -> dict[str, Any]:
    """A choice of some, or all, values of a label."""
    query = f"label_values(tercet_processors{chosen}, {label})"
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
