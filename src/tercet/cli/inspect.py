"""`tercet inspect FILE`: what is inside a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from tercet.cli import options

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def inspect(
    file: Annotated[
        str | None,
        typer.Argument(
            help="A .tercet or .gguf file, a model folder, or a name (default: the shipped model).",
            show_default=False,
        ),
    ] = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="Every tensor, not one line per kind.")] = False,
    digest: Annotated[
        bool,
        typer.Option(
            "--digest",
            help="Scales and SHA-256 of the codes of every ternary matrix: the same for the same weights, "
            "whatever they are stored as.",
        ),
    ] = False,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only what the header tells: weights are neither read nor checked."),
    ] = False,
    layout: options.Layout = None,
    kernel_config: options.KernelConfigFile = None,
    json: options.Json = False,
) -> None:
    """Show what is inside a model.

    Architecture, tensors, types, how far scales reach, sizes, bits per weight, share of zeros, checksums, and
    what is odd about it. Everything is read and checked: a damaged file is refused with the name of the
    damaged piece. A file of another architecture is described by its own names, with the reason why it does
    not run.
    """
    from tercet.cli import console
    from tercet.cli.description import describe, grouped
    from tercet.models.registry import resolve

    with console.progress("Reading and checking") as show:
        description = describe(
            resolve(file),
            quick=quick,
            digest=digest,
            layout=layout,
            kernels=options.kernel_config(kernel_config),
            progress=show,
        )
    if json:
        console.write_json(description)
        return
    _show_summary(description)
    columns = ("type", "scales", "shape", "bytes", "bits", "zeros")
    if digest:
        _show_tensors(description["tensors"], (*columns, "scale", "codes sha256"))
    elif tensors:
        _show_tensors(description["tensors"], (*columns, "sha256"))
    else:
        _show_tensors(grouped(description["tensors"]), ("count", *columns))
    for remark in description["remarks"]:
        console.shown().print(f"note: {remark}", markup=False)


def _show_summary(description: Mapping[str, Any]) -> None:
    from rich.table import Table

    from tercet.cli import console

    state = "not checked"
    if description["checked"]:  # the native file has checksums, too
        state = "whole and as written" if description["has_checksums"] else "whole"
    rows = {
        "file": description["path"],
        "kind": f"{description['kind']}, {console.mebibytes(description['bytes'])}, {state}",
    }
    config = description["config"]
    rows |= (
        {"parameters": f"{description['parameters']:,}", "bits per weight": _average(description)}
        if config is None
        else _rows_of_a_model(description, config)
    )
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    console.shown().print(table, markup=False)


def _rows_of_a_model(description: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    from tercet.cli import console

    heads = (
        f"{config['num_heads']} heads of {config['head_dim']}, {config['num_kv_heads']} for keys and values"
    )
    tokens = description["tokens"]
    return {
        "architecture": _join(config["architecture"], *_options(config)),
        "parameters": f"{description['parameters']:,}, {description['ternary_parameters']:,} of them ternary",
        "bits per weight": _join(
            _average(description),
            _format(description["ternary_bits_per_weight"], "{:.3f} in ternary matrices"),
            _format(description["share_of_zeros"], "{:.1%} of the ternary weights are zero"),
        ),
        "layers": f"{config['num_layers']} of width {config['hidden_size']}, {heads}, "
        f"feed-forward {config['ffn_size']} ({config['activation']})",
        "vocabulary": f"{config['vocab_size']:,} tokens, "
        + ("tied embeddings" if config["tied_embeddings"] else "an output head of its own"),
        "context": f"{config['max_context']:,} tokens, RoPE base {config['rope_theta']:,.0f}",
        "tokenizer": "none" if tokens is None else f"{tokens:,} tokens",
        "tokens": f"begin {config['bos_token_id']}, end {config['eos_token_ids']}",
        "chat template": "yes" if description["chat_template"] else "no",
        "sampling": _pairs(description["generation"]) or "the defaults",
        "blobs": _pairs(
            {name: console.mebibytes(blob["bytes"]) for name, blob in description["blobs"].items()}
        ),
        **{f"metadata {name}": str(value) for name, value in description["metadata"].items()},
    }


def _options(config: Mapping[str, Any]) -> Iterator[str]:
    """What the model has beyond the plainest decoder, in words."""
    words = {
        "attention_sub_norm": "norm before the output projection",
        "ffn_sub_norm": "norm before the down projection",
        "qk_norm": "norms of queries and keys",
        "projection_norms": "a norm before every projection",
        "post_norms": "norms after attention and feed-forward",
        "rotation": "rotated basis",
        "pooling": "makes embeddings of texts",
    }
    yield from (text for name, text in words.items() if config[name])
    yield "int8 activations" if config["quantize_activations"] else "real-valued activations"
    if scaling := config["rope_scaling"]:
        yield f"RoPE scaling {scaling['kind']}"
    if window := config["sliding_window"]:
        yield f"windows of {window} tokens"


def _average(description: Mapping[str, Any]) -> str:
    return _format(description["bits_per_weight"], "{:.3f} on average")


def _show_tensors(tensors: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from rich.table import Table

    from tercet.cli import console

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("tensor", no_wrap=True)
    for column in columns:
        left = column in ("type", "scales", "sha256", "codes sha256")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for tensor in tensors:
        cells = {
            "count": str(tensor.get("count", 1)),
            "type": tensor["type"] + (" masters" if tensor.get("rounded_on_loading") else ""),
            "scales": _scales(tensor),
            "shape": "x".join(map(str, tensor["shape"])),
            "bytes": f"{tensor['bytes']:,}",
            "bits": _format(tensor["bits_per_weight"], "{:.2f}"),
            "zeros": _format(tensor["share_of_zeros"], "{:.1%}"),
            "sha256": (tensor.get("sha256") or "")[:12],
            "scale": _format(tensor.get("digest", {}).get("scale"), "{:.9g}"),
            "codes sha256": tensor.get("digest", {}).get("codes_sha256", "")[:16],
        }
        table.add_row(tensor["name"], *(cells[column] for column in columns))
    console.shown().print("", table, markup=False)


def _scales(tensor: Mapping[str, Any]) -> str:
    granularity = tensor["granularity"]
    return (
        f"per {tensor['group_size']}"
        if granularity == "group"
        else f"per {granularity}"
        if granularity
        else ""
    )


def _format(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
