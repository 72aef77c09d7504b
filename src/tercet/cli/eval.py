"""`tercet eval`: how good a model is."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

from tercet.cli import options

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def evaluate() -> None:
    """Measure the quality of a model."""


@app.command()
def perplexity(
    file: Annotated[Path, typer.Argument(help="Text, or .jsonl with one document a line; also .xz and .gz.")],
    model: options.Model = None,
    field: Annotated[str, typer.Option(help="Where JSON lines have their text.")] = "text",
    window: Annotated[
        int | None, typer.Option(help="Tokens seen at once (default: the context).", show_default=False)
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="New tokens a window (default: half of it).", show_default=False)
    ] = None,
    max_documents: Annotated[
        int | None, typer.Option(help="Read only the first documents.", show_default=False)
    ] = None,
    threads: options.Threads = None,
    isa: options.Isa = None,
    json: options.Json = False,
) -> None:
    """Measure how surprised a model is by a text, per byte and per token; lower is better."""
    from tercet.cli import console
    from tercet.evaluation.documents import read_documents
    from tercet.evaluation.perplexity import measure_perplexity
    from tercet.llm import LLM

    documents = itertools.islice(read_documents(file, field), max_documents)
    with console.progress("Loading the model"):
        llm = LLM(model, threads=threads, isa=isa)
    with console.progress("Reading") as show:
        report = measure_perplexity(
            llm,
            documents,
            window,
            stride,
            lambda tokens, nats: show(f"{tokens} tokens, {nats / tokens:.4f} nats each"),
        )
    if json:
        console.write_json(report.to_dict())
        return
    rate = report.tokens / report.seconds
    console.write_text(
        f"nats per byte         {report.nats_per_byte:.4f} ({report.bits_per_byte:.4f} bits)\n"
        f"perplexity per token  {report.perplexity_per_token:.3f}\n"
        f"text                  {report.bytes} bytes, {report.tokens} tokens, {report.documents} documents\n"
        f"windows               {report.windows} of up to {report.window_tokens} tokens, "
        f"{report.stride_tokens} of them new\n"
    )
    console.told().print(f"{report.model} · {report.seconds:.1f} s · {rate:.0f} tokens/s", style="dim")
