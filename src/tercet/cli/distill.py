"""`tercet distill TEACHER DATA`: a full-precision model teaches a ternary one, measured as a file."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.distillation import DistillationResult, DistillationSettings

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
INTERRUPTED = 130
LOSS = "Loss"
SCHEDULE = "Schedule"


def _option(panel: str, *names: str, help: str) -> Any:
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=panel)


@app.command()
def distill(
    teacher: Annotated[str, typer.Argument(help="A full-precision model: a folder, a .gguf file or a name.")],
    data: Annotated[
        list[str],
        typer.Argument(
            help="Text: .json, .jsonl, .csv, .parquet, .txt, a name on the Hub, or one folder of tokens."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run: log, curve, checkpoints, the student.")
    ],
    student: Annotated[
        str | None,
        typer.Option(
            help="A ternary model to go on from, of the same tokenizer (default: made of the teacher).",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A settings.json (every run folder has one).", show_default=False),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(help="Text to measure with (default: a part is held out).", show_default=False),
    ] = None,
    max_samples: Annotated[int, typer.Option(help="Rows of the data that are used; 0 for all.")] = 0,
    steps: Annotated[int | None, _option(SCHEDULE, help="Optimizer steps (default 500).")] = None,
    batch_size: Annotated[int | None, _option(SCHEDULE, help="Sequences a step (default 8).")] = None,
    context: Annotated[int | None, _option(SCHEDULE, help="Tokens a sequence (default 256).")] = None,
    learning_rate: Annotated[
        float | None, _option(SCHEDULE, help="Peak for matrices, by Muon (default 3e-3).")
    ] = None,
    lambda_steps: Annotated[
        int | None,
        _option(SCHEDULE, help="Steps in which quantization rises from none to all (default 50)."),
    ] = None,
    continued_steps: Annotated[
        int | None, _option(SCHEDULE, help="First steps with cross-entropy alone (default 0).")
    ] = None,
    cross_entropy: Annotated[
        float | None, _option(LOSS, help="Weight of the next token in the text (default 1).")
    ] = None,
    logits: Annotated[
        float | None, _option(LOSS, help="Weight of KL to the teacher's predictions (default 1).")
    ] = None,
    temperature: Annotated[float | None, _option(LOSS, help="τ of that KL (default 1).")] = None,
    attention: Annotated[
        float | None, _option(LOSS, help="Weight of attention relations (default 0.1).")
    ] = None,
    sub_norms: Annotated[
        bool | None,
        _option(LOSS, "--sub-norms/--no-sub-norms", help="Put norms in front of o and down (default)."),
    ] = None,
    precision: Annotated[str | None, _option(SCHEDULE, help="bf16 or fp32 (default bf16).")] = None,
    seed: Annotated[int | None, _option(SCHEDULE, help="Order of the data (default 0).")] = None,
    threads: options.Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    json: options.Json = False,
) -> None:
    """Make a ternary student of a full-precision teacher, and measure the exported file as it grows.

    `RUN/student.tercet` is the student, `RUN/curve.jsonl` and `RUN/curve.png` say how good its file was after
    how many tokens, beside the teacher. Ctrl-C keeps what was learned.
    """
    from tercet.environment import optional_import

    optional_import("torch", "train")
    from tercet.distillation import DistillationSettings

    settings_path = output / "settings.json"
    if resume and config is None and settings_path.exists():
        config = settings_path
    settings = DistillationSettings.load(config) if config else DistillationSettings()
    settings = _changed(
        settings,
        {"num_steps": steps, "quantization_warmup_steps": lambda_steps},
        {"matrix_rate": learning_rate},
        {
            "batch_size": batch_size,
            "micro_batch": None if batch_size is None else min(settings.micro_batch, batch_size),
            "context": context,
            "continued_steps": continued_steps,
            "cross_entropy_weight": cross_entropy,
            "logits_weight": logits,
            "temperature": temperature,
            "attention_weight": attention,
            "sub_norms": sub_norms,
            "precision": precision,
            "seed": seed,
        },
    )
    tokens = token_folder(data, validation, teacher, output, max_samples, settings.seed)
    result = run_with_bar(teacher, tokens, output, settings, student, resume, threads)
    if json:
        from tercet.cli import console

        console.write_json({name: str(v) if isinstance(v, Path) else v for name, v in vars(result).items()})
    else:
        _tell(result, output)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)


def _changed(
    settings: DistillationSettings,
    schedule: dict[str, Any],
    optimizer: dict[str, Any],
    others: dict[str, Any],
) -> DistillationSettings:
    """The settings with what was said on the command line."""

    def given(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    return dataclasses.replace(
        settings,
        schedule=dataclasses.replace(settings.schedule, **given(schedule)),
        optimizer=dataclasses.replace(settings.optimizer, **given(optimizer)),
        **given(others),
    )


def token_folder(
    data: list[str], validation: str | None, teacher: str, output: Path, max_samples: int, seed: int
) -> Path:
    """The folder of tokens: as given, or made from text once and kept in the run folder."""
    from tercet.distillation.text import prepare_text
    from tercet.models.loading import load_model
    from tercet.models.registry import resolve

    if len(data) == 1 and (Path(data[0]) / "tokens.json").exists():
        return Path(data[0])
    source = load_model(resolve(teacher))
    report = prepare_text(
        data[0] if len(data) == 1 else data,
        source,
        output / "tokens",
        validation=validation,
        max_samples=max_samples,
        seed=seed,
    )
    if report is not None:
        print(report, file=sys.stderr)
    return output / "tokens"


def run_with_bar(
    teacher: str,
    tokens: Path,
    output: Path,
    settings: DistillationSettings,
    student: str | None,
    resume: bool,
    threads: int | None,
) -> DistillationResult:
    """Distill, with a bar on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tercet.distillation.run import DistillationProgress, distill

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("measuring the teacher", total=settings.schedule.num_steps)

        def show(progress: DistillationProgress) -> None:
            measured = "" if progress.file_loss is None else f", file {progress.file_loss:.3f}"
            speed = f"{progress.tokens_per_second:,.0f} tokens/s"
            bar.update(
                task, completed=progress.step, description=f"loss {progress.loss:.3f}{measured}, {speed}"
            )

        return distill(
            teacher, tokens, output, settings, student=student, resume=resume, threads=threads, on_step=show
        )


def _tell(result: DistillationResult, output: Path) -> None:
    print(result.file)
    print(
        f"held-out loss {result.file_loss:.4f} nats a token after {result.tokens:,} tokens; "
        f"teacher {result.teacher_loss:.4f}. Curve: {output / 'curve.png'}",
        file=sys.stderr,
    )
    if result.interrupted:
        print(
            f"stopped after step {result.step}; nothing is lost. Go on with the same command and --resume.",
            file=sys.stderr,
        )
