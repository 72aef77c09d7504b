"""The reference page of alerts: the rules, and what a file of settings may say."""

from __future__ import annotations

import dataclasses
import inspect
import re

from prose import paragraph


def alerts() -> str:
    """Rules, sinks and events, from the tables and classes that the program runs by."""
    from tercet.monitoring.alerts import prometheus, rules, settings
    from tercet.monitoring.alerts.events import AlertEvent

    lines = [
        "# Alerts\n",
        "What `tercet serve` judges each window by; [the guide](../guides/alerts.md) says how.\n",
        paragraph(rules.__doc__),
        "| rule | severity | fires | for | ends | after | in Prometheus |",
        "| --- |" + " --- |" * 6,
    ]
    for rule in rules.RULES:
        side = "below" if rule.below else "above"
        figure = f"`{rule.figure}` " if rule.figure else ""
        cells = [
            f"`{rule.name}`",
            rule.severity,
            f"{figure}{side} {rules.format_value(rule, rule.threshold)}",
            f"{rule.hold_seconds:g} s",
            f"at {rules.format_value(rule, rule.clear_at)}",
            f"{rule.clear_seconds:g} s",
            f"`{prometheus.alert_name(rule)}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "`down` is for Prometheus alone: a server cannot see that of itself.\n"]
    lines += ["| rule | what to do |", "| --- | --- |"]
    lines += [f"| `{rule.name}` | {rule.advice} |" for rule in rules.RULES]
    lines += ["", "## A file of settings\n", paragraph(settings.__doc__)]
    lines += ["A rule may have `above` (or `below`, where it stands in the table), `clear`, `hold_seconds`,"]
    lines += ["`clear_seconds` and `severity`; `null` leaves it out. Kinds of sinks:\n"]
    for kind, sink in settings.SINKS.items():
        lines += [f"### `{kind}`\n", "| | |", "| --- | --- |"]
        told = attribute_descriptions(sink)
        lines += [f"| `{one.name}` | {told[one.name]} |" for one in dataclasses.fields(sink) if one.init]
        lines.append("")
    lines += ["## An event\n", "| | |", "| --- | --- |"]
    told = attribute_descriptions(AlertEvent)
    lines += [f"| `{one.name}` | {told[one.name]} |" for one in dataclasses.fields(AlertEvent)]
    return "\n".join([*lines, ""])


def attribute_descriptions(value: type) -> dict[str, str]:
    """What the part `Attributes:` of a class's docstring says, by the names of the attributes."""
    _, _, part = (inspect.getdoc(value) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for line in part.splitlines():
        if not line.startswith("    "):
            break
        if match := re.fullmatch(r" {4}(\w+): (.*)", line):
            name, found[match[1]] = match[1], match[2]
        else:
            found[name] += f" {line.strip()}"
    return found
