"""The training loop.

    for every step:  batch -> loss -> gradients (accumulated) -> clip -> optimizers -> log

Everything that varies is a function of the step (`schedule`, `windows`), so a run that was stopped and
resumed makes the same weights, bit for bit, as one that was not. Ctrl-C and SIGTERM finish the current step
and write a checkpoint. With `torchrun`, `accelerate launch` or Ray Train each process takes its rows of every
batch, which equals one process with the whole batch (`parallel`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from tercet.environment import storage_errors
from tercet.errors import TrainingError
from tercet.training.checkpoint import (
    check_room,
    checkpoints,
    load_checkpoint,
    newest,
    remove_leftovers,
    save_checkpoint,
)
from tercet.training.corpus import read_description
from tercet.training.evaluation import evaluate, sample
from tercet.training.interrupts import stop_requests
from tercet.training.model import TernaryDecoder
from tercet.training.optimizers import Optimizers, gradient_norm
from tercet.training.parallel import Processes
from tercet.training.run_log import RunLog
from tercet.training.settings import TrainingSettings
from tercet.training.start import check_same_tokenizer, starting_point
from tercet.training.windows import Windows

LOG_EVERY = 10


@dataclass(frozen=True)
class Progress:
    """What the caller is told after every step."""

    step: int
    num_steps: int
    loss: float
    learning_rate_factor: float
    tokens_per_second: float
    validation_loss: float | None


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended; `interrupted` means that it was asked to stop and can be resumed."""

    step: int
    loss: float
    validation_loss: float | None
    checkpoint: Path
    interrupted: bool


def train(
    settings: TrainingSettings,
    data: Path,
    run: Path,
    resume: bool = False,
    second_stage_data: Path | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    sharded: bool = False,
) -> TrainingResult:
    """Train `settings.model` on the token folder `data`, keeping log and checkpoints in the folder `run`.

    `second_stage_data` is the token folder for stage 2 of the schedule, made with the same tokenizer
    (default: `data`). Among several processes each calls this, and `run` is a folder that all of them see;
    `sharded` spreads the model over them (`parallel`).

    Raises:
        TrainingError: `run` already holds a run and `resume` is false, the data do not fit, or the loss is
            not finite.
        StorageError: a checkpoint could not be written.
    """
    parts = read_description(data)
    tokenizer = Tokenizer.from_file(str(data / "tokenizer.json"))
    if tokenizer.get_vocab_size() > settings.model.vocab_size:
        raise TrainingError(
            f"the tokens of {data} have a vocabulary of {tokenizer.get_vocab_size()}, "
            f"the model only {settings.model.vocab_size}; they do not belong together"
        )
    if checkpoints(run) and not resume:
        raise TrainingError(f"{run} already holds a run; resume it, or choose another folder")
    if second_stage_data is not None:
        read_description(second_stage_data)
        theirs = Tokenizer.from_file(str(second_stage_data / "tokenizer.json"))
        check_same_tokenizer(second_stage_data, theirs, tokenizer, data)
    stages = [
        Windows(
            folder / "train.tokens", read_description(folder)["train"].dtype, settings.context, settings.seed
        )
        for folder in (data, second_stage_data or data)
    ]
    valid = Windows(data / "valid.tokens", parts["valid"].dtype, settings.context, settings.seed)
    held_out = valid.in_order(settings.evaluation_windows)
    bytes_per_token = parts["valid"].num_bytes / parts["valid"].num_tokens

    processes = Processes(sharded)
    if settings.batch_size % (processes.count * settings.accumulation):
        raise TrainingError(
            f"a batch of {settings.batch_size} cannot be shared by {processes.count} processes "
            f"with {settings.accumulation} accumulation steps each"
        )
    found = checkpoints(run) if resume else []
    model = TernaryDecoder(settings.model, settings.ternary)
    if settings.init_from and not found:
        start = starting_point(Path(settings.init_from))
        check_same_tokenizer(data, tokenizer, start.tokenizer(), start.folder)
        start.load_into(model)
    else:
        model.initialize(settings.seed)
    network = processes.distribute(model, settings.compile)
    optimizers = Optimizers(model, settings.optimizer)
    step = load_checkpoint(found[-1], model, optimizers, settings) if found else 0
    log = _begin_run(run, step, model) if processes.is_main else None
    last = found[-1] if found else run
    loss, validation_loss = math.nan, None

    with stop_requests() as stop_requested:
        while step < settings.schedule.num_steps:
            started = time.perf_counter()
            factor = settings.schedule.learning_rate_factor(step)
            model.quantization.strength.fill_(settings.schedule.quantization_strength(step))
            model.quantization.follow(settings.schedule.activation_rule(step, settings.model.activation_rule))
            batch = processes.share(
                stages[settings.schedule.stage(step) - 1].batch(step, settings.batch_size)
            )
            own_loss = _gradients(processes, network, batch, settings)
            norm = float(gradient_norm(model.parameters(), settings.gradient_clip))
            # What one process learns of here, all must: they end at the same step.
            loss, stops = processes.mean(
                torch.tensor([own_loss, float(stop_requested())], dtype=torch.float64)
            )
            if not math.isfinite(loss) or not math.isfinite(norm):
                what = (
                    f"loss of step {step} is {loss}"
                    if math.isfinite(norm)
                    else f"gradient of step {step} is {norm}"
                )
                raise TrainingError(
                    f"the {what}: the run has diverged. Nothing was changed by this step. Resume from "
                    f"{newest(run)} with lower rates (matrix_rate and rate of its settings.json)"
                )
            optimizers.step(factor, settings.schedule.weight_decay_at(step))
            step += 1
            tokens_per_second = settings.tokens_per_step / (time.perf_counter() - started)
            finished = step == settings.schedule.num_steps or stops > 0
            if log and (step % LOG_EVERY == 0 or finished):
                log.write(
                    "step", step=step, loss=loss, gradient_norm=norm, learning_rate_factor=factor,
                    tokens=step * settings.tokens_per_step, tokens_per_second=round(tokens_per_second),
                )  # fmt: skip
            if step % settings.evaluate_every == 0 or step == settings.schedule.num_steps:
                validation_loss = evaluate(model, held_out, processes)
                text = ""
                if processes.is_main or processes.sharded:
                    text = sample(model, tokenizer, settings.sample_prompt, 60, settings.seed)
                if log:
                    log.write(
                        "evaluation", step=step, tokens=step * settings.tokens_per_step, loss=validation_loss,
                        perplexity=math.exp(min(validation_loss, 700.0)),
                        nats_per_byte=validation_loss / bytes_per_token, sample=text,
                    )  # fmt: skip
                    log.draw()
            if step % settings.checkpoint_every == 0 or finished:
                last = save_checkpoint(run, step, model, optimizers, tokenizer, settings, processes.is_main)
            on_step(
                Progress(step, settings.schedule.num_steps, loss, factor, tokens_per_second, validation_loss)
            )
            if finished:
                break
        processes.wait()
    return TrainingResult(step, loss, validation_loss, last, step < settings.schedule.num_steps)


def _begin_run(run: Path, step: int, model: TernaryDecoder) -> RunLog:
    with storage_errors(run, opening=True):
        run.mkdir(parents=True, exist_ok=True)
    remove_leftovers(run)
    check_room(run, model)
    return RunLog(run, step)


def _gradients(processes: Processes, network: Any, batch: torch.Tensor, settings: TrainingSettings) -> float:
    """Accumulate the gradients of `batch` [rows, context + 1], this process's, and return its mean loss."""
    total = torch.zeros((), device=batch.device)
    chunks = batch.chunk(settings.accumulation)
    bf16 = settings.precision == "bf16"
    for number, chunk in enumerate(chunks, 1):
        with (
            processes.accumulating(network, last=number == len(chunks)),
            torch.autocast(batch.device.type, torch.bfloat16, enabled=bf16),
        ):
            loss = network(chunk) / len(chunks)
            processes.backward(loss)
        total += loss.detach()
    return float(total)
