"""The rules for Prometheus: the file that `rule_files` in its configuration names.

For each rule there is a recorded series, `tercet:` and its figure, and an alert on it. Hysteresis is in the
expression: what fires already goes on until the figure is back at `clear`, for which it looks at `ALERTS`,
the series in which Prometheus notes what fires. `keep_firing_for` needs Prometheus 2.42.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tercet.monitoring.alerts.rules import RULES, UNITS, Rule

__all__ = ["alert_name", "recorded_name", "rule_file"]

HEADING = """# Alerts for servers of Tercet, made by `tercet monitor rules`.
# Name this file under `rule_files` in the configuration of Prometheus 2.42 or newer.
"""


def alert_name(rule: Rule) -> str:
    """What the alert of a rule is called: `TercetKvCache`."""
    return "Tercet" + "".join(word.capitalize() for word in rule.name.split("_"))


def recorded_name(rule: Rule) -> str:
    """The series that has the figure of a rule, one value for each server."""
    return f"tercet:{rule.figure or 'up'}"


def rule_file(rules: Sequence[Rule] = RULES) -> str:
    """The whole file, in YAML. Rules of one group are evaluated in order: first figures, then alerts."""
    lines = [HEADING + "groups:", "  - name: tercet", "    rules:"]
    for rule in rules:
        lines += [f"      - record: {recorded_name(rule)}", *_expression(rule.expression)]
    for rule in rules:
        lines += [
            f"      - alert: {alert_name(rule)}",
            *_expression(_condition(rule)),
            *_times(rule),
            f"        labels: {{severity: {rule.severity}, rule: {rule.name}}}",
            "        annotations:",
            f"          summary: {_quoted(f'Tercet at {{{{ $labels.instance }}}}: {_message(rule)}')}",
            f"          description: {_quoted(rule.advice)}",
        ]
    return "\n".join([*lines, ""])


def _expression(text: str) -> list[str]:
    return ["        expr: >-", f"          {text}"]


def _condition(rule: Rule) -> str:
    name, side = recorded_name(rule), "<" if rule.below else ">"
    beyond = f"{name} {side} {_number(rule.threshold)}"
    if rule.clear_at == rule.threshold:
        return beyond
    fires = f'ALERTS{{alertname="{alert_name(rule)}", alertstate="firing"}}'
    apart = "ignoring (alertname, alertstate, severity, rule)"
    return f"{beyond} or ({name} {side} {_number(rule.clear_at)} and {apart} {fires})"


def _times(rule: Rule) -> list[str]:
    lines = [f"        for: {_duration(rule.hold_seconds)}"]
    if rule.clear_seconds:
        lines.append(f"        keep_firing_for: {_duration(rule.clear_seconds)}")
    return lines


def _message(rule: Rule) -> str:
    unit = UNITS[rule.unit]
    return rule.message.format(value=unit.template, threshold=unit.shown(rule.threshold))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _duration(seconds: float) -> str:
    """Whole milliseconds, the finest that Prometheus has."""
    milliseconds = round(1000 * seconds)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


def _quoted(text: str) -> str:
    """A string of JSON, which is one of YAML, too."""
    return json.dumps(text)
