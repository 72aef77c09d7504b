"""`tercet rm MODEL...`: give the space of pulled models back."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def rm(
    models: Annotated[
        list[str],
        typer.Argument(help="Names as `tercet list` shows them, or short names.", show_default=False),
    ],
) -> None:
    """Delete models that `tercet pull` fetched, and what interrupted downloads of them left.

    ORGANIZATION/NAME stands for every revision and file of it that is here.
    """
    from tercet.cli import console
    from tercet.errors import ParameterError
    from tercet.models.downloads import forget
    from tercet.models.registry import known_models

    for model in models:
        if model in known_models():
            raise ParameterError(f"{model} ships with the package and is not deleted")
    for model in models:
        for download in forget(model):
            console.write_text(f"{download.name}: {console.mebibytes(download.num_bytes)} deleted\n")
