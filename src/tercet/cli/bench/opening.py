"""`tercet bench open`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.bench.opening import OpenReport


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

    from tercet.bench.model_store import write_random_model
    from tercet.bench.opening import bench_open
    from tercet.cli import console
    from tercet.models.registry import resolve
    from tercet.models.shapes import shape as config_of

    with tempfile.TemporaryDirectory(prefix="tercet-") as folder, console.progress("Opening") as show:
        if model is None:
            path = Path(folder) / f"{shape}.tercet"
            show("drawing random weights")
            write_random_model(path, config_of(shape))
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
        ("machine", f"{machine.described()}"),
    ]  # fmt: skip
    return "".join(f"{name:<17} {value}\n" for name, value in rows)
