"""Fine-tuning from data to a checked file: what `tercet finetune` calls.

    from tercet import FineTuner

    tuner = FineTuner(epochs=3, learning_rate=1e-3)
    result = tuner.train("examples.jsonl", "tuned", test_prompts=["How are you?"])
    print(result)                    # losses before, after, and of the file; the prompts, before and after

A run that was stopped goes on with `resume=True`, to the same weights, bit for bit on one machine.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tercet.data import PreparedData, prepare
from tercet.data.preparation import Source
from tercet.errors import ParameterError, TrainingError
from tercet.finetuning.evaluation import evaluation_loss, opened
from tercet.finetuning.export import as_loaded_model
from tercet.finetuning.methods import Outcome, method_of
from tercet.finetuning.report import FineTuneResult, PromptAnswers
from tercet.finetuning.run_folder import RunFolder
from tercet.finetuning.settings import FineTuneSettings
from tercet.finetuning.trainable import Trainable, load_trainable
from tercet.finetuning.trainer import TernaryTrainer, num_steps
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.tokenization.plain_template import PLAIN_TEMPLATE
from tercet.training.run_log import RunLog

__all__ = ["FineTuner"]

ANSWER_TOKENS = 64
Event = Callable[[int, int, dict[str, float]], None]


class FineTuner:
    """Fine-tunes one ternary model.

    Args:
        model: a name or a path, of anything that Tercet reads; None is the model that ships with it.
        settings: hyper-parameters.
        changes: single ones by name, instead of or on top of `settings`.

    Raises:
        ParameterError: a setting is unknown or out of range.
        UnsupportedModelError: the model is not ternary, or one that cannot be trained.
        ModelNotFoundError, FormatError: it is not there, or damaged.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        settings: FineTuneSettings | None = None,
        **changes: Any,
    ) -> None:
        known = {field.name for field in dataclasses.fields(FineTuneSettings)}
        if unknown := sorted(set(changes) - known):
            raise ParameterError(
                f"there is no setting {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            )
        self.settings = dataclasses.replace(settings or FineTuneSettings(), **changes)
        self._model = model
        self.trainable: Trainable = load_trainable(model, device=_device())
        """The model, as training left it."""

    def prepare(self, data: Source, validation: Source | None = None) -> PreparedData:
        """Read a data set as `train` does. Raises what `tercet.data.prepare` does."""
        settings, config = self.settings, self.trainable.config
        return prepare(
            data,
            self.trainable.tokenizer,
            self.trainable.template,
            max_length=min(settings.max_length, config.max_context),
            max_samples=settings.max_samples,
            validation=validation,
            validation_share=settings.validation_share,
            completion_only=settings.completion_only,
            packing=settings.packing,
            seed=settings.seed,
            begin=config.first_token_id,
            ends=config.eos_token_ids,
        )

    def train(
        self,
        data: Source | PreparedData,
        output: str | os.PathLike[str],
        *,
        validation: Source | None = None,
        test_prompts: Sequence[str] = (),
        resume: bool = False,
        tell: Callable[[str], None] = lambda line: None,
        on_event: Event = lambda step, steps, figures: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> FineTuneResult:
        """Learn from examples, export the best model, and measure the exported file.

        Args:
            data: a file, a folder, a name on the Hub, rows, or what `prepare` returned.
            output: the folder of the run.
            validation: examples to measure the loss on; by default some of the others are held out.
            test_prompts: answered by the model before, and by the exported file after.
            resume: go on with the run that the folder holds.
            tell: called with each line that a person should read, as it comes.
            on_event: called with step, number of steps and figures, at every log and evaluation.
            stop: asked after every step; where it says yes the run is saved and ends, to be resumed.

        Raises:
            TrainingError: there is nothing to learn from, the loss is no number, or the folder holds another
                run.
            FormatError: a row of the data is not what it should be.
            StorageError: the disk is full, or the folder cannot be written.
        """
        started = time.monotonic()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise TrainingError("fine-tuning runs in one process: start it without accelerate or torchrun")
        prepared = data if isinstance(data, PreparedData) else self.prepare(data, validation)
        for line in prepared.report.lines():
            tell(line)
        if not prepared.train:
            raise TrainingError("there are no examples to train on: all of them were held out for validation")
        settings, trainable = self.settings, self.trainable
        folder = RunFolder(Path(output), trainable.path, settings, prepared, resume=resume)
        if trainable.template is None and set(prepared.report.shapes) - {"text"}:
            # Conversations were written with this template, so the result must be served with it.
            trainable.source = dataclasses.replace(trainable.source, chat_template=PLAIN_TEMPLATE)
            tell("the model has no chat template: questions and answers are written as User: and Assistant:")
        method = method_of(settings)
        network = method.begin(trainable, settings)
        trained, parameters = _count(network)
        tell(f"{trained:,} of {parameters:,} parameters are trained ({trained / parameters:.1%})")
        steps = num_steps(settings, len(prepared.train))
        if steps < settings.warmup_steps * 10:
            tell(f"warm-up: {steps // 10} steps instead of {settings.warmup_steps}, a tenth of {steps}")
        log = RunLog(folder.path, folder.step())
        before = [self._answer(trainable.path, None, prompt) for prompt in test_prompts]

        def noted(step: int, figures: dict[str, float]) -> None:
            kind = "evaluation" if "eval_loss" in figures else "step" if "loss" in figures else "end"
            log.write(kind, **{"step": step, **{_LOG_NAMES.get(k, k): v for k, v in figures.items()}})
            on_event(step, steps, figures)

        trainer = TernaryTrainer(
            trainable, network, settings, prepared.train, prepared.valid, folder.checkpoints, noted, stop
        )
        loss_before = _first_loss(trainer, folder, log) if prepared.valid else None
        trainer.train(resume_from_checkpoint=str(folder.newest) if folder.newest else None)
        step = trainer.state.global_step
        facts: dict[str, Any] = {
            "folder": folder.path,
            "step": step,
            "parameters": parameters,
            "trained_parameters": trained,
            "data": prepared.report.to_dict(),
        }
        if stop() and step < steps:
            return FineTuneResult(interrupted=True, seconds=time.monotonic() - started, **facts)
        outcome = method.finish(trainable, network, folder.path, settings)
        loss_trainer = trainer.measure()[0] if prepared.valid else None
        codes, changed = _changed_codes(trainable)
        result = FineTuneResult(
            **facts,
            model=outcome.model,
            adapter=outcome.adapter,
            best_step=trainer.state.best_global_step if prepared.valid else step,
            loss_before=loss_before,
            loss_trainer=loss_trainer,
            loss_file=self._measure(outcome, prepared) if prepared.valid else None,
            codes=codes,
            codes_changed=changed,
            prompts=tuple(
                PromptAnswers(prompt, answer, self._answer(outcome.model, outcome.adapter, prompt))
                for prompt, answer in zip(test_prompts, before, strict=True)
            ),
            notes=(*outcome.notes, *_notes(loss_before, loss_trainer, bool(prepared.valid))),
            seconds=time.monotonic() - started,
        )
        result.save()
        return result

    def _measure(self, outcome: Outcome, prepared: PreparedData) -> float:
        with opened(outcome.model, outcome.adapter) as llm:
            return evaluation_loss(llm, prepared.valid)

    def _answer(self, model: Path, adapter: Path | None, prompt: str) -> str:
        with opened(model, adapter) as llm:
            named: dict[str, Any] = {"temperature": 0, "max_tokens": ANSWER_TOKENS}
            if llm.has_chat_template:
                return llm.chat([{"role": "user", "content": prompt}], **named).text
            continued: str = llm.generate(prompt, **named).text
            return continued


_LOG_NAMES = {"eval_loss": "loss", "eval_tokens": "tokens", "eval_seconds": "seconds"}


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _count(network: Any) -> tuple[int, int]:
    parameters = list(network.parameters())
    return sum(one.numel() for one in parameters if one.requires_grad), sum(one.numel() for one in parameters)


def _first_loss(trainer: TernaryTrainer, folder: RunFolder, log: RunLog) -> float:
    """Measure the model before the first step, or look it up where the run began earlier."""
    if folder.newest is not None:
        for event in log.events("evaluation"):
            if event["step"] == 0:
                return float(event["loss"])
    return trainer.evaluate()["eval_loss"]


def _changed_codes(trainable: Trainable) -> tuple[int, int]:
    now = as_loaded_model(trainable).reference_weights
    codes = changed = 0
    for name in trainable.ternary:
        before, after = trainable.source.reference_weights[name], now[name]
        if isinstance(before, TernaryTensor) and isinstance(after, TernaryTensor):
            codes += before.codes.size
            changed += int(np.count_nonzero(before.codes != after.codes))
    return codes, changed


def _notes(before: float | None, after: float | None, measured: bool) -> list[str]:
    if not measured:
        return ["there were no validation examples, so the loss of the result is not known"]
    if before is not None and after is not None and after >= before:
        return [
            "the model was better before: the validation loss did not fall. More steps, another learning "
            "rate or more data may help."
        ]
    return []
