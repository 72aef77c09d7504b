"""The reference page of the command line: one section for each command, from its help text and options.

Keeps to what releases of typer share: names, spellings, defaults and help of a parameter. What to write
behind an option follows from the type of the argument that receives it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
from prose import paragraph


def command_line() -> str:
    """One section for each command: its help text, usage, arguments and options with their defaults."""
    from tercet.cli.app import app

    root: Any = typer.main.get_command(app)
    context = typer.Context(root, info_name="tercet")
    sections = ["# Command line\n", describe_command(root, context)]
    return "\n".join(sections)


def describe_command(command: Any, context: Any) -> str:
    """The section of one command, and below it those of its subcommands."""
    depth = context.command_path.count(" ") + 1
    lines = [f"{'#' * depth} {context.command_path}\n" if depth > 1 else "", paragraph(command.help)]
    parameters = [part for part in command.get_params(context) if not part.hidden and part.name != "help"]
    arguments = [spelling(part, command) for part in parameters if part.param_type_name == "argument"]
    children = command.list_commands(context) if hasattr(command, "list_commands") else []
    words = [context.command_path, "[OPTIONS]", *arguments, *(["COMMAND ..."] if children else [])]
    lines.append(f"    {' '.join(words)}\n")
    if parameters:
        lines += ["| | default | |", "| --- | --- | --- |"]
        lines += [describe_parameter(part, command) for part in parameters] + [""]
    for name in children:
        child = command.get_command(context, name)
        if not child.hidden:
            lines.append(describe_command(child, type(context)(child, info_name=name, parent=context)))
    return "\n".join(lines)


def describe_parameter(parameter: Any, command: Any) -> str:
    """One table row. Keeps to the attributes that releases of typer share."""
    default = "" if parameter.default in (None, False, ()) else f"`{parameter.default}`"
    cells = [f"`{spelling(parameter, command)}`", default, " ".join((parameter.help or "").split())]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def spelling(parameter: Any, command: Any) -> str:
    """The parameter as one types it: `FILE`, `--json`, `--seed, -s N`."""
    if parameter.param_type_name == "argument":
        name = parameter.name.upper() + ("..." if parameter.nargs != 1 else "")
        return name if parameter.required else f"[{name}]"
    name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return name if parameter.is_flag else f"{name} {operand(command.callback, parameter.name)}"


def operand(function: Callable[..., Any], name: str) -> str:
    """What to write behind an option, by the type of the argument that receives it."""
    kind: Any = get_type_hints(function)[name]
    while get_args(kind) and get_origin(kind) is not Literal:  # list[str] | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Literal or issubclass(kind, Enum):
        return "|".join(str(getattr(choice, "value", choice)) for choice in get_args(kind) or kind)
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")
