"""`tercet deploy`: the same model in other programs and on other machines.

strategies   list and test: what this machine can run, and how well each does it
choice       select and recommend: which of them to take, by measurement
run          one prompt through one of them
ray          replicas of the server, by Ray Serve
resources    what a server needs of a container platform
settings     what is said about a strategy, and how it becomes `DeploymentSettings`
"""

from __future__ import annotations

import importlib

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

# Name of the command -> module of this package and function in it. In the order of the help page.
COMMANDS = {
    "list": ("strategies", "list_strategies"),
    "test": ("strategies", "try_strategies"),
    "select": ("choice", "select"),
    "recommend": ("choice", "recommend"),
    "run": ("run", "run"),
    "ray": ("ray", "ray"),
    "resources": ("resources", "resources"),
}


@app.callback()
def deploy() -> None:
    """Run a model by other programs and on other machines."""


for name, (module, function) in COMMANDS.items():
    app.command(name)(getattr(importlib.import_module(f"tercet.cli.deploy.{module}"), function))
