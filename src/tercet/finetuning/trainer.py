"""transformers' Trainer, with what a ternary model and an honest figure need.

    precision       products in bfloat16 while training; masters, sums and evaluation in float32
    evaluation      the mean over all learned tokens, with floats rounded as the exported file stores them
    NaN             ends the run before a weight is touched, and names the step and the rows
    checkpoints     folders of masters that Tercet and transformers load; whole, or not there
    full disk       an error that says so; earlier checkpoints are untouched

The loop, the optimizer, gradient accumulation and checkpointing, the learning rate, resuming and the best
model are transformers' own. TRL's SFTTrainer adds to them what `tercet.data` does here: templates, tokens,
packing and the loss mask.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tercet.data import Example
from tercet.errors import StorageError, TrainingError
from tercet.finetuning.batches import ExampleDataset, collate
from tercet.finetuning.evaluation import network_loss
from tercet.finetuning.export import has_masters_folder, save_masters, values_as_stored
from tercet.finetuning.settings import FineTuneSettings
from tercet.finetuning.trainable import Trainable

__all__ = ["TernaryTrainer", "complete_checkpoints", "num_steps"]

STATE = "trainer_state.json"
"""The last file of a checkpoint that is written."""


class TernaryTrainer(Trainer):
    """One run.

    Args:
        trainable: the model.
        network: what is trained of it: its network, or that with adapters.
        settings: hyper-parameters.
        train: what is learned, packed or not.
        valid: what the loss is measured on; may be empty.
        folder: where checkpoints go.
        on_event: called with the step and its figures: at every log, and at every evaluation.
    """

    def __init__(
        self,
        trainable: Trainable,
        network: Any,
        settings: FineTuneSettings,
        train: Sequence[Example],
        valid: Sequence[Example],
        folder: Path,
        on_event: Callable[[int, dict[str, float]], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._trainable = trainable
        self._settings = settings
        self._train_examples = train
        self._valid_examples = valid
        self._on_event = on_event
        self._folder = folder
        callbacks: list[TrainerCallback] = [_Ends(stop, bool(valid))]
        if settings.early_stopping and valid:
            callbacks.append(EarlyStoppingCallback(settings.early_stopping))
        if settings.gradient_checkpointing:
            # The name until transformers 5.2x, and the name since.
            old = network.gradient_checkpointing_enable
            getattr(network, "activation_checkpointing_enable", old)({"use_reentrant": False})
        super().__init__(
            model=network,
            args=_arguments(settings, folder, num_steps(settings, len(train)), bool(valid)),
            data_collator=collate,
            train_dataset=ExampleDataset(train),
            eval_dataset=ExampleDataset(valid),
            callbacks=callbacks,
        )
        for callback in [one for one in self.callback_handler.callbacks if type(one).__name__ in _TALKATIVE]:
            self.remove_callback(callback)

    # Training.

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        """Compute in bfloat16 while training, if the settings say so; never while evaluating."""
        stack = super().compute_loss_context_manager()
        if self._settings.precision == "bf16":
            stack.enter_context(torch.autocast(self.args.device.type, torch.bfloat16))
        return stack

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Do what Trainer does, and stop where the loss is no number."""
        numbers = inputs.pop("examples").tolist()
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            places = [place for number in numbers for place in self._train_examples[number].places if place]
            shown = ", ".join(places[:4]) + (", ..." if len(places) > 4 else "")
            rows = f" The rows were {shown}." if places else ""
            raise TrainingError(self._diverged(f"the loss is {float(loss)}") + rows)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        if norm is not None and not math.isfinite(float(norm)):
            raise TrainingError(self._diverged(f"the norm of the gradient is {float(norm)}"))
        return norm

    def _diverged(self, what: str) -> str:
        kept = complete_checkpoints(self._folder)
        after = f"the last checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
        return (
            f"training cannot go on: in step {self.state.global_step + 1} {what}. Nothing of this step was "
            f"kept; {after}. A lower learning rate than {self._settings.learning_rate:g} may help."
        )

    # Evaluation.

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Return the mean loss over all learned tokens of the validation examples, in nats."""
        started = time.monotonic()
        loss, tokens = self.measure()
        metrics = {
            f"{metric_key_prefix}_loss": loss,
            f"{metric_key_prefix}_tokens": float(tokens),
            f"{metric_key_prefix}_seconds": time.monotonic() - started,
        }
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self) -> tuple[float, int]:
        """Return the same, and of how many tokens it is the mean; nothing is noted.

        Raises:
            TrainingError: the loss is no number.
        """
        with values_as_stored(self._trainable):
            loss, tokens = network_loss(self.model, self._valid_examples, self._trainable.config.vocab_size)
        if not math.isfinite(loss):
            raise TrainingError(self._diverged("the loss of the validation examples is no number"))
        return loss, tokens

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep the figures in the state, and tell of them."""
        super().log(logs, start_time)
        self._on_event(self.state.global_step, logs)

    # Checkpoints.

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self._settings.method != "full" or not has_masters_folder(self._trainable):
            super()._save(output_dir, state_dict)
            return
        save_masters(self._trainable, Path(output_dir or self._folder), overwrite=True)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = self._folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            with _storage_errors(folder):
                super()._save_checkpoint(model, trial)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


class _Ends(TrainerCallback):
    """The last step of a run is evaluated and saved whatever the intervals; one that Ctrl-C ends is saved."""

    def __init__(self, stop: Callable[[], bool], evaluates: bool) -> None:
        self._stop = stop
        self._evaluates = evaluates

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Set the flags that Trainer reads next."""
        if state.global_step >= state.max_steps:
            control.should_evaluate, control.should_save = self._evaluates, True
            control.should_log = True
        elif self._stop():
            control.should_training_stop = control.should_save = True
        return control


_TALKATIVE = ("ProgressCallback", "PrinterCallback")
"""What prints to the terminal on its own."""


def num_steps(settings: FineTuneSettings, sequences: int) -> int:
    """Return how many optimizer steps a run over so many sequences has."""
    batches = -(-sequences // settings.batch_size)
    steps = math.ceil(settings.epochs * max(-(-batches // settings.accumulation), 1))
    return min(steps, settings.max_steps) if settings.max_steps else steps


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder that were written to their end, oldest first."""
    found = []
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            found.append((int(json.loads((path / STATE).read_bytes())["global_step"]), path))
    return [path for _, path in sorted(found)]


def _arguments(settings: FineTuneSettings, folder: Path, steps: int, evaluates: bool) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=_SCHEDULES[settings.schedule],
        warmup_steps=min(settings.warmup_steps, steps // 10),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.gradient_clip,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_every,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=settings.evaluate_every,
        save_total_limit=settings.keep,
        load_best_model_at_end=evaluates,
        metric_for_best_model="eval_loss" if evaluates else None,
        greater_is_better=False,
        seed=settings.seed,
        data_seed=settings.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel copies layers that must stay one
    return arguments


_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@contextlib.contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error} Earlier checkpoints are untouched; go on with --resume.") from error
    except (OSError, RuntimeError) as error:
        # torch.save says "PytorchStreamWriter failed writing file" where the disk is full.
        if isinstance(error, RuntimeError) and "writ" not in str(error):
            raise
        raise StorageError(
            f"cannot write the checkpoint {folder}: {error}. Earlier checkpoints are untouched: "
            "free some space, then go on with --resume."
        ) from error
