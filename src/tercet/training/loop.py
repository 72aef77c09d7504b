"""The training loop.

    for every step:  batch -> loss -> gradients (accumulated) -> clip -> optimizers -> log

Everything that varies is a function of the step (`schedule`, `windows`), so a run that was stopped and
resumed makes the same weights, bit for bit, as one that was not. Ctrl-C and SIGTERM finish the current step
and write a checkpoint. With `torchrun` or `accelerate launch`, each process takes its rows of every batch and
gradients are averaged, which equals one process with the whole batch.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from tokenizers import Tokenizer

from tercet.errors import TrainingError
from tercet.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from tercet.training.corpus import read_description
from tercet.training.evaluation import evaluate, sample
from tercet.training.model import TernaryDecoder
from tercet.training.optimizers import Optimizers, gradient_norm
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
) -> TrainingResult:
    """Train `settings.model` on the token folder `data`, keeping log and checkpoints in the folder `run`.

    `second_stage_data` is the token folder for stage 2 of the schedule, made with the same tokenizer
    (default: `data`).

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
    stages = [
        Windows(
            folder / "train.tokens", read_description(folder)["train"].dtype, settings.context, settings.seed
        )
        for folder in (data, second_stage_data or data)
    ]
    valid = Windows(data / "valid.tokens", parts["valid"].dtype, settings.context, settings.seed)
    held_out = valid.in_order(settings.evaluation_windows)
    bytes_per_token = parts["valid"].num_bytes / parts["valid"].num_tokens

    accelerator = Accelerator()
    if settings.batch_size % (accelerator.num_processes * settings.accumulation):
        raise TrainingError(
            f"a batch of {settings.batch_size} cannot be shared by {accelerator.num_processes} processes "
            f"with {settings.accumulation} accumulation steps each"
        )
    model = TernaryDecoder(settings.model, settings.ternary)
    found = checkpoints(run) if resume else []
    if settings.init_from and not found:
        start = starting_point(Path(settings.init_from))
        check_same_tokenizer(data, tokenizer, start.tokenizer(), start.folder)
        start.load_into(model)
    else:
        model.initialize(settings.seed)
    model.to(accelerator.device)
    optimizers = Optimizers(model, settings.optimizer)
    step = load_checkpoint(found[-1], model, optimizers, settings) if found else 0
    run.mkdir(parents=True, exist_ok=True)
    log = RunLog(run, step) if accelerator.is_main_process else None
    network: Any = accelerator.prepare_model(torch.compile(model) if settings.compile else model)
    last = found[-1] if found else run
    loss, validation_loss = math.nan, None

    with _stop_requests() as stop_requested:
        while step < settings.schedule.num_steps:
            started = time.perf_counter()
            factor = settings.schedule.learning_rate_factor(step)
            model.quantization.strength.fill_(settings.schedule.quantization_strength(step))
            windows = stages[settings.schedule.stage(step) - 1]
            batch = windows.batch(step, settings.batch_size)[
                accelerator.process_index :: accelerator.num_processes
            ]
            loss = _gradients(accelerator, network, batch.to(accelerator.device), settings)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of step {step} is {loss}: the run has diverged. The last checkpoint is "
                    f"{last}; resume from it with a lower learning rate"
                )
            norm = float(gradient_norm(model.parameters(), settings.gradient_clip))
            optimizers.step(factor, settings.schedule.weight_decay_at(step))
            step += 1
            tokens_per_second = settings.tokens_per_step / (time.perf_counter() - started)
            finished = step == settings.schedule.num_steps or stop_requested()
            if log and (step % LOG_EVERY == 0 or finished):
                log.write(
                    "step", step=step, loss=loss, gradient_norm=norm, learning_rate_factor=factor,
                    tokens=step * settings.tokens_per_step, tokens_per_second=round(tokens_per_second),
                )  # fmt: skip
            if log and (step % settings.evaluate_every == 0 or step == settings.schedule.num_steps):
                validation_loss = evaluate(model, held_out)
                log.write(
                    "evaluation", step=step, tokens=step * settings.tokens_per_step, loss=validation_loss,
                    perplexity=math.exp(validation_loss), nats_per_byte=validation_loss / bytes_per_token,
                    sample=sample(model, tokenizer, settings.sample_prompt, 60, settings.seed),
                )  # fmt: skip
                log.draw()
            if log and (step % settings.checkpoint_every == 0 or finished):
                last = save_checkpoint(run, step, model, optimizers, tokenizer, settings)
            on_step(
                Progress(step, settings.schedule.num_steps, loss, factor, tokens_per_second, validation_loss)
            )
            if finished:
                break
        accelerator.wait_for_everyone()
    return TrainingResult(step, loss, validation_loss, last, step < settings.schedule.num_steps)


def _gradients(
    accelerator: Accelerator, network: Any, batch: torch.Tensor, settings: TrainingSettings
) -> float:
    """Accumulate the gradients of `batch` [rows, context + 1] and return its mean loss over all processes."""
    total = torch.zeros((), device=batch.device)
    chunks = batch.chunk(settings.accumulation)
    for number, chunk in enumerate(chunks, 1):
        waits = accelerator.no_sync(network) if number < len(chunks) else nullcontext()
        with waits, torch.autocast(batch.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = network(chunk) / len(chunks)
            accelerator.backward(loss)
        total += loss.detach()
    return float(accelerator.reduce(total, "mean"))


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a request to stop after the current step; a second one stops at once."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
