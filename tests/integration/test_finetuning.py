"""Whole fine-tuning runs of a tiny model: the file does what was measured, whatever happens on the way."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'finetune') is not installed")
pytest.importorskip("transformers", reason="transformers (extra 'finetune') is not installed")

from safetensors.numpy import load_file  # noqa: E402

from tercet import LLM, FineTuner  # noqa: E402
from tercet.errors import ParameterError, StorageError, TrainingError  # noqa: E402
from tercet.finetuning import trainer as trainer_module  # noqa: E402
from tercet.finetuning.report import FineTuneResult  # noqa: E402
from tercet.finetuning.settings import FineTuneSettings  # noqa: E402
from tercet.finetuning.trainer import complete_checkpoints  # noqa: E402
from tercet.models.loading import load_model  # noqa: E402

ROWS = [
    {"prompt": f"Where is dog {number}?", "answer": f"dog {number} is in the park {number % 3}"}
    for number in range(40)
]
# 36 examples packed into sequences of 64 tokens make 20 steps.
SETTINGS: dict[str, Any] = {
    "epochs": 4, "accumulation": 2, "learning_rate": 1e-2, "evaluate_every": 4, "save_every": 4,
    "log_every": 2,
}  # fmt: skip


def tune(model: Path, output: Path, **changes: Any) -> FineTuneResult:
    asked = {"resume", "stop", "on_event", "test_prompts", "validation"} & set(changes)
    options = {name: changes.pop(name) for name in asked}
    data = changes.pop("data", ROWS)
    return FineTuner(model, **(SETTINGS | changes)).train(data, output, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model_file: Path) -> FineTuneResult:
    """A run from its beginning to its end."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return tune(tiny_model_file, folder, test_prompts=["Where is dog 3?"], lora_rank=4)


def masters_of(result: FineTuneResult) -> dict[str, bytes]:
    weights = load_file(result.folder / "masters" / "model.safetensors")
    return {name: value.tobytes() for name, value in weights.items()}


def test_the_file_does_what_was_measured(whole: FineTuneResult) -> None:
    assert whole.loss_trainer is not None
    assert whole.loss_before is not None
    assert whole.loss_file == pytest.approx(whole.loss_trainer, rel=0.005)
    assert whole.loss_trainer < whole.loss_before - 0.5
    assert whole.agrees
    assert 0 < whole.codes_changed < whole.codes
    assert whole.trained_parameters == whole.parameters
    (answers,) = whole.prompts
    assert answers.before != answers.after
    with LLM(whole.model) as llm:
        chat = [{"role": "user", "content": "Where is dog 3?"}]
        assert llm.chat(chat, temperature=0, max_tokens=64).text == answers.after


def test_the_best_step_is_what_is_exported(whole: FineTuneResult) -> None:
    lines = [json.loads(line) for line in (whole.folder / "log.jsonl").read_text().splitlines()]
    evaluations = {line["step"]: line["loss"] for line in lines if line["event"] == "evaluation"}
    assert evaluations[0] == whole.loss_before
    assert whole.step in evaluations, "the end is evaluated, whatever the interval is"
    best = min((step for step in evaluations if step), key=lambda step: evaluations[step])
    assert (whole.best_step, whole.loss_trainer) == (best, pytest.approx(evaluations[best]))
    report = json.loads((whole.folder / "report.json").read_text())
    assert report["agrees"] is True
    assert report["data"]["rows_used"] == len(ROWS)
    assert "the file does what was measured" in str(whole)


def test_masters_are_saved_to_go_on_from(whole: FineTuneResult) -> None:
    masters, model = load_model(whole.folder / "masters"), load_model(whole.model)
    for name, info in masters.tensors.items():
        if info.is_master:
            one, other = masters.reference_weights[name], model.reference_weights[name]
            np.testing.assert_array_equal(one.codes, other.codes)
    newest = complete_checkpoints(whole.folder / "checkpoints")[-1]
    assert load_model(newest).masters, "a checkpoint is a folder that Tercet opens as a ternary model"


def test_a_stopped_run_goes_on_to_the_same_weights(
    tmp_path: Path, tiny_model_file: Path, whole: FineTuneResult
) -> None:
    steps: list[int] = []
    folder = tmp_path / "run"
    stopped = tune(
        tiny_model_file,
        folder,
        stop=lambda: len(steps) >= 3,
        on_event=lambda step, _, figures: steps.append(step) if "loss" in figures else None,
    )
    assert stopped.interrupted
    assert stopped.step < whole.step
    assert not (folder / "model.tercet").exists()
    partial = folder / "checkpoints" / "checkpoint-99"  # what a killed process leaves
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(TrainingError, match="holds a run already"):
        tune(tiny_model_file, folder)
    with pytest.raises(TrainingError, match=r"learning_rate: 0.01 there, 0.1 here"):
        tune(tiny_model_file, folder, resume=True, learning_rate=0.1)
    with pytest.raises(TrainingError, match="the training examples are others"):
        tune(tiny_model_file, folder, resume=True, data=ROWS[:-2])
    resumed = tune(tiny_model_file, folder, resume=True)
    assert not partial.exists()
    assert masters_of(resumed) == masters_of(whole)
    assert resumed.loss_before == whole.loss_before


def test_a_run_ends_early_where_nothing_gets_better(tmp_path: Path, tiny_model_file: Path) -> None:
    result = tune(
        tiny_model_file,
        tmp_path / "run",
        learning_rate=1e-12,
        early_stopping=1,
        evaluate_every=1,
        save_every=1,
        keep=1,
        gradient_checkpointing=True,
    )
    assert result.step < 6
    assert result.codes_changed == 0
    assert result.loss_file == pytest.approx(result.loss_before, rel=1e-4)
    assert len(complete_checkpoints(result.folder / "checkpoints")) <= 2


def test_a_loss_that_is_no_number_names_step_and_rows(
    tmp_path: Path, tiny_model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = trainer_module.Trainer.training_step
    count = 0

    def step(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        loss = usual(self, *arguments, **named)
        return loss * math.nan if count == 10 else loss

    monkeypatch.setattr(trainer_module.Trainer, "training_step", step)
    with pytest.raises(
        TrainingError, match=r"(?s)in step 6 the loss is nan.*checkpoint-4.*The rows were row \d"
    ):
        tune(tiny_model_file, tmp_path / "run")
    assert [path.name for path in complete_checkpoints(tmp_path / "run" / "checkpoints")] == ["checkpoint-4"]


def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, tiny_model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = torch.save

    def full(content: Any, path: Any, *arguments: Any, **named: Any) -> None:
        if "checkpoint-8" in str(path):
            raise OSError(28, "No space left on device")
        usual(content, path, *arguments, **named)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"(?s)checkpoint-8.*No space left.*--resume"):
        tune(tiny_model_file, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["checkpoint-4"]


def test_what_makes_no_sense_is_refused(tmp_path: Path, tiny_model_file: Path) -> None:
    for changes, message in [
        ({"batch_size": 0}, "batch_size must be a whole number from 1 on"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number"),
        ({"method": "qlora"}, "method must be one of full, lora, ternary-lora"),
        ({"save_every": 6, "evaluate_every": 4}, "save_every must be a multiple of evaluate_every"),
        ({"load_in_8bit": True}, "goes with the method lora"),
    ]:
        with pytest.raises(ParameterError, match=message):
            FineTuneSettings(**changes)
    with pytest.raises(ParameterError, match="there is no setting epoch; there are accumulation"):
        FineTuner(tiny_model_file, epoch=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear ...")
    with pytest.raises(TrainingError, match="is not empty and holds no run"):
        tune(tiny_model_file, tmp_path / "mine")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(TrainingError, match="is empty: it holds no rows"):
        tune(tiny_model_file, tmp_path / "run", data=tmp_path / "empty.jsonl")
    assert not (tmp_path / "run").exists()


def test_nothing_is_measured_without_validation(tmp_path: Path, tiny_model_folder: Path) -> None:
    """From masters, in float32, with texts instead of conversations, and without packing."""
    rows = [{"text": f"The little dog number {number} liked to run in the park."} for number in range(8)]
    result = tune(
        tiny_model_folder, tmp_path / "run", data=rows, validation_share=0.0, packing=False, max_steps=2,
        precision="fp32", completion_only=False,
    )  # fmt: skip
    assert result.step == 2
    assert result.loss_file is None
    assert "not known" in str(result)
    assert load_model(result.model).config == load_model(tiny_model_folder).config
