"""Other programs and machines that fail, from the command line: a clear report, and nothing hangs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fake_builds import fake_server
from faulty_endpoints import Endpoints, answer, json_answer
from program import assert_refused, tercet
from served import Server
from tercet.deployment import DeploymentSettings, GenerationRequest, create

PROMPT = "Once upon a time"
FEW = ("--max-tokens", "6", "--threads", "1")
MODELS = {"data": [{"id": "small"}]}


def variables(folder: Path) -> dict[str, str]:
    return {
        "TERCET_CACHE": str(folder / "cache"),
        "FAKE_RECORD": str(folder / "record.json"),
        "FAKE_TOKENS": json.dumps([[5, " there"], [6, " was"]]),
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all, so that the model is converted once."""
    return tmp_path_factory.mktemp("deploy")


def test_an_endpoint_of_ours_answers_as_the_model_here(serving: Server) -> None:
    said = DeploymentSettings(endpoint=f"{serving.base_url}/v1", threads=1)
    request = GenerationRequest(PROMPT, max_tokens=16)
    texts, counts = [], []
    for name in ("remote", "native"):
        strategy = create(name, None, said)
        strategy.deploy()
        done = strategy.generate(request)
        texts.append(done.text)
        counts.append((done.prompt_tokens, done.generated_tokens, done.finish_reason))
        streamed = "".join(strategy.stream(request))
        assert streamed == done.text
        strategy.close()
    assert texts[0] == texts[1]
    assert counts[0] == counts[1]


def test_the_chain_goes_on_until_somebody_answers(cache: Path, tmp_path: Path) -> None:
    begin = time.monotonic()
    with Endpoints(
        lambda request: json_answer(MODELS) if request.method == "GET" else answer(b"<html>")
    ) as server:
        done = tercet(
            *("deploy", "run", PROMPT, "-s", "bitnet_cpp", "-s", "remote", "-s", "native", "--json", *FEW),
            *("--program", fake_server(tmp_path, "never ready"), "--start-seconds", "1"),
            *("--endpoint", server.url),
            **variables(cache),
        )
    assert done.status == 0, done
    assert done.data["strategy"] == "native"
    assert done.data["generated_tokens"] == 6
    reasons = {one["strategy"]: one["reason"] for one in done.data["others"]}
    assert "was not ready within 1 seconds" in reasons["bitnet_cpp"]
    assert "is not JSON: <html>" in reasons["remote"]
    assert time.monotonic() - begin < 100


def test_nobody_answers(cache: Path) -> None:
    done = tercet("deploy", "run", PROMPT, "-s", "bitnet_cpp", "-s", "remote", PATH="", **variables(cache))
    assert_refused(done, "no strategy could answer", "llama-server is not on the PATH", "--endpoint")


def test_prompts_stay_here_unless_told_otherwise(cache: Path) -> None:
    done = tercet(
        "deploy", "run", PROMPT, "-s", "remote", "--endpoint", "http://192.0.2.1/v1", **variables(cache)
    )
    assert_refused(done, "prompts would leave this machine for 192.0.2.1", "--send-prompts")


def test_the_list_says_what_is_missing(cache: Path, tmp_path: Path) -> None:
    said = variables(cache)
    done = tercet("deploy", "list", "--only", "bitnet_cpp", "--only", "remote", "--json", PATH="", **said)
    assert done.status == 0, done
    here = {row["strategy"]: row for row in done.data["strategies"]}
    assert not here["bitnet_cpp"]["available"]
    assert here["bitnet_cpp"]["steps"][0].startswith("git clone")
    assert not here["remote"]["available"]
    done = tercet("deploy", "list", "--only", "bitnet_cpp", "--program", tmp_path, "--json", **said)
    assert "neither llama-server nor run_inference.py" in done.data["strategies"][0]["reason"]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("good", ""),
        ("exits", "failed to load model"),
        ("garbage", "a JSON list, not an object"),
        ("crashes", "was ended by SIGILL"),
    ],
)
def test_a_build_is_tested_and_reported(cache: Path, tmp_path: Path, mode: str, words: str) -> None:
    done = tercet(
        *("deploy", "test", "--only", "bitnet_cpp", "--program", fake_server(tmp_path, mode), "--json"),
        *("--runs", "1", *FEW),
        **variables(cache),
    )
    (found,) = done.data["strategies"]
    assert done.status == (0 if mode == "good" else 1), done
    assert found["success"] == (mode == "good")
    assert words in found["reason"]
    if mode == "good":
        assert found["agreement"]["compared"] == 2
        assert not found["agreement"]["complete"]  # it is no model
        assert found["memory_bytes"] > 1 << 20
