"""Whole training runs on a small corpus: resuming, interrupting, and everything that can go wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch (extra 'train') is not installed")
pytest.importorskip("accelerate", reason="accelerate (extra 'train') is not installed")

from small_runs import SETTINGS, VOCABULARY, weights_of, write_corpus  # noqa: E402
from tercet.errors import FormatError, StorageError, TrainingError  # noqa: E402
from tercet.training import checkpoint as checkpoint_module  # noqa: E402
from tercet.training.checkpoint import checkpoints  # noqa: E402
from tercet.training.corpus import read_description, read_documents  # noqa: E402
from tercet.training.loop import train  # noqa: E402
from tercet.training.preparation import prepare_tokens  # noqa: E402
from tercet.training.settings import PRESETS, TrainingSettings, preset  # noqa: E402


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
        import shutil

        shutil.rmtree(folder)
    resumed = train(SETTINGS, tokens, run, resume=True)
    assert resumed.step == whole.step == 8
    assert weights_of(resumed.checkpoint) == weights_of(whole.checkpoint)
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "evaluation"] == [4, 8]
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")


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
