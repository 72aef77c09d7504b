"""Whole training runs on a small corpus: resuming, interrupting, and everything that can go wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'train') is not installed")
pytest.importorskip("accelerate", reason="accelerate (extra 'train') is not installed")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from small_runs import SETTINGS, VOCABULARY, weights_of, write_corpus  # noqa: E402
from tercet.errors import FormatError, StorageError, TercetError, TrainingError  # noqa: E402
from tercet.training import checkpoint as checkpoint_module  # noqa: E402
from tercet.training.checkpoint import checkpoints  # noqa: E402
from tercet.training.corpus import read_description, read_documents  # noqa: E402
from tercet.training.loop import train  # noqa: E402
from tercet.training.optimizers import Optimizers  # noqa: E402
from tercet.training.preparation import prepare_tokens, prepare_tokens_once  # noqa: E402
from tercet.training.settings import PRESETS, TrainingSettings, preset  # noqa: E402
from tercet.training.variants import as_variant  # noqa: E402


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    write_corpus(path)
    return path


@pytest.fixture(scope="module")
def tokens(corpus: Path) -> Path:
    folder = corpus.parent / "tokens"
    prepare_tokens([corpus], folder, VOCABULARY, 32)
    return folder


def test_tokens_are_split_and_described(tokens: Path) -> None:
    parts = read_description(tokens)
    assert parts["train"].num_documents + parts["valid"].num_documents == 400
    assert 1 <= parts["valid"].num_documents <= 30
    assert (tokens / "train.tokens").stat().st_size == 2 * parts["train"].num_tokens


def test_control_tokens_in_a_text_stay_text(tmp_path: Path, tokens: Path) -> None:
    from tokenizers import Tokenizer

    from tercet.training.corpus import write_token_file

    tokenizer = Tokenizer.from_file(str(tokens / "tokenizer.json"))
    part = write_token_file([{"text": "<|end_of_text|>"}], tokenizer, tmp_path / "evil.tokens")
    import numpy as np

    ids = np.fromfile(tmp_path / "evil.tokens", "<u2").tolist()
    end = tokenizer.token_to_id("<|end_of_text|>")
    assert ids.count(end) == 1
    assert ids[-1] == end
    assert part.num_tokens == len(ids) > 4


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, tokens: Path) -> None:
    whole = train(SETTINGS, tokens, tmp_path / "whole")
    run = tmp_path / "parts"
    train(SETTINGS, tokens, run)
    for folder in checkpoints(run)[1:]:  # as if killed after the checkpoint of step 3
        shutil.rmtree(folder)
    resumed = train(SETTINGS, tokens, run, resume=True)
    assert resumed.step == whole.step == 8
    assert weights_of(resumed.checkpoint) == weights_of(whole.checkpoint)
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "evaluation"] == [4, 8]
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_four_bits_come_last_and_checkpoints_say_so(tmp_path: Path, tokens: Path) -> None:
    """Every checkpoint is a model of the rule it was evaluated with; the run resumes across the change."""
    settings = as_variant(SETTINGS, "v2")
    settings = dataclasses.replace(
        settings, schedule=dataclasses.replace(settings.schedule, four_bits_start=0.5)
    )
    whole = train(settings, tokens, tmp_path / "whole")
    train(settings, tokens, tmp_path / "parts")
    rules = {}
    for folder in checkpoints(tmp_path / "parts"):
        config = json.loads((folder / "config.json").read_text())["quantization_config"]
        rules[int(folder.name.removeprefix("step-"))] = config.get("activation_rule", "int8")
    assert rules == {step: "int8" if step <= 4 else "int4" for step in rules}
    assert len(rules) > 1
    for folder in checkpoints(tmp_path / "parts")[1:]:
        shutil.rmtree(folder)
    resumed = train(settings, tokens, tmp_path / "parts", resume=True)
    assert min(rules) <= 4
    assert weights_of(resumed.checkpoint) == weights_of(whole.checkpoint)


def test_a_run_is_not_overwritten(tmp_path: Path, tokens: Path) -> None:
    train(SETTINGS, tokens, tmp_path / "run")
    with pytest.raises(TrainingError, match="already holds a run"):
        train(SETTINGS, tokens, tmp_path / "run")
    other = dataclasses.replace(SETTINGS, seed=1)
    with pytest.raises(TrainingError, match="seed: 0 there, 1 here"):
        train(other, tokens, tmp_path / "run", resume=True)


def test_a_diverged_run_says_so_and_keeps_its_checkpoints(tmp_path: Path, tokens: Path) -> None:
    wild = dataclasses.replace(
        SETTINGS,
        optimizer=dataclasses.replace(SETTINGS.optimizer, kind="adamw", matrix_rate=1e30, rate=1e30),
        checkpoint_every=1,
        gradient_clip=1e30,
    )
    with pytest.raises(TrainingError, match="diverged"):
        train(wild, tokens, tmp_path / "run")
    assert checkpoints(tmp_path / "run")


def test_a_full_disk_loses_nothing(tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    saved = checkpoint_module.save_file
    calls = []

    def fill_the_disk(*arguments: object, **keywords: object) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        saved(*arguments, **keywords)

    monkeypatch.setattr(checkpoint_module, "save_file", fill_the_disk)
    with pytest.raises(StorageError, match="earlier checkpoints are untouched"):
        train(SETTINGS, tokens, run)
    assert [folder.name for folder in checkpoints(run)] == ["step-00000003"]
    assert not list(run.glob(".*.tmp"))


def test_weights_that_are_no_numbers_are_not_saved(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Infinite weights after a step whose loss was fine: the last checkpoint is one to go on from."""
    step = Optimizers.step
    done = []

    def explode(self: Optimizers, *arguments: float) -> None:
        step(self, *arguments)
        done.append(1)
        if len(done) == 6:
            self.parts["matrices"].param_groups[0]["params"][0].data.fill_(math.inf)

    monkeypatch.setattr(Optimizers, "step", explode)
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"not finite numbers: the run has diverged.*step-00000003"):
        train(SETTINGS, tokens, run)
    assert [folder.name for folder in checkpoints(run)] == ["step-00000003"]


def test_a_run_starts_from_given_weights(tmp_path: Path, tokens: Path) -> None:
    first = train(SETTINGS, tokens, tmp_path / "first").checkpoint
    again = dataclasses.replace(
        SETTINGS,
        init_from=str(first),
        schedule=dataclasses.replace(SETTINGS.schedule, num_steps=1, quantization_warmup_steps=0),
        optimizer=dataclasses.replace(SETTINGS.optimizer, matrix_rate=0.0, rate=0.0),
    )
    assert weights_of(train(again, tokens, tmp_path / "second").checkpoint) == weights_of(first)
    foreign = tmp_path / "foreign"
    shutil.copytree(tokens, foreign)
    (foreign / "tokenizer.json").write_text(
        (foreign / "tokenizer.json").read_text(encoding="utf-8").replace("<|user|>", "<|reader|>"),
        encoding="utf-8",
    )
    with pytest.raises(TrainingError, match="made with another tokenizer"):
        train(again, foreign, tmp_path / "third")
    with pytest.raises(TrainingError, match="made with another tokenizer"):
        train(SETTINGS, tokens, tmp_path / "fourth", second_stage_data=foreign)
    with safe_open(first / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if "layers.0.mlp.up" not in name]  # noqa: SIM118
        weights = {name: file.get_tensor(name) for name in names}
    save_file(weights, first / "model.safetensors")
    with pytest.raises(TercetError, match="lacks 1 of the model's tensors"):
        train(again, tokens, tmp_path / "fifth")


def test_tokens_are_made_once_and_only_of_the_same_files(tmp_path: Path, corpus: Path) -> None:
    folder, text = tmp_path / "tokens", tmp_path / "mine.jsonl"
    text.write_bytes(corpus.read_bytes())
    stages: list[str] = []
    prepare_tokens_once([text], folder, VOCABULARY, 32, stages.append)
    made = len(stages)
    prepare_tokens_once([text], folder, VOCABULARY, 32, stages.append)
    assert len(stages) == made > 0
    text.write_text(text.read_text() + '{"text": "One more."}\n')
    with pytest.raises(TrainingError, match="made from other files"):
        prepare_tokens_once([text], folder, VOCABULARY, 32, stages.append)
    prepare_tokens_once([text], folder, VOCABULARY, 32, stages.append, may_replace=True)
    assert len(stages) == 2 * made


def test_a_folder_of_tokens_copied_in_part_is_refused(tmp_path: Path, tokens: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(tokens, part)
    with (part / "train.tokens").open("rb+") as file:
        file.truncate(100)
    with pytest.raises(FormatError, match=r"train\.tokens: expected \d+ bytes .* found 100"):
        read_description(part)
    with pytest.raises(TrainingError, match="is no token folder"):
        read_description(tmp_path / "nothing")


def test_data_too_short_for_one_window(tmp_path: Path, tokens: Path) -> None:
    wide = dataclasses.replace(SETTINGS.model, max_context=1 << 16)
    with pytest.raises(TrainingError, match="too few for windows"):
        train(dataclasses.replace(SETTINGS, model=wide, context=1 << 16), tokens, tmp_path / "run")


def test_tensorboard_reads_the_run(tmp_path: Path, tokens: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    train(SETTINGS, tokens, run)
    shutil.rmtree(checkpoints(run)[-1])
    train(SETTINGS, tokens, run, resume=True)  # steps 7 and 8 once more: they must not be drawn twice
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    drawn = [(event.step, event.value) for event in events.Scalars("validation/loss")]
    logged = [(line["step"], pytest.approx(line["loss"])) for line in lines if line["event"] == "evaluation"]
    assert drawn == logged
    assert [event.step for event in events.Scalars("train/loss")] == [8]
    assert events.Tensors("validation/sample")[0].tensor_proto.string_val[0].startswith(b"Once upon a time")


def test_a_disk_without_room_is_seen_before_the_first_step(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"takes up to .* GB, and the disk of .* has 0\.0 GB free"):
        train(SETTINGS, tokens, tmp_path / "run")


@pytest.mark.parametrize(
    "line", ["{not json", '{"foo": 1}', "[1]", '{"text": 5}', '{"prompt": "a", "answer": null}']
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(FormatError, match=r"bad\.jsonl:2"):
        list(read_documents([path]))


def test_missing_and_tiny_corpora(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="does not exist"):
        list(read_documents([tmp_path / "none.jsonl"]))
    path = tmp_path / "one.jsonl"
    path.write_text('{"text": "alone"}\n')
    with pytest.raises(TrainingError, match="too few"):
        prepare_tokens([path], tmp_path / "tokens", VOCABULARY, 32)


def test_every_preset_is_sound() -> None:
    for name in PRESETS:
        settings = preset(name)
        assert TrainingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
        assert math.isfinite(settings.schedule.learning_rate_factor(settings.schedule.num_steps - 1))


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, tokens: Path) -> None:
    """kill -9 at a random moment, even while a checkpoint is written, then --resume: not a bit differs."""
    settings = dataclasses.replace(SETTINGS, schedule=dataclasses.replace(SETTINGS.schedule, num_steps=30))
    settings.save(tmp_path / "settings.json")
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "tercet", "train", str(tokens), "--output", str(run)]
    process = subprocess.Popen(
        [*command, "--config", str(tmp_path / "settings.json")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not checkpoints(run) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    time.sleep(random.random() * 0.3)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    reached = checkpoints(run)[-1].name
    whole = train(settings, tokens, tmp_path / "whole")
    resumed = train(settings, tokens, run, resume=True)
    assert resumed.step == whole.step == 30
    assert weights_of(resumed.checkpoint) == weights_of(whole.checkpoint), f"killed after {reached}"
    assert not list(run.glob(".step-*"))


def test_ctrl_c_keeps_what_was_learned(tmp_path: Path, corpus: Path) -> None:
    """The command, interrupted: exit 130, a checkpoint, how to go on; then --resume ends the run."""
    run, config = tmp_path / "run", tmp_path / "settings.json"
    long = dataclasses.replace(SETTINGS, schedule=dataclasses.replace(SETTINGS.schedule, num_steps=100_000))
    long.save(config)
    command = [sys.executable, "-m", "tercet", "train", str(corpus), "--output", str(run)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    process = subprocess.Popen(
        [*command, "--config", str(config)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not checkpoints(run) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert output == ""
    step = json.loads((checkpoints(run)[-1] / "trainer.json").read_text())["step"]
    last = str(step + 2)
    ended = subprocess.run(
        [*command, "--steps", last, "--resume"], capture_output=True, env=environment, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().endswith(f"step-{step + 2:08d}")
