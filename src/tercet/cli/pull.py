"""`tercet pull MODEL`: a model from the Hugging Face Hub into the cache."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.conversion.hub import PullPlan

app = typer.Typer(add_completion=False)


@app.command()
def pull(
    model: Annotated[
        str, typer.Argument(help="ORGANIZATION/NAME on the Hub, or a short name (see `tercet list --known`).")
    ],
    file: Annotated[
        str | None,
        typer.Option("--file", help="Take this file, where a repository holds several.", show_default=False),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Branch, tag or commit (default: main).", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before more than 10 GB.")] = False,
    json: options.Json = False,
) -> None:
    """Download a model, so that every command knows it by its name.

    Sizes and hashes are checked, and an interrupted download goes on where it stopped. HF_ENDPOINT names
    another Hub, HF_TOKEN an access token; HF_HUB_OFFLINE=1 downloads nothing.
    """
    from tercet.cli import console
    from tercet.conversion.hub import ASK_ABOVE_BYTES, plan_pull, pull

    with console.progress("Asking the Hub"):
        plan = plan_pull(model, file, revision)
    console.told().print(str(plan), markup=False)
    if plan.missing_bytes > ASK_ABOVE_BYTES and not yes:
        _ask(plan)
    with console.progress("Downloading") as show:
        download = pull(
            plan,
            progress=lambda state: show(f"{state.done_bytes / max(state.total_bytes, 1):.0%}, {state.file}"),
        )
    if json:
        console.write_json(
            {
                "name": download.name,
                "path": str(download.path),
                "commit": download.commit,
                "bytes": download.num_bytes,
                "downloaded_bytes": plan.missing_bytes,
            }
        )
        return
    console.write_text(f"{download.path}\n")


def _ask(plan: PullPlan) -> None:
    """Let a person decide about a large download; a script has to say --yes."""
    from tercet.errors import ParameterError

    size = f"{plan.missing_bytes / 1e9:.1f} GB"
    if not sys.stdin.isatty():
        raise ParameterError(f"{plan.download.name} takes {size} to download. If that is meant, add --yes")
    typer.confirm(f"Download {size}?", abort=True, err=True)
