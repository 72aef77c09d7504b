"""The program and the list of its commands; a command's module is loaded when it is called or described."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from tercet.cli import options
from tercet.cli.border import error_border

# In the order of the help page: speak, fetch, look inside, make, measure.
COMMANDS = (
    "run",
    "chat",
    "batch",
    "serve",
    "deploy",
    "audit",
    "keys",
    "monitor",
    "pull",
    "list",
    "rm",
    "doctor",
    "optimize",
    "inspect",
    "manifest",
    "convert",
    "ternarize",
    "data",
    "train",
    "finetune",
    "lora",
    "distill",
    "prune",
    "bench",
    "eval",
)


class LazyGroup(typer.core.TyperGroup):
    """Finds command NAME as the attribute `app` of the module `tercet.cli.NAME`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(importlib.import_module(f"tercet.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the command inside the border."""
        with error_border(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"tercet {version('tercet')}")
        raise typer.Exit


@app.callback()
def tercet(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TERCET_DEBUG", help="Show the full traceback of an error.")
    ] = False,
    model_trust: options.ModelTrust = None,
    model_key: options.ModelKey = None,
) -> None:
    """Train, convert, run and measure ternary (1.58-bit) language models."""
    options.demand_trust(model_trust, model_key)
