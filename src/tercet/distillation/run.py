"""The loop of a distillation.

    for every step:  batch -> teacher, student -> terms -> gradients -> clip -> optimizers -> log
    now and then:    the student as a native file -> that file's own loss -> curve
                     checkpoint

Everything that varies is a function of the step, so a run that was killed and resumed makes the weights that
one left alone makes. Ctrl-C and SIGTERM finish the step and write a checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tercet.distillation.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from tercet.distillation.curve import Curve
from tercet.distillation.export import export, file_loss
from tercet.distillation.gradients import Terms, Weights, backward, gradient_shares
from tercet.distillation.pair import calibrate_sub_norms, check_pair, fill, relation_heads, student_config
from tercet.distillation.settings import DistillationSettings
from tercet.errors import TrainingError
from tercet.models.loading import LoadedModel, load_model
from tercet.models.registry import resolve
from tercet.training.corpus import read_description
from tercet.training.interrupts import stop_requests
from tercet.training.model import TernaryDecoder
from tercet.training.optimizers import Optimizers, gradient_norm
from tercet.training.run_log import RunLog
from tercet.training.windows import Windows

__all__ = ["DistillationProgress", "DistillationResult", "distill"]

STUDENT_FILE = "student.tercet"


@dataclass(frozen=True)
class DistillationProgress:
    """What the caller is told after every step."""

    step: int
    num_steps: int
    tokens: int
    loss: float
    terms: Terms
    tokens_per_second: float
    file_loss: float | None
    """Of the file that was exported last, mean nats a held-out token."""


@dataclass(frozen=True)
class DistillationResult:
    """How a run ended; `interrupted` means that it was asked to stop and can be resumed."""

    step: int
    tokens: int
    file: Path
    """The student as it is now."""
    file_loss: float
    teacher_loss: float
    checkpoint: Path
    interrupted: bool


def distill(
    teacher: str | os.PathLike[str],
    tokens: Path,
    run: Path,
    settings: DistillationSettings | None = None,
    *,
    student: str | os.PathLike[str] | None = None,
    resume: bool = False,
    threads: int | None = None,
    on_step: Callable[[DistillationProgress], None] = lambda progress: None,
) -> DistillationResult:
    """Make a ternary student of a full-precision teacher, and measure it as it grows.

    Args:
        teacher: a full-precision model.
        tokens: a folder that `prepare_text` made with the teacher's tokenizer.
        run: where log, curve, checkpoints and `student.tercet` go.
        settings: of the run.
        student: a ternary model to go on from, of any size with the same tokenizer; None makes one of the
            teacher.
        resume: go on from the newest checkpoint in `run`.
        threads: for measuring; None is what suits the machine.
        on_step: called after every step.

    Raises:
        ParameterError: the models do not match, or are of a kind that is not trained here.
        TrainingError: `run` holds a run and `resume` is false, the tokens are another model's, or the loss is
            not finite.
        StorageError: a checkpoint or the file cannot be written.
    """
    return _Run(teacher, tokens, run, settings or DistillationSettings(), student, resume, threads).go(
        on_step
    )


class _Run:
    def __init__(
        self,
        teacher: str | os.PathLike[str],
        tokens: Path,
        run: Path,
        settings: DistillationSettings,
        student: str | os.PathLike[str] | None,
        resume: bool,
        threads: int | None,
    ) -> None:
        self.settings, self.run, self.threads = settings, run, threads
        found = checkpoints(run)
        if found and not resume:
            raise TrainingError(f"{run} already holds a run; resume it, or choose another folder")
        self.source = load_model(resolve(teacher))
        started_from = load_model(resolve(student)) if student is not None else None
        check_pair(self.source, started_from)
        self._open_tokens(tokens)
        self.teacher, self.student = self._networks(started_from, calibrate=not found)
        self.optimizers = Optimizers(self.student, settings.optimizer)
        self.step = load_checkpoint(found[-1], self.student, self.optimizers, settings) if found else 0
        self.last = found[-1] if found else run
        run.mkdir(parents=True, exist_ok=True)
        settings.save(run / "settings.json")
        self.log = RunLog(run, self.step)
        self.curve = Curve(run)
        self.curve.keep_until(self.step if found else -1)
        self.file = run / STUDENT_FILE
        self.heads = relation_heads(self.source.config, self.student.config)
        self.layers = self._relation_layers()
        if settings.compile:
            for network in (self.teacher, self.student):
                for layer in network.model.layers:
                    layer.compile()

    def _open_tokens(self, folder: Path) -> None:
        tokenizer = folder / "tokenizer.json"
        if tokenizer.exists() and tokenizer.read_bytes() != (self.source.tokenizer_json or b""):
            raise TrainingError(
                f"the tokens in {folder} were made with another tokenizer than that of {self.source.path}; "
                "prepare the text again, in another folder"
            )
        parts = read_description(folder)
        context, seed = self.settings.context, self.settings.seed
        self.windows = Windows(folder / "train.tokens", parts["train"].dtype, context, seed)
        valid = Windows(folder / "valid.tokens", parts["valid"].dtype, context, seed)
        self.held_out = valid.in_order(self.settings.evaluation_windows).numpy()
        self.bytes_per_token = parts["valid"].num_bytes / parts["valid"].num_tokens

    def _networks(
        self, started_from: LoadedModel | None, calibrate: bool
    ) -> tuple[TernaryDecoder, TernaryDecoder]:
        settings = self.settings
        theirs = dataclasses.replace(
            self.source.config, quantize_activations=False, max_context=settings.context
        )
        teacher = TernaryDecoder(theirs, ternary=False)
        fill(teacher, self.source)
        teacher.requires_grad_(False)
        if settings.precision == "bf16":
            for name, parameter in teacher.named_parameters():
                if parameter.ndim == 2 and ".layers." in name:
                    parameter.data = parameter.data.bfloat16()
        config = (
            started_from.config if started_from else student_config(self.source.config, settings.sub_norms)
        )
        student = TernaryDecoder(config)
        fill(student, started_from or self.source)
        if started_from is None and settings.sub_norms and calibrate:
            bf16 = settings.precision == "bf16"
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                calibrate_sub_norms(teacher, student, self.windows.batch(0, settings.micro_batch)[:, :-1])
        return teacher, student

    def _relation_layers(self) -> tuple[int, int]:
        theirs, ours = self.source.config.num_layers, self.student.config.num_layers
        chosen = self.settings.attention_layer
        if chosen is None:
            return theirs * 4 // 5, ours * 4 // 5
        if not 0 <= chosen < theirs:
            raise TrainingError(f"attention_layer is {chosen}; the teacher has layers 0 to {theirs - 1}")
        return chosen, min(chosen * ours // theirs, ours - 1)

    def go(self, on_step: Callable[[DistillationProgress], None]) -> DistillationResult:
        """Run to the end, or until asked to stop."""
        settings, schedule = self.settings, self.settings.schedule
        if not self.curve.has("teacher"):
            loss = file_loss(self.source.path, self.held_out, self.threads)
            self.curve.add("teacher", loss, self.bytes_per_token)
        measured = None
        if self.step == 0:
            self._log_gradient_shares()
            if settings.is_evaluated(0):
                measured = self._measure()
        stopped = False
        with stop_requests() as stop_requested:
            while self.step < schedule.num_steps and not stopped:
                started = time.perf_counter()
                terms, norm = self._one_step()
                self.step += 1
                stopped = stop_requested()
                done = self.step == schedule.num_steps
                speed = settings.tokens_per_step / (time.perf_counter() - started)
                loss = terms.total(Weights.at(settings, self.step - 1))
                self.log.write(
                    "step", step=self.step, tokens=self.tokens, loss=loss, **dataclasses.asdict(terms),
                    gradient_norm=norm, tokens_per_second=round(speed, 1),
                )  # fmt: skip
                if settings.is_evaluated(self.step):
                    measured = self._measure()
                if self.step % settings.checkpoint_every == 0 or done or stopped:
                    self.last = save_checkpoint(self.run, self.step, self.student, self.optimizers, settings)
                on_step(
                    DistillationProgress(
                        self.step, schedule.num_steps, self.tokens, loss, terms, speed, measured
                    )
                )
        points = self.curve.points()
        students = [point for point in points if point["model"] == "student"]
        return DistillationResult(
            step=self.step,
            tokens=self.tokens,
            file=self.file,
            file_loss=students[-1]["loss"] if students else math.nan,
            teacher_loss=next(p["loss"] for p in points if p["model"] == "teacher"),
            checkpoint=self.last,
            interrupted=self.step < schedule.num_steps,
        )

    @property
    def tokens(self) -> int:
        """Tokens learned from so far."""
        return self.step * self.settings.tokens_per_step

    def _one_step(self) -> tuple[Terms, float]:
        settings, step = self.settings, self.step
        self.student.quantization.strength.fill_(settings.schedule.quantization_strength(step))
        windows = self.windows.batch(step, settings.batch_size)
        weights = Weights.at(settings, step)
        terms = backward(self.teacher, self.student, windows, settings, weights, self.layers, self.heads)
        norm = float(gradient_norm(self.student.parameters(), settings.gradient_clip))
        if not math.isfinite(terms.total(weights)) or not math.isfinite(norm):
            raise TrainingError(
                f"the loss of step {step} is {terms.total(weights)}: the run has diverged. The last "
                f"checkpoint is {self.last}; resume from it with a lower learning rate"
            )
        schedule = settings.schedule
        self.optimizers.step(schedule.learning_rate_factor(step), schedule.weight_decay_at(step))
        return terms, norm

    def _log_gradient_shares(self) -> None:
        windows = self.windows.batch(0, self.settings.micro_batch)
        self.student.quantization.strength.fill_(1.0)
        norms = gradient_shares(self.teacher, self.student, windows, self.settings, self.layers, self.heads)
        self.log.write("gradients", step=0, **norms)

    def _measure(self) -> float:
        """Export the student, measure the file, and write both down."""
        export(self.student, self.source, self.file, metadata={"distillation_tokens": self.tokens})
        loss = file_loss(self.file, self.held_out, self.threads)
        strength = self.settings.schedule.quantization_strength(self.step)
        self.curve.add(
            "student", loss, self.bytes_per_token, tokens=self.tokens, step=self.step, strength=strength
        )
        self.curve.draw()
        return loss
