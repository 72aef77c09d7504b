"""`tercet convert SOURCE DESTINATION`: from a training checkpoint to the file that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tercet.cli import options

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A model folder, a .tercet file, or a known name.")],
    destination: Annotated[Path, typer.Argument(help="The .tercet file to write.")],
    packing: Annotated[
        str, typer.Option(help="How ternary weights are stored: two_bit or five_per_byte.")
    ] = "two_bit",
    embedding_type: Annotated[
        str, typer.Option(help="How embeddings and output head are stored: f16, bf16 or f32.")
    ] = "f16",
    name: Annotated[
        str | None, typer.Option(help="The model's name, kept in the file.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    verify: Annotated[
        bool, typer.Option(help="Compare the result with the source before it gets its name.")
    ] = True,
    json: options.Json = False,
) -> None:
    """Convert a model into a `.tercet` file.

    The plan is printed first. The file appears complete and checked, or not at all.
    """
    from tercet.cli import console
    from tercet.conversion import convert, plan_conversion
    from tercet.models.registry import resolve

    metadata = {} if name is None else {"name": name}
    plan = plan_conversion(
        resolve(source), destination, packing, embedding_type, metadata=metadata, overwrite=overwrite
    )
    console.told().print(str(plan), markup=False)
    with console.progress("Converting") as show:
        done = convert(
            plan,
            verify=verify,
            progress=lambda state: show(f"{state.done_bytes / state.total_bytes:.0%}, {state.tensor}"),
        )
    if json:
        verification = done.verification
        console.write_json(
            {
                "destination": str(destination),
                "bytes": plan.file_bytes,
                "seconds": done.seconds,
                "relative_rms_error": verification and verification.relative_rms_error,
                "same_top_token": verification and verification.same_top_token,
            }
        )
        return
    if done.verification is not None:
        console.told().print(str(done.verification), markup=False)
    console.write_text(f"{destination}: {console.mebibytes(plan.file_bytes)} in {done.seconds:.1f} s\n")
