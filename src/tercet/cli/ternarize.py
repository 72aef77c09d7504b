"""`tercet ternarize SOURCE DESTINATION`: a full-precision model made ternary, without training or with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tercet.cli import options

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
INTERRUPTED = 130
TRAINING = "Training (with --train)"


def _training(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=TRAINING)


@app.command()
def ternarize(
    source: Annotated[str, typer.Argument(help="A full-precision model: a folder, a .gguf file or a name.")],
    destination: Annotated[Path, typer.Argument(help="The .tercet file to write.")],
    method: Annotated[
        str,
        typer.Option(help="absmean: each matrix by itself. calibrated: to keep what it gives for a text."),
    ] = "calibrated",
    scales: Annotated[
        str | None,
        typer.Option(
            help="How far a scale reaches: tensor, row or group (default: tensor for absmean, group for "
            "calibrated).",
            show_default=False,
        ),
    ] = None,
    group_size: Annotated[int, typer.Option(help="The most columns that share a scale of a group.")] = 128,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="A text like what the model will read: .txt or .jsonl, also .xz or .gz (default: a short "
            "built-in text).",
            show_default=False,
        ),
    ] = None,
    calibration_tokens: Annotated[int, typer.Option(help="How much of it is read.")] = 8192,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="Another text, to measure the result with (default: a built-in one).", show_default=False
        ),
    ] = None,
    held_out_tokens: Annotated[int, typer.Option(help="How much of it is read.")] = 2048,
    int8: Annotated[
        bool, typer.Option("--int8", help="Round activations to int8, too: faster, and worse still.")
    ] = False,
    train: Annotated[
        list[str] | None,
        _training("--train", help="Train on this data instead: a file, a Hub name or a folder of tokens."),
    ] = None,
    steps: Annotated[int, _training("--steps", help="Optimizer steps (default 500).")] = 500,
    lambda_steps: Annotated[
        int | None,
        _training("--lambda-steps", help="Until quantization is complete (default: a fifth of them)."),
    ] = None,
    learning_rate: Annotated[
        float, _training("--learning-rate", help="At its peak, by AdamW (default 1e-4).")
    ] = 1e-4,
    context: Annotated[int, _training("--context", help="Tokens of a sequence (default 256).")] = 256,
    batch_size: Annotated[int, _training("--batch-size", help="Sequences a step (default 8).")] = 8,
    precision: Annotated[str, _training("--precision", help="bf16 or fp32 (default bf16).")] = "bf16",
    resume: Annotated[bool, _training("--resume", help="Go on from the newest checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: options.Json = False,
) -> None:
    """Make a full-precision model ternary without training it. **Most of what it knew is lost.**

    With `--train DATA` it is trained while its quantization rises from none to all (λ warm-up); log,
    checkpoints and the curve of quality against tokens are in the folder `DESTINATION.run`.

    A baseline, to compare trained models with. The result says of itself that it is lossy, and a report of
    how much, measured on a held-out text, is written beside it: `NAME.quality.json` and `NAME.quality.md`.
    """
    from tercet.cli import console
    from tercet.models.registry import resolve

    if train:
        from tercet.cli.training_ternarization import ternarize_by_training
        from tercet.distillation.warm_up import warm_up_settings

        settings = warm_up_settings(
            steps, lambda_steps=lambda_steps, learning_rate=learning_rate, context=context,
            batch_size=batch_size, precision=precision,
        )  # fmt: skip
        finished = ternarize_by_training(source, destination, train, settings, resume, overwrite, json)
        raise typer.Exit(0 if finished else INTERRUPTED)
    from tercet.ternarization import Method, ternarize

    chosen = Method(method, scales, group_size, calibration_tokens)
    with console.progress("Ternarizing") as show:
        done = ternarize(
            resolve(source),
            destination,
            chosen,
            calibration=calibration,
            held_out=held_out,
            held_out_tokens=held_out_tokens,
            quantize_activations=int8,
            overwrite=overwrite,
            progress=show,
        )
    report = done.report
    if json:
        console.write_json(report.to_dict())
        return
    quality = report.quality
    console.write_text(
        f"{destination}: {console.mebibytes(report.result_bytes)} in {report.seconds:.0f} s, and lossy\n"
        f"perplexity {quality.source_perplexity:.4g} before, {quality.result_perplexity:.4g} after; "
        f"KL {quality.kl_divergence:.2f} nats, {quality.same_top_token:.1%} of first choices kept\n"
        f"report: {done.report_files[1]}\n"
    )
