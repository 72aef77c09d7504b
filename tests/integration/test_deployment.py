"""`tercet deploy`: generations in processes of their own, and processes that crash, hang and say nonsense."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

import fake_strategies
from program import assert_refused, tercet
from tercet.deployment import DeploymentSettings, GenerationRequest, registry, trials
from tercet.deployment.trials import Measurement, TimeLimits, measure

PROMPT = "Once upon a time"
GREEDY = ", there was a little girl named Mary. She was a curious and adventurous"


# Every strategy that runs here


def test_every_strategy_says_what_the_model_says() -> None:
    found = tercet("deploy", "test", "--json", "--runs", "1", *only("native", "onnxruntime", "transformers"))
    assert found.status == 0, found
    rows = {row["strategy"]: row for row in found.data["strategies"]}
    assert list(rows) == ["native", "onnxruntime", "transformers"]
    for row in rows.values():
        assert row["success"], row
        assert row["agreement"]["complete"], row
        assert (row["agreement"]["compared"], row["agreement"]["reference"]) == (16, "NumPy")
        assert row["text"] == GREEDY
        assert 0 < row["time_to_first_token_seconds"] < row["generation_seconds"]
        assert row["tokens_per_second"] > 0
    # Each is measured in a process of its own: PyTorch's is not in the others' memory.
    assert rows["native"]["memory_bytes"] < rows["transformers"]["memory_bytes"]


def test_transformers_in_this_process(tmp_path: Path) -> None:
    from tercet.deployment import create
    from tercet.deployment.agreement import Reference
    from tercet.errors import ContextLengthError, DeadlineError

    strategy = create("transformers", None, DeploymentSettings(threads=1, folder=str(tmp_path)))
    strategy.deploy()
    message = GenerationRequest(PROMPT, 8, chat=True)
    assert Reference().agreement(message, strategy.generate(message)).complete
    drawn = [
        strategy.generate(GenerationRequest(PROMPT, 6, temperature=1.5, seed=seed)).text for seed in (3, 3, 4)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(ContextLengthError):
        strategy.generate(GenerationRequest("word " * 600))
    begin = time.monotonic()
    with pytest.raises(DeadlineError):
        strategy.generate(GenerationRequest(PROMPT, 400, timeout_seconds=0.2))
    assert time.monotonic() - begin < 10
    assert strategy.generate(GenerationRequest(PROMPT, 16)).text == GREEDY
    assert strategy.metrics().to_dict()["success_rate"] == pytest.approx(5 / 7)
    strategy.close()


# The commands


def test_a_list_with_reasons() -> None:
    found = tercet("deploy", "list", "--json", "--program", "/nowhere/llama-server")
    assert found.status == 0, found
    rows = {row["strategy"]: row for row in found.data["strategies"]}
    assert set(rows) == set(registry.STRATEGIES)
    assert rows["native"]["available"]
    assert not rows["bitnet_cpp"]["available"]
    assert not rows["remote"]["available"]
    shown = tercet("deploy", "list", *only("native", "remote"))
    assert "native" in shown.out
    assert "--endpoint" in shown.out


def test_a_model_that_is_not_there_is_the_reason() -> None:
    found = tercet("deploy", "list", "--json", "--model", "no-such-model")
    assert found.status == 0, found
    assert not any(row["available"] for row in found.data["strategies"])
    assert_refused(tercet("deploy", "test", "--model", "no-such-model"), "no-such-model")
    nobody = tercet("deploy", "test", *only("remote"))
    assert nobody.status == 1, nobody
    assert "no endpoint was named" in nobody.out


def test_one_prompt() -> None:
    found = tercet("deploy", "run", PROMPT, "-n", "16", "-s", "onnxruntime")
    assert (found.status, found.out) == (0, GREEDY + "\n"), found
    assert "onnxruntime, 16 tokens, " in found.err
    assert tercet("deploy", "run", PROMPT, "-n", "16", "--json").data["text"] == GREEDY


def test_the_choice() -> None:
    chosen = tercet("deploy", "select", "--for", "memory", *only("native"), "-n", "4", "--runs", "1")
    assert (chosen.status, chosen.out) == (0, "native\n"), chosen
    assert "the least resident memory" in chosen.err
    advice = tercet("deploy", "recommend", "-u", "edge", *only("native"), "-n", "4", "--runs", "1")
    assert advice.status == 0, advice
    assert "take native" in advice.out
    assert "tercet serve --scenario edge" in advice.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("test", "--only", "telepathy"), "no strategy is called 'telepathy'"),
        (("select", "--for", "beauty"), "no goal 'beauty'"),
        (("recommend", "--use-case", "space"), "no use case 'space'"),
        (("run", PROMPT, "-s", "telepathy"), "no strategy is called 'telepathy'"),
        (("run", PROMPT, "-n", "0"), "max_tokens must be at least 1"),
        (("test", "--runs", "0"), "runs must be at least 1"),
        (("list", "--threads", "0"), "threads must be at least 1"),
    ],
)
def test_wrong_options(arguments: tuple[str, ...], reason: str) -> None:
    assert_refused(tercet("deploy", *arguments), reason)


# Processes that fail


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in fake_strategies.FAKES.items():
        monkeypatch.setitem(registry.STRATEGIES, name, place)
    monkeypatch.setattr(trials, "COMMAND", (sys.executable, fake_strategies.__file__))


def tried(name: str, **limits: float) -> Measurement:
    request = GenerationRequest(PROMPT, 8, timeout_seconds=0.2)
    allowed = TimeLimits(**{"deploy": 60, "grace": 30, **limits})
    settings = DeploymentSettings(start_seconds=1)
    return measure(None, settings, [name], request=request, runs=2, limits=allowed)[0]


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("name", "available", "reason"),
    [
        ("absent", False, "it is not here"),
        ("crashes", True, "its process ended by signal 9 (Killed): out of luck"),
        ("raises", True, "ValueError: a bug"),
        ("too_slow", True, "too_slow did not end its answer within 0.2 seconds"),
        ("silent", True, "it answered with nothing"),
    ],
)
def test_a_failure_is_a_row(name: str, available: bool, reason: str) -> None:
    found = tried(name)
    assert (found.available, found.success) == (available, False)
    assert found.reason.startswith(reason)
    assert found.steps == (("make it",) if name == "absent" else ())


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("name", ["never_ready", "hangs"])
def test_what_hangs_is_ended(name: str) -> None:
    found = tried(name, deploy=0.5, grace=0.5)
    assert (found.available, found.success) == (True, False)
    assert "seconds, and was ended" in found.reason


@pytest.mark.usefixtures("fakes")
def test_what_a_library_prints_is_no_answer() -> None:
    found = tried("works")
    assert found.success, found
    assert found.text == "Hello world"
    assert found.agreement is None


@pytest.mark.usefixtures("fakes")
def test_the_others_are_tried_after_a_failure() -> None:
    request = GenerationRequest(PROMPT, 8)
    found = measure(None, None, ["crashes", "works"], request=request, runs=1)
    assert [one.success for one in found] == [False, True]


def test_a_trial_ends_with_whoever_asked() -> None:
    """Standard input that ends is how a process hears that its caller was killed."""
    import subprocess

    process = subprocess.Popen(
        trials.COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdin is not None
    job = (
        '{"strategy": "native", "model": null, "settings": {}, "runs": 1000000, '
        '"request": {"prompt": "Once", "max_tokens": 400}}\n'
    )
    process.stdin.write(job.encode())
    process.stdin.flush()
    time.sleep(0.5)
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(60) != 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def only(*names: str) -> list[str]:
    return [part for name in names for part in ("--only", name)]
