"""The reference page of all settings of `tercet serve`: by file, by environment, by flag."""

from __future__ import annotations

import dataclasses
from typing import Any

import typer
from describe_commands import operand
from describe_python import field_descriptions
from prose import paragraph

EXAMPLE = """```json
{
  "host": "0.0.0.0",
  "keys": "/etc/tercet/keys.jsonl",
  "max_input_length": 20000,
  "rate_limit_requests_per_minute": "none",
  "allowed_host": ["models.example.com"]
}
```
"""


def serve_settings() -> str:
    """Every option of the command with its three names; and what the profiles say."""
    from tercet.cli import serve, settings_file

    command: Any = typer.main.get_command(serve.app)
    lines = [
        "# Settings of the server\n",
        paragraph(settings_file.__doc__),
        "Such a file, for `--config`:\n",
        EXAMPLE,
        "`null` is as if a setting were not there. Where several may be given, a file has a list, and the",
        "environment has them with spaces between. `tercet doctor --security --config FILE` says what is",
        "weak about them.\n",
    ]
    panels: dict[str, list[Any]] = {}
    for option in settings_file.settable(command):
        panel = getattr(option, "rich_help_panel", None) or "General"
        panels.setdefault(panel, []).append(option)
    for panel, options in panels.items():
        lines += [f"## {panel}\n", "| in a file | in the environment | flag | default | |"]
        lines += ["| --- | --- | --- | --- | --- |", *(_row(option, command) for option in options), ""]
    return "\n".join([*lines, _profiles()])


def _row(option: Any, command: Any) -> str:
    from tercet.cli.settings_file import PREFIX

    flag = "(argument)"
    if option.param_type_name != "argument":
        flag = ", ".join([*option.opts, *option.secondary_opts])
        flag = f"`{flag}`" if option.is_flag else f"`{flag} {operand(command.callback, option.name)}`"
    default = "" if option.default in (None, False, (), []) else f"`{option.default}`"
    cells = [
        f"`{option.name}`",
        f"`{PREFIX}{option.name.upper()}`",
        flag,
        default,
        " ".join((option.help or "").split()),
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _profiles() -> str:
    from tercet.security import config

    strict, local = config.SecurityConfig(), config.SecurityConfig.local()
    told = field_descriptions(config.SecurityConfig)
    lines = ["## The profiles\n", paragraph(config.__doc__), "| setting | strict | local | |"]
    lines.append("| --- | --- | --- | --- |")
    for field in dataclasses.fields(config.SecurityConfig):
        values = [_shown(getattr(one, field.name)) for one in (strict, local)]
        lines.append(f"| `{field.name}` | {values[0]} | {values[1]} | {told.get(field.name, '')} |")
    return "\n".join([*lines, ""])


def _shown(value: object) -> str:
    if value is None:
        return "no limit"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
