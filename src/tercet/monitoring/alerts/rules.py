"""The rules: one table, out of which come the alerts of a server and those of Prometheus.

A rule looks at one figure of a window. It fires when the figure has been beyond `threshold` for
`hold_seconds`, and ends when it has been at `clear` or better for `clear_seconds`: what wavers around the
threshold is one alert, not many. `expression` is the same figure for Prometheus, over its last five minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tercet.errors import ParameterError
from tercet.monitoring.snapshots import GAUGES, RATES, TIMES

__all__ = ["RULES", "UNITS", "Rule", "Severity", "adjusted", "format_value"]

Severity = Literal["warning", "critical"]
EASING = 0.9
"""How far a figure comes back before its alert may end, where nothing else is said."""


@dataclass(frozen=True)
class Unit:
    """How values of a figure are shown: in messages, in templates of Prometheus, in Grafana."""

    shown: Callable[[float], str]
    template: str
    grafana: str


UNITS: Mapping[str, Unit] = {
    "bytes": Unit(lambda value: f"{value / 2**20:,.0f} MiB", "{{ $value | humanize1024 }}B", "bytes"),
    "percent": Unit(lambda value: f"{value:.0f} %", '{{ printf "%.0f" $value }} %', "percent"),
    "share": Unit(lambda value: f"{100 * value:.1f} %", "{{ $value | humanizePercentage }}", "percentunit"),
    "seconds": Unit(lambda value: f"{value:,.1f} s", "{{ $value | humanizeDuration }}", "s"),
    "tokens a second": Unit(
        lambda value: f"{value:.1f} tokens a second", '{{ printf "%.1f" $value }} tokens a second', "short"
    ),
    "": Unit(lambda value: f"{value:g}", "{{ $value }}", "short"),
}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When to call somebody.

    Attributes:
        name: what it is called in settings, events and exports.
        severity: "critical" where requests fail now, otherwise "warning".
        figure: of `Snapshot`; None where only somebody outside the server can see it.
        threshold: what it must not be beyond, in the units of the figure.
        clear: where it may end; None takes a tenth back from the threshold.
        below: whether it is wrong to be below the threshold, instead of above.
        hold_seconds: for how long it is wrong before the alert fires.
        clear_seconds: for how long it is right again before the alert ends.
        unit: of `UNITS`.
        message: one sentence; `{value}` and `{threshold}` are put in.
        advice: what to do about it.
        expression: the figure in the language of Prometheus, one value for each server.
    """

    name: str
    severity: Severity
    figure: str | None
    threshold: float
    clear: float | None = None
    below: bool = False
    hold_seconds: float
    clear_seconds: float = 60.0
    unit: str
    message: str
    advice: str
    expression: str

    @property
    def clear_at(self) -> float:
        """The value at which it may end."""
        if self.clear is not None:
            return self.clear
        # Rounded, so that the file for Prometheus has the same number.
        return round(self.threshold / EASING if self.below else self.threshold * EASING, 9)

    def is_beyond(self, value: float) -> bool:
        """Whether a value is wrong."""
        return value < self.threshold if self.below else value > self.threshold

    def is_clear(self, value: float) -> bool:
        """Whether a value is right again, after it was wrong."""
        return value >= self.clear_at if self.below else value <= self.clear_at

    def worse(self, first: float, second: float) -> float:
        """The worse one of two values."""
        return min(first, second) if self.below else max(first, second)

    def describe(self, value: float) -> str:
        """What is wrong, in a sentence."""
        return self.message.format(
            value=format_value(self, value), threshold=format_value(self, self.threshold)
        )

    def to_dict(self) -> dict[str, Any]:
        """What it judges by, as a file of settings would say it."""
        return {
            "figure": self.figure,
            "below" if self.below else "above": self.threshold,
            "clear": self.clear_at,
            "hold_seconds": self.hold_seconds,
            "clear_seconds": self.clear_seconds,
            "severity": self.severity,
        }


def format_value(rule: Rule, value: float) -> str:
    """A value of a rule's figure, with its unit."""
    return UNITS[rule.unit].shown(value)


_MODEL = "without (model_name, engine)"
_ENDED = "sum without (model_name) (rate(tercet_requests_succeeded_total[5m]))"
_FAILED = "sum without (model_name, kind) (rate(tercet_requests_failed_total[5m]))"
_LATENCY = "vllm:e2e_request_latency_seconds"

RULES: tuple[Rule, ...] = (
    Rule(
        name="memory",
        severity="warning",
        figure="resident_memory_bytes",
        threshold=1024.0 * 2**20,
        hold_seconds=60.0,
        unit="bytes",
        message="The process has {value} in RAM, more than {threshold}.",
        advice="Choose a smaller --context or fewer --max-concurrent, or raise the threshold for this model.",
        # Every exporter has this metric; only ours has processors beside it.
        expression="process_resident_memory_bytes and tercet_processors",
    ),
    Rule(
        name="cpu",
        severity="warning",
        figure="process_cpu_percent",
        threshold=80.0,
        hold_seconds=300.0,
        unit="percent",
        message="The process keeps {value} of its processors busy, more than {threshold}.",
        advice="It is near its limit: add a server, or lower --max-concurrent.",
        expression="100 * rate(process_cpu_seconds_total[5m]) / tercet_processors",
    ),
    Rule(
        name="performance",
        severity="warning",
        figure="generating_tokens_per_second",
        threshold=5.0,
        below=True,
        hold_seconds=120.0,
        unit="tokens a second",
        message="Answers are made at {value}, less than {threshold}.",
        advice="Look for other programs on the same processors, and at --threads.",
        expression="rate(tercet_decoded_tokens_total[5m]) / (rate(tercet_generating_seconds_total[5m]) > 0)",
    ),
    Rule(
        name="reliability",
        severity="critical",
        figure="error_rate",
        threshold=0.05,
        hold_seconds=60.0,
        unit="share",
        message="{value} of requests fail, more than {threshold}.",
        advice="See why in tercet_requests_failed_total by kind, and in the log by request id.",
        expression=f"{_FAILED} / ({_FAILED} + {_ENDED} > 0)",
    ),
    Rule(
        name="latency",
        severity="warning",
        figure="latency_average_seconds",
        threshold=5.0,
        hold_seconds=120.0,
        unit="seconds",
        message="An answer takes {value} on average, more than {threshold}.",
        advice="See whether requests wait (queue), whether answers are long, or whether tokens come slowly.",
        expression=f"sum {_MODEL} (rate({_LATENCY}_sum[5m])) / "
        f"(sum {_MODEL} (rate({_LATENCY}_count[5m])) > 0)",
    ),
    Rule(
        name="first_token",
        severity="warning",
        figure="first_token_p95_seconds",
        threshold=2.5,  # a bound of the histogram, so that Prometheus need not guess between two
        hold_seconds=120.0,
        unit="seconds",
        message="One request in twenty waits {value} or longer for its first token, more than {threshold}.",
        advice="Long prompts or a full queue: add a server, or lower --max-queued-tokens.",
        expression="histogram_quantile(0.95, "
        f"sum {_MODEL} (rate(vllm:time_to_first_token_seconds_bucket[5m])))",
    ),
    Rule(
        name="queue",
        severity="warning",
        figure="queue_used",
        threshold=0.8,
        hold_seconds=60.0,
        unit="share",
        message="{value} of the queue are filled, more than {threshold}; a full one refuses requests.",
        advice="Add a server, or send fewer requests at a time.",
        expression="tercet_queue_used",
    ),
    Rule(
        name="kv_cache",
        severity="warning",
        figure="kv_cache_used",
        threshold=0.95,
        hold_seconds=300.0,
        unit="share",
        message="{value} of the memory for contexts are in use, more than {threshold}.",
        advice="Requests may be set aside and computed again: lower --max-concurrent or --context.",
        expression=f"max {_MODEL} (vllm:kv_cache_usage_perc)",
    ),
    Rule(
        name="engine",
        severity="critical",
        figure="engine_tick_age_seconds",
        threshold=30.0,
        clear=5.0,
        hold_seconds=0.0,
        clear_seconds=0.0,
        unit="seconds",
        message="The engine has not moved for {value}, longer than {threshold}.",
        advice="/livez fails, too: have a supervisor restart the server, and keep the log.",
        expression="max without (model_name) (tercet_engine_tick_age_seconds)",
    ),
    Rule(
        name="down",
        severity="critical",
        figure=None,
        threshold=1.0,
        clear=1.0,
        below=True,
        hold_seconds=60.0,
        clear_seconds=0.0,
        unit="",
        message="Prometheus cannot read the server.",
        advice="See whether the process runs, and whether the key that Prometheus has is still good.",
        # Whatever has been one of ours within the last six hours.
        expression="up and on (job, instance) last_over_time(tercet_processors[6h])",
    ),
)

_FIGURES = {*GAUGES, *RATES, *TIMES}
_TIMES = ("hold_seconds", "clear_seconds")


def adjusted(
    changes: Mapping[str, Mapping[str, Any] | None], rules: Sequence[Rule] = RULES
) -> tuple[Rule, ...]:
    """Return the rules with changes: by name, None to leave one out, otherwise what of it is different.

        adjusted({"memory": {"above": 4 * 2**30, "hold_seconds": 300}, "cpu": None})

    Raises:
        ParameterError: there is no such rule or value of it, or it cannot be what is given.
    """
    known = {rule.name: rule for rule in rules}
    for name, change in changes.items():
        if name not in known:
            raise ParameterError(f"there is no rule {str(name)[:100]!r}; there are {', '.join(known)}")
        if change is None:
            del known[name]
        else:
            known[name] = _changed(known[name], change)
    return tuple(known.values())


def _changed(rule: Rule, change: Mapping[str, Any]) -> Rule:
    side = "below" if rule.below else "above"
    allowed = (side, "clear", *_TIMES, "severity")
    if not isinstance(change, Mapping):
        raise ParameterError(f"the rule {rule.name!r} is an object with {', '.join(allowed)}; or null")
    values: dict[str, Any] = {}
    for key, value in change.items():
        if key not in allowed:
            raise ParameterError(
                f"the rule {rule.name!r} has no {str(key)[:100]!r}; it has {', '.join(allowed)}"
            )
        if key == "severity":
            if value not in ("warning", "critical"):
                raise ParameterError(f"the severity of {rule.name!r} is warning or critical, not {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ParameterError(f"{key} of the rule {rule.name!r} is a number, not {value!r}")
        elif key in _TIMES and value < 0:
            raise ParameterError(f"{key} of the rule {rule.name!r} is at least 0, not {value!r}")
        values["threshold" if key == side else key] = value
    if "threshold" in values:
        values.setdefault("clear", None)  # the old one belongs to the old threshold
    changed = replace(rule, **values)
    if changed.is_beyond(changed.clear_at):
        raise ParameterError(
            f"the rule {rule.name!r} would never end: clear {changed.clear_at:g} is {side} "
            f"{changed.threshold:g}"
        )
    return changed
