"""`tercet manifest create MODEL` and `tercet manifest verify MODEL`: who vouches for the files of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

ModelPath = Annotated[str, typer.Argument(metavar="MODEL", help="A file or folder, or the name of a model.")]


@app.callback()
def manifest() -> None:
    """Say what the files of a model are, and check that they still are."""


@app.command()
def create(
    model: ModelPath,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a manifest of a folder.")] = False,
) -> None:
    """Write `manifest.sha256`: a SHA-256 for every file of the model, as `sha256sum` writes it.

    Sign it with `minisign -S -m manifest.sha256`. From then on a file that was changed is refused when the
    model is opened.
    """
    from tercet.cli import console
    from tercet.environment import atomic_write
    from tercet.errors import StorageError
    from tercet.models.provenance import make_manifest
    from tercet.models.registry import resolve

    path = resolve(model)
    target, text = make_manifest(path)
    if path.is_dir() and target.exists() and not overwrite:
        raise StorageError(f"{target} exists; check it with `tercet manifest verify`, or give --overwrite")
    with atomic_write(target) as file:
        file.write(text)
    console.write_text(f"{target}: {text.count(bytes([10]))} files\n")


@app.command()
def verify(
    model: ModelPath,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="File with a public key of minisign that must have signed.", show_default=False),
    ] = None,
) -> None:
    """Read every file of the model and compare it with `manifest.sha256`; exit status 2 if one differs."""
    from tercet.cli import console
    from tercet.errors import ModelNotFoundError
    from tercet.models.provenance import ModelTrust, check_provenance, read_key
    from tercet.models.registry import resolve

    path = resolve(model)
    keys = tuple(read_key(file) for file in key or ())
    voucher = check_provenance(path, ModelTrust("signed" if keys else "manifest", keys), remember=False)
    if voucher is None:
        raise ModelNotFoundError(f"{path} ships with the package, which needs no manifest")
    signed = "not signed, or not checked" if voucher.signed is None else f"signed: {voucher.signed}"
    console.write_text(f"{path}: {voucher.files} files are as {voucher.manifest.name} says; {signed}\n")
