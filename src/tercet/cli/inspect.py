"""`tercet inspect FILE`: what is inside a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tercet.cli import options

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def inspect(
    file: Annotated[
        str | None,
        typer.Argument(
            help="A .tercet file, a model folder or a name (default: the shipped model).", show_default=False
        ),
    ] = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="Every tensor with its checksum.")] = False,
    json: options.Json = False,
) -> None:
    """Show what is inside a model.

    Configuration, tensors, types, sizes, bits per weight, share of zeros and checksums. Everything is read
    and checked: a damaged file is refused with the name of the damaged piece.
    """
    from tercet.cli import console
    from tercet.cli.description import describe, grouped
    from tercet.models.registry import resolve

    with console.progress("Reading and checking"):
        description = describe(resolve(file))
    if json:
        console.write_json(description)
        return
    _show_summary(description)
    if tensors:
        _show_tensors(description["tensors"], ("type", "shape", "bytes", "zeros", "sha256"))
    else:
        _show_tensors(grouped(description["tensors"]), ("count", "type", "shape", "bytes", "bits", "zeros"))


def _show_summary(description: Mapping[str, Any]) -> None:
    from rich.table import Table

    from tercet.cli import console

    table = Table(show_header=False, box=None, pad_edge=False)
    config = description["config"]
    heads = (
        f"{config['num_heads']} heads of {config['head_dim']}, {config['num_kv_heads']} for keys and values"
    )
    rows = {
        "file": description["path"],
        "kind": f"{description['kind']}, {console.mebibytes(description['bytes'])}, whole and as written",
        "parameters": f"{description['parameters']:,}, {description['ternary_parameters']:,} of them ternary",
        "bits per weight": _join(
            f"{description['bits_per_weight']:.3f} on average",
            _format(description["ternary_bits_per_weight"], "{:.3f} in ternary matrices"),
            _format(description["share_of_zeros"], "{:.1%} of the ternary weights are zero"),
        ),
        "layers": f"{config['num_layers']} of width {config['hidden_size']}, {heads}, "
        f"feed-forward {config['ffn_size']} ({config['activation']})",
        "vocabulary": f"{config['vocab_size']:,} tokens, "
        + ("tied embeddings" if config["tied_embeddings"] else "an output head of its own"),
        "context": f"{config['max_context']:,} tokens, RoPE base {config['rope_theta']:,.0f}",
        "tokens": f"begin {config['bos_token_id']}, end {config['eos_token_ids']}",
        "chat template": "yes" if description["chat_template"] else "no",
        "sampling": _pairs(description["generation"]) or "the defaults",
        "blobs": _pairs(
            {name: console.mebibytes(blob["bytes"]) for name, blob in description["blobs"].items()}
        ),
        **{f"metadata {name}": str(value) for name, value in description["metadata"].items()},
    }
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    console.shown().print(table, markup=False)


def _show_tensors(tensors: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from rich.table import Table

    from tercet.cli import console

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("tensor", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="left" if column in ("type", "sha256") else "right", no_wrap=True)
    for tensor in tensors:
        cells = {
            "count": str(tensor.get("count", 1)),
            "type": tensor["type"],
            "shape": "x".join(map(str, tensor["shape"])),
            "bytes": f"{tensor['bytes']:,}",
            "bits": f"{tensor['bits_per_weight']:.2f}",
            "zeros": _format(tensor["share_of_zeros"], "{:.1%}"),
            "sha256": (tensor.get("sha256") or "")[:12],
        }
        table.add_row(tensor["name"], *(cells[column] for column in columns))
    console.shown().print("", table, markup=False)


def _format(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
