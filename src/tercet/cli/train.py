"""`tercet train`: from text files to a trained ternary model that `tercet convert` turns into a file."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tercet.training.loop import Progress, TrainingResult
    from tercet.training.settings import TrainingSettings

app = typer.Typer(add_completion=False)
INTERRUPTED = 130


@app.command()
def train(
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Text to learn from: .jsonl and .txt files, or one folder of tokens made earlier."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run: log, loss curve, checkpoints.")
    ],
    preset: Annotated[
        str, typer.Option(help="Shape and hyper-parameters: tiny, 125m, 400m, 700m, 1.3b, 2b4t, 3b, 7b.")
    ] = "tiny",
    variant: Annotated[
        str | None,
        typer.Option(
            help="Arithmetic: b1.58 (ternary, int8 activations), binary, a4.8, v2, or float (full precision, "
            "for comparison). By default as the settings say."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A settings.json (every run folder has one) instead of a preset.")
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            help="Start from the weights of this folder (a checkpoint, or a BitNetForCausalLM folder with "
            "masters), with its model and tokenizer, in a new run with a new schedule."
        ),
    ] = None,
    second_stage: Annotated[
        Path | None,
        typer.Option(help="Folder of tokens for stage 2 of the schedule; default: the same data."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of optimizer steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences a step.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens a sequence.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and of the order of the data.")] = None,
    full_precision: Annotated[
        bool, typer.Option(help="Train the float twin instead of ternary weights.")
    ] = False,
    compile: Annotated[
        bool, typer.Option(help="Compile the network (slower start, much faster steps).")
    ] = True,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint of the run.")] = False,
    shard: Annotated[
        bool,
        typer.Option(help="Spread the model over the processes (FSDP2) instead of giving each a copy."),
    ] = False,
    ray_workers: Annotated[
        int | None, typer.Option(help="Train on this many workers of a Ray cluster, or of this machine.")
    ] = None,
) -> None:
    """Train a ternary model from scratch; Ctrl-C keeps what was learned, --resume goes on from there."""
    from tercet.environment import optional_import

    optional_import("torch", "train")
    optional_import("accelerate", "train")
    from tercet.training.loop import train as run_training
    from tercet.training.parallel import leave_processes, main_process_first
    from tercet.training.settings import TrainingSettings
    from tercet.training.settings import preset as preset_of
    from tercet.training.start import starting_point
    from tercet.training.variants import as_variant

    settings_path = output / "settings.json"
    if resume and settings_path.exists() and config is None:
        config = settings_path
    settings = TrainingSettings.load(config) if config else preset_of(preset)
    changes = {"batch_size": batch_size, "context": context, "seed": seed}
    if init_from is not None:
        model = starting_point(init_from).config
        length = context or min(settings.context, model.max_context)
        schedule = settings.schedule
        if config is None:  # the weights are ternary already: there is nothing to lead them to
            schedule = dataclasses.replace(schedule, quantization_warmup_steps=0)
        settings = dataclasses.replace(
            settings, model=model, context=length, init_from=str(init_from.resolve()),
            schedule=schedule,
        )  # fmt: skip
    if variant is not None:
        settings = as_variant(settings, variant)
    settings = dataclasses.replace(
        settings,
        schedule=dataclasses.replace(settings.schedule, num_steps=steps or settings.schedule.num_steps),
        ternary=settings.ternary and not full_precision,
        compile=settings.compile and compile,
        **{name: value for name, value in changes.items() if value is not None},  # type: ignore[arg-type]
    )
    with main_process_first() as is_main:  # the others find the tokens made
        tokens = _token_folder(data, output, settings, resume)
        if is_main:
            output.mkdir(parents=True, exist_ok=True)
            settings.save(settings_path)
    if ray_workers is None:
        with _progress(settings.schedule.num_steps, visible=is_main) as show:
            result = run_training(settings, tokens, output, resume, second_stage, on_step=show, sharded=shard)
        leave_processes()
    else:
        from tercet.training.ray_train import train_on_ray

        result = train_on_ray(settings, tokens, output, ray_workers, resume, second_stage, sharded=shard)
    if is_main:
        _report(result, data, output)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)


@contextmanager
def _progress(num_steps: int, visible: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr, and what to call after every step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task = bar.add_task("starting (compiling the network takes a minute)", total=num_steps)

        def show(progress: Progress) -> None:
            valid = "" if progress.validation_loss is None else f", validation {progress.validation_loss:.3f}"
            text = f"loss {progress.loss:.3f}{valid}, {progress.tokens_per_second:,.0f} tokens/s"
            bar.update(task, completed=progress.step, description=text)

        yield show


def _report(result: TrainingResult, data: list[Path], output: Path) -> None:
    if result.interrupted:
        print(
            f"stopped after step {result.step}; nothing is lost. Go on with: "
            f"tercet train {' '.join(map(str, data))} --output {output} --resume",
            file=sys.stderr,
        )
        return
    print(f"{result.checkpoint}")
    loss = (
        ""
        if result.validation_loss is None
        else f"validation loss {result.validation_loss:.4f} nats a token "
    )
    print(
        f"{loss}after {result.step} steps. "
        f"Make a file of it with: tercet convert {result.checkpoint} model.tercet",
        file=sys.stderr,
    )


def _token_folder(data: list[Path], output: Path, settings: TrainingSettings, resume: bool) -> Path:
    """The folder of tokens to train on, made from text files once and kept in the run folder."""
    from tercet.errors import ParameterError
    from tercet.training.preparation import prepare_tokens_once
    from tercet.training.start import starting_point

    if len(data) == 1 and data[0].is_dir():
        return data[0]
    if folders := [path for path in data if path.is_dir()]:
        raise ParameterError(f"{folders[0]} is a folder; give either text files or a single folder of tokens")
    tokens = output / "tokens"
    start = starting_point(Path(settings.init_from)) if settings.init_from else None
    prepare_tokens_once(
        data,
        tokens,
        settings.model.vocab_size,
        settings.context,
        on_stage=lambda stage: print(stage, file=sys.stderr),
        tokenizer=start.tokenizer() if start else None,
        may_replace=not resume,
    )
    return tokens
