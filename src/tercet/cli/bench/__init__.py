"""`tercet bench`: how fast this machine is, with its own limits measured in the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.bench.decode import DecodeReport
    from tercet.bench.opening import OpenReport

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def bench() -> None:
    """Measure speed on this machine."""


@app.command()
def decode(
    shape: Annotated[str, typer.Option(help="Shape of the model; weights are random.")] = "2b4t",
    threads: options.Threads = None,
    isa: options.Isa = None,
    packing: Annotated[str, typer.Option(help="How ternary weights are stored.")] = "two_bit",
    head: Annotated[str, typer.Option(help="Type of embedding and output head: f16, bf16 or f32.")] = "f16",
    context: Annotated[int, typer.Option(help="Tokens before the first that is timed.")] = 128,
    tokens: Annotated[int, typer.Option(help="Tokens in each timed run.")] = 32,
    runs: Annotated[int, typer.Option(help="Timed runs; the median is reported.")] = 5,
    json: options.Json = False,
) -> None:
    """Time the generation of one token after another, and say what share of the read bandwidth it reached."""
    from tercet.bench.decode import bench_decode
    from tercet.cli import console

    with console.progress(f"Decoding with the shape {shape}") as show:
        report = bench_decode(shape, threads, isa, packing, head, context, tokens, runs, progress=show)
    if json:
        console.write_json(report.to_dict())
    else:
        console.write_text(_table(report))


@app.command("open")
def open_model(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Name or path of a model (default: one with random weights).", show_default=False
        ),
    ] = None,
    shape: Annotated[str, typer.Option(help="Shape of the model with random weights.")] = "2b4t",
    threads: options.Threads = None,
    runs: Annotated[int, typer.Option(help="Openings after the first; the median is reported.")] = 5,
    json: options.Json = False,
) -> None:
    """Time the opening of a model in fresh processes, and say what it occupies once it has computed."""
    import tempfile
    from pathlib import Path

    from tercet.bench.opening import bench_open, write_random_model
    from tercet.cli import console
    from tercet.models.registry import resolve

    with tempfile.TemporaryDirectory(prefix="tercet-") as folder, console.progress("Opening") as show:
        if model is None:
            path = Path(folder) / f"{shape}.tercet"
            show("drawing random weights")
            write_random_model(path, shape)
        else:
            path = resolve(model)
        report = bench_open(path, shape if model is None else model, threads, runs, progress=show)
    if json:
        console.write_json(report.to_dict())
    else:
        console.write_text(_opening_table(report))


def _opening_table(report: OpenReport) -> str:
    seconds, machine = report.seconds, report.machine
    spread = f"{seconds.lowest:.3f} to {seconds.highest:.3f} in {len(seconds.values)} runs"
    rows = [
        ("open", f"{seconds.median:.3f} s  [{spread}]"),
        ("first opening", f"{report.first_seconds:.3f} s, the file checked"),
        ("file", f"{report.file_bytes / 1e6:.1f} MB, {report.model}"),
        ("resident", f"{report.model_bytes / 1e6:.1f} MB, {report.share_of_file:.3f} of the file"),
        ("besides", f"KV cache {report.kv_cache_bytes / 1e6:.1f} MB, interpreter and libraries "
                    f"{report.before_bytes / 1e6:.1f} MB"),
        ("machine", f"{machine.cpu}, {machine.cores} cores, {machine.system}"),
    ]  # fmt: skip
    return "".join(f"{name:<17} {value}\n" for name, value in rows)


def _table(report: DecodeReport) -> str:
    speed, machine = report.speed, report.machine
    spread = f"{speed.lowest:.2f} to {speed.highest:.2f} in {len(speed.values)} runs"
    rows = [
        ("decode", f"{speed.median:.2f} tokens/s  [{spread}]"),
        ("a token reads", f"{report.bytes_per_token / 1e6:.1f} MB"),
        ("bandwidth", f"{report.bandwidth / 1e9:.1f} GB/s  (best reader: {report.bandwidth_reader})"),
        ("share reached", f"{report.bandwidth_share:.0%}"),
        ("model", f"{report.shape}, {report.config.num_parameters / 1e6:.0f} M parameters, {report.packing}, "
                  f"{report.head_type} head"),
        ("threads, kernels", f"{report.threads}, {report.isa}"),
        ("machine", f"{machine.cpu}, {machine.cores} cores, {machine.system}"),
    ]  # fmt: skip
    return "".join(f"{name:<17} {value}\n" for name, value in rows)
