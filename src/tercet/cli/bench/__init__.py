"""`tercet bench`: how fast this machine is, with its own limits measured in the same run.

speed        the commands that time one thing
comparison   the commands that set two things side by side
cost         what a measured speed means in machines and money
settings     options they share, and the forms of a report
"""

from __future__ import annotations

import typer

from tercet.cli.bench import comparison, cost, gpu, levels, monitoring, opening, server, sparsity, speed

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def bench() -> None:
    """Measure speed on this machine."""


for command, name in (
    (speed.decode, "decode"),
    (speed.prefill, "prefill"),
    (speed.load, "load"),
    (speed.context, "context"),
    (comparison.scaling, "scaling"),
    (speed.kernels, "kernels"),
    (gpu.gpu_products, "gpu"),
    (comparison.compare_precision, "compare-precision"),
    (levels.levels, "levels"),
    (sparsity.sparsity, "sparsity"),
    (opening.open_model, "open"),
    (server.server, "server"),
    (monitoring.monitor, "monitor"),
    (cost.cost, "cost"),
):
    app.command(name)(command)
