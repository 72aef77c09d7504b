"""`tercet convert SOURCE DESTINATION`: from any way of storing a model to any other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tercet.cli import options

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A model folder, a .tercet or .gguf file, or a known name.")],
    destination: Annotated[Path, typer.Argument(help="The file or folder to write.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="native, huggingface, huggingface-packed, onnx, or gguf, also with its type: gguf-tq1_0, "
            "gguf-tq2_0, gguf-i2_s, gguf-f16, ... (default: by the ending, .gguf or .tercet).",
            show_default=False,
        ),
    ] = None,
    packing: Annotated[
        str | None,
        typer.Option(
            "--packing",
            "--type",
            help="How ternary weights are stored. In a .tercet file two_bit, five_per_byte, or auto for "
            "the faster one on this machine; in a GGUF file tq1_0, tq2_0, q2_0, i2_s, f16, bf16 or f32; in "
            "ONNX two_bit or int8 (default: what is usual).",
            show_default=False,
        ),
    ] = None,
    embedding_type: Annotated[
        str | None,
        typer.Option(
            help="How embeddings and output head are stored: f16, bf16 or f32, in GGUF also q8_0, q5_0 or "
            "q4_0 (default: f16, in folders bf16).",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="How the output head of a .tercet file is stored, and the embedding where they are one: "
            "int8, 6bit, f16, bf16 or f32 (default: as embeddings).",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name, kept in the file.", show_default=False)
    ] = None,
    layout: options.Layout = None,
    kernel_config: options.KernelConfigFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
    verify: Annotated[
        bool, typer.Option(help="Compare the result with the source before it gets its name.")
    ] = True,
    json: options.Json = False,
) -> None:
    """Convert a model: into a `.tercet` file, a GGUF file, or a folder for transformers or onnxruntime.

    The plan is printed first. The result is compared with its source, logits on a fixed prompt included, and
    appears complete or not at all. A conversion that was killed is gone on with by the next.
    """
    from tercet.cli import console
    from tercet.conversion import convert, plan_conversion
    from tercet.models.loading import load_model
    from tercet.models.registry import resolve

    if to is not None and to.lower() == "onnx":
        from tercet.cli.onnx_export import export

        kernels = options.kernel_config(kernel_config)
        model = load_model(resolve(source), layout=layout, kernels=kernels)
        asked = {"--embedding-type": embedding_type, "--head": head, "--name": name}
        export(
            model, destination, packing, asked, overwrite=overwrite, dry_run=dry_run, verify=verify, json=json
        )
        return
    metadata = {} if name is None else {"name": name}
    plan = plan_conversion(
        resolve(source),
        destination,
        packing,
        embedding_type,
        to=to,
        metadata=metadata,
        overwrite=overwrite,
        layout=layout,
        kernels=options.kernel_config(kernel_config),
        head=head,
    )
    if dry_run:
        if json:
            console.write_json({"plan": str(plan).splitlines(), "bytes": plan.file_bytes})
        else:
            console.write_text(f"{plan}\n")
        return
    console.told().print(str(plan), markup=False)
    with console.progress("Converting") as show:
        done = convert(
            plan,
            verify=verify,
            progress=lambda state: show(
                f"{state.stage}, {state.done_bytes / state.total_bytes:.0%}, {state.tensor}"
            ),
        )
    if json:
        verification = done.verification
        console.write_json(
            {
                "destination": str(destination),
                "format": plan.output.format,
                "bytes": plan.file_bytes,
                "seconds": done.seconds,
                "resumed_tensors": done.resumed_tensors,
                "relative_rms_error": verification and verification.relative_rms_error,
                "same_top_token": verification and verification.same_top_token,
            }
        )
        return
    if done.resumed_tensors:
        console.told().print(f"gone on after {done.resumed_tensors} tensors that were there", markup=False)
    if done.verification is not None:
        console.told().print(str(done.verification), markup=False)
    console.write_text(f"{destination}: {console.mebibytes(plan.file_bytes)} in {done.seconds:.1f} s\n")
