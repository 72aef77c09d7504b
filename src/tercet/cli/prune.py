"""`tercet prune MODEL`: neurons that contribute nothing, or little, left out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tercet.cli import options

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def prune(
    model: Annotated[str, typer.Argument(help="A known name, a model file or a folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .tercet file to write.")],
    share: Annotated[
        float | None,
        typer.Option(
            help="Share of every layer's neurons that goes, those with the least energy (default: only what "
            "contributes nothing).",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="A text like what the model will read, which says what neurons do: .txt or .jsonl, also .xz "
            "or .gz (default: their weights say it).",
            show_default=False,
        ),
    ] = None,
    text_tokens: Annotated[int, typer.Option(help="How much of it is read.")] = 8192,
    held_out: Annotated[
        Path | None,
        typer.Option(help="Another text, to measure both models with.", show_default=False),
    ] = None,
    held_out_tokens: Annotated[int, typer.Option(help="How much of it is read.")] = 4096,
    threads: options.Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: options.Json = False,
) -> None:
    """Leave out neurons of the feed-forward network, and say what that costs.

    Without `--share` and `--text` the result is the same model: only neurons that give 0 for every input go.
    To win back what a larger share costs, go on with `tercet distill MODEL DATA --student OUTPUT`.
    """
    from tercet.cli import console
    from tercet.models.loading import load_model
    from tercet.models.registry import resolve
    from tercet.pruning import prune as run
    from tercet.pruning.prune import file_loss, windows_of

    source = resolve(model)
    windows = None if held_out is None else windows_of(load_model(source), held_out, held_out_tokens)
    done = run(source, output, share, text=text, text_tokens=text_tokens, overwrite=overwrite)
    losses = None if windows is None else [file_loss(path, windows, threads) for path in (source, output)]
    if json:
        found = {} if losses is None else {"loss_before": losses[0], "loss_after": losses[1]}
        console.write_json(done.to_dict() | found)
        return
    lost = done.ffn_size_before - done.ffn_size
    kind = "the same model" if done.lossless else "another model"
    console.write_text(
        f"{output}: {console.mebibytes(done.bytes_after)}, before {console.mebibytes(done.bytes_before)}\n"
        f"{lost} of {done.ffn_size_before} neurons left out in each layer; {kind}\n"
        f"silent in each layer: {', '.join(map(str, done.silent))}\n"
    )
    if done.text_tokens:
        console.write_text(
            f"0 for all {done.text_tokens} tokens of the text: {', '.join(map(str, done.unseen))}\n"
        )
    if losses is not None:
        console.write_text(f"held-out loss {losses[0]:.4f} before, {losses[1]:.4f} after (nats a token)\n")
