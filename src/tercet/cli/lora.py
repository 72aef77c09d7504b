"""`tercet lora merge MODEL ADAPTER -o OUT`: an adapter becomes part of a model, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tercet.cli import options

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def lora() -> None:
    """Work with adapters (LoRA) of ternary models."""


@app.command()
def merge(
    model: Annotated[
        str, typer.Argument(help="The model that the adapter was trained with; best a folder with masters.")
    ],
    adapter: Annotated[
        Path, typer.Argument(help="Folder of the adapter: PEFT's, or of --method ternary-lora.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .tercet file to write.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Examples to measure the loss on before and after; may be given several times.",
            show_default=False,
        ),
    ] = None,
    max_samples: Annotated[int, typer.Option(help="How many of them; 0 for all.")] = 200,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: options.Json = False,
) -> None:
    """Merge an adapter into a model.

    An adapter of codes merges exactly. One of floats goes into the masters, which are then rounded again:
    what is smaller than the rounding is lost. The report beside the result says how much: `NAME.merge.md`.
    """
    from tercet.cli import console
    from tercet.environment import optional_import

    for module in ("torch", "transformers"):
        optional_import(module, "finetune")
    from tercet.finetuning.lora.merge import merge_adapter

    with console.progress("Merging") as show:
        report = merge_adapter(
            model,
            adapter,
            output,
            data=(data[0] if data and len(data) == 1 else data),
            max_samples=max_samples,
            overwrite=overwrite,
            progress=show,
        )
    if json:
        console.write_json(report.to_dict())
    else:
        console.write_text("\n".join(report.lines()) + "\n")
