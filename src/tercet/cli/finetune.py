"""`tercet finetune MODEL DATA`: a ternary model learns from examples; the result is measured as a file."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from tercet.cli import options

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
INTERRUPTED = 130
DISAGREES = 1
DATA = "Data"
TRAINING = "Training"
RUN = "Run"
ADAPTERS = "Adapters (--method lora or ternary-lora)"


def _option(panel: str, *names: str, help: str) -> Any:
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=panel)


@app.command()
def finetune(
    model: Annotated[
        str, typer.Argument(help="A ternary model: a known name, a folder with masters, or any model file.")
    ],
    data: Annotated[
        list[str],
        typer.Argument(help="Examples: .json, .jsonl, .csv, .parquet, .txt, a folder, or a name on the Hub."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run: checkpoints, log, the exported model.")
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="full: every weight. lora: adapters beside the frozen model. ternary-lora: adapters that "
            "merge into the codes exactly (default: full).",
            show_default=False,
        ),
    ] = None,
    validation: Annotated[
        str | None, _option(DATA, help="Examples to measure the loss on (default: some are held out).")
    ] = None,
    validation_share: Annotated[
        float | None, _option(DATA, help="Share of the rows that is held out (default 0.1).")
    ] = None,
    max_samples: Annotated[
        int | None, _option(DATA, help="Rows that are used; 0 for all (default 1000).")
    ] = None,
    max_length: Annotated[
        int | None, _option(DATA, help="Tokens of a sequence (default 2048, at most the model's context).")
    ] = None,
    packing: Annotated[
        bool | None,
        _option(DATA, "--packing/--no-packing", help="Several examples in one sequence (default)."),
    ] = None,
    completion_only: Annotated[
        bool | None,
        _option(
            DATA, "--completion-only/--all-tokens", help="Learn answers only (default), or prompts, too."
        ),
    ] = None,
    epochs: Annotated[float | None, _option(TRAINING, help="Times to see every example (default 3).")] = None,
    max_steps: Annotated[int | None, _option(TRAINING, help="Optimizer steps at most.")] = None,
    learning_rate: Annotated[float | None, _option(TRAINING, help="At its peak (default 1e-4).")] = None,
    schedule: Annotated[
        str | None, _option(TRAINING, help="How it falls: linear, cosine or constant (default linear).")
    ] = None,
    warmup_steps: Annotated[
        int | None, _option(TRAINING, help="Steps to the peak, at most a tenth of all (default 100).")
    ] = None,
    batch_size: Annotated[
        int | None, _option(TRAINING, help="Sequences computed together (default 2).")
    ] = None,
    accumulation: Annotated[int | None, _option(TRAINING, help="Batches in one step (default 8).")] = None,
    weight_decay: Annotated[float | None, _option(TRAINING, help="Of AdamW (default 0).")] = None,
    precision: Annotated[
        str | None, _option(TRAINING, help="Of the products: bf16 or fp32 (default bf16).")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        _option(
            TRAINING, "--gradient-checkpointing/--no-gradient-checkpointing", help="Less memory, more time."
        ),
    ] = None,
    early_stopping: Annotated[
        int | None,
        _option(TRAINING, help="Evaluations without a better loss that end the run (default: off)."),
    ] = None,
    seed: Annotated[
        int | None, _option(TRAINING, help="Chooses order, split and adapters (default 0).")
    ] = None,
    lora_rank: Annotated[int | None, _option(ADAPTERS, help="Rank (default 32).")] = None,
    lora_alpha: Annotated[
        float | None, _option(ADAPTERS, help="Strength; over the rank (default 64).")
    ] = None,
    lora_dropout: Annotated[float | None, _option(ADAPTERS, help="Dropout (default 0.1).")] = None,
    load_in_8bit: Annotated[
        bool | None,
        _option(
            ADAPTERS, "--load-in-8bit/--no-load-in-8bit", help="Frozen codes in 8 bits: less memory, exact."
        ),
    ] = None,
    evaluate_every: Annotated[
        int | None, _option(RUN, help="Steps between evaluations (default 500).")
    ] = None,
    save_every: Annotated[int | None, _option(RUN, help="Steps between checkpoints (default 500).")] = None,
    keep: Annotated[int | None, _option(RUN, help="Checkpoints that stay (default 3).")] = None,
    log_every: Annotated[
        int | None, _option(RUN, help="Steps between lines of the log (default 10).")
    ] = None,
    resume: Annotated[bool, _option(RUN, "--resume", help="Go on with the run in the folder.")] = False,
    test_prompt: Annotated[
        list[str] | None,
        _option(RUN, help="Answered before, and by the exported file after; may be given several times."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Teach a ternary model by examples, and export what was learned to a file that does exactly that.

    The exported file is measured by the engine that will run it: its loss is printed beside the trainer's.
    Ctrl-C saves and stops; `--resume` goes on to the same weights.
    """
    named = {name: value for name, value in locals().items() if name in _SETTINGS and value is not None}
    from tercet.environment import optional_import

    for module in ("torch", "transformers", "accelerate"):
        optional_import(module, "finetune")
    from tercet.cli import console
    from tercet.finetuning.finetuner import FineTuner

    told = console.told()
    tuner = FineTuner(model, **named)
    with _stopped_by_interrupt() as stop, _bar() as show:
        result = tuner.train(
            data[0] if len(data) == 1 else data,
            output,
            validation=validation,
            test_prompts=test_prompt or (),
            resume=resume,
            tell=lambda line: told.print(line, markup=False),
            on_event=show,
            stop=stop,
        )
    if json:
        console.write_json(result.to_dict())
    else:
        console.write_text(f"{result}\n")
    if result.interrupted:
        told.print("go on with the same command and --resume", markup=False)
        raise typer.Exit(INTERRUPTED)
    if not result.agrees:
        raise typer.Exit(DISAGREES)


_SETTINGS = frozenset({
    "method", "validation_share", "max_samples", "max_length", "packing", "completion_only", "epochs",
    "max_steps", "learning_rate", "schedule", "warmup_steps", "batch_size", "accumulation", "weight_decay",
    "precision", "gradient_checkpointing", "early_stopping", "seed", "lora_rank", "lora_alpha",
    "lora_dropout", "load_in_8bit", "evaluate_every", "save_every", "keep", "log_every",
})  # fmt: skip
"""What goes into `FineTuneSettings`; its defaults are the only ones."""


@contextlib.contextmanager
def _bar() -> Iterator[Any]:
    """Show step and losses: a bar on a terminal, lines elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tercet.cli import console

    told = console.told()
    if not told.is_terminal:

        def lines(step: int, steps: int, figures: dict[str, float]) -> None:
            if text := _described(figures):
                told.print(f"step {step} of {steps}: {text}", markup=False)

        yield lines
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=told) as bar:
        task = bar.add_task("starting", total=None)

        def show(step: int, steps: int, figures: dict[str, float]) -> None:
            bar.update(task, completed=step, total=steps, description=_described(figures))

        yield show


def _described(figures: dict[str, float]) -> str:
    if "eval_loss" in figures:
        return f"validation loss {figures['eval_loss']:.4f}"
    if "loss" in figures:
        return f"loss {figures['loss']:.4f}"
    return ""


@contextlib.contextmanager
def _stopped_by_interrupt() -> Iterator[Any]:
    """Let the first Ctrl-C end the run after its step; a second one interrupts as usual."""
    pressed = threading.Event()
    usual = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, usual)
