"""`tercet convert SOURCE FOLDER --to onnx`: what differs from the other formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tercet.cli import console
from tercet.errors import ParameterError
from tercet.models.loading import LoadedModel

__all__ = ["export"]


def export(
    source: LoadedModel,
    destination: Path,
    packing: str | None,
    other_options: Mapping[str, str | None],
    *,
    overwrite: bool,
    dry_run: bool,
    verify: bool,
    json: bool,
) -> None:
    """Write the folder and say what was written.

    Args:
        source: the model.
        destination: the folder.
        packing: `two_bit`, `int8`, or None for the first.
        other_options: options of the command that mean nothing here, and what was given for them.
        overwrite, dry_run, verify, json: as the command has them.

    Raises:
        ParameterError: one of the other options was given.
    """
    from tercet.conversion.onnx import export_onnx

    for option, value in other_options.items():
        if value is not None:
            raise ParameterError(
                f"{option} {value} means nothing for ONNX: floats stay as the source stores them"
            )
    matmul = packing or "two_bit"
    plan = f"{source.path} ({source.kind}) -> {destination}: an ONNX graph, codes stored as {matmul}"
    if dry_run:
        if json:
            console.write_json({"plan": [plan]})
        else:
            console.write_text(f"{plan}\n")
        return
    console.told().print(plan, markup=False)
    with console.progress("Converting") as show:
        done = export_onnx(
            source, destination, matmul=matmul, overwrite=overwrite, verify=verify, progress=show
        )
    if json:
        console.write_json(
            {
                "destination": str(destination),
                "format": "onnx",
                "bytes": done.file_bytes,
                "seconds": done.seconds,
                "relative_rms_error": done.relative_rms_error,
            }
        )
        return
    if done.relative_rms_error is not None:
        found = f"logits of onnxruntime differ by {done.relative_rms_error:.2e} (relative RMS)"
        console.told().print(found, markup=False)
    console.write_text(f"{destination}: {console.mebibytes(done.file_bytes)} in {done.seconds:.1f} s\n")
