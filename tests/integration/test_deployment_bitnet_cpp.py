"""Strategy bitnet_cpp with programs that do as told and programs that do not: a report each time, no hang.

The programs are made for the purpose (tests/plugins/fake_llama_server.py). That the model and its answer are
right was looked at once with a build of llama.cpp, see docs/guides/deploy-elsewhere.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_builds import alive, executable, fake_checkout, fake_server
from tercet.deployment import DeploymentSettings, GenerationRequest, Strategy, create
from tercet.deployment.bitnet_cpp import BitnetCppStrategy
from tercet.deployment.bitnet_cpp import program as programs
from tercet.errors import DeadlineError, FormatError, UnavailableError
from tercet.llm import LLM

REQUEST = GenerationRequest("Once upon a time", max_tokens=8, timeout_seconds=20)
QUICK = GenerationRequest("Once upon a time", max_tokens=8, timeout_seconds=1.5)
TOKENS = [[5, " there"], [6, " was"], [7, " a"], [8, " dog"]]

Make = Callable[..., Strategy]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model is converted once for all tests."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a program says what it was asked."""
    monkeypatch.setenv("FAKE_RECORD", str(tmp_path / "record.json"))
    monkeypatch.setenv("FAKE_TOKENS", json.dumps(TOKENS))
    return tmp_path / "record.json"


@pytest.fixture
def strategy(models: Path, record: Path) -> Iterator[Make]:
    made: list[Strategy] = []

    def make(program: Path | None, **settings: Any) -> Strategy:
        said = DeploymentSettings(
            threads=1,
            folder=str(models),
            program=program and str(program),
            **{"start_seconds": 20, **settings},
        )
        made.append(create("bitnet_cpp", None, said))
        return made[-1]

    yield make
    for one in made:
        one.close()


# A server that works ----------------------------------------------------------------------------


def test_a_server_answers_and_is_asked_for_what_was_meant(
    strategy: Make, tmp_path: Path, record: Path
) -> None:
    server = strategy(fake_server(tmp_path))
    assert server.availability().available
    assert "llama.cpp 1234 (abcdef)" in server.availability().reason
    trial = server.test(REQUEST)
    assert trial.success, trial.reason
    assert trial.generation is not None
    assert trial.generation.text == " there was a dog"
    assert trial.generation.token_ids == (5, 6, 7, 8)
    assert trial.generation.generated_tokens == 4
    assert trial.generation.finish_reason == "length"
    assert trial.memory_bytes is not None
    assert trial.memory_bytes > 1 << 20
    arguments, body = json.loads(record.read_text())
    with LLM() as llm:
        assert body["prompt"] == [llm.config.first_token_id, *llm.tokenize("Once upon a time")]
    assert (body["temperature"], body["n_predict"], body["repeat_penalty"]) == (0, 8, 1)
    model = Path(arguments[arguments.index("-m") + 1])
    assert model.read_bytes()[:4] == b"GGUF"
    assert trial.generation.prompt_tokens == len(body["prompt"])


def test_streams_and_counts(strategy: Make, tmp_path: Path) -> None:
    server = strategy(fake_server(tmp_path))
    server.deploy()
    assert list(server.stream(REQUEST)) == [" there", " was", " a", " dog"]
    metrics = server.metrics()
    assert (metrics.requests, metrics.successful, metrics.generated_tokens) == (1, 1, 4)


def test_an_old_server_tells_no_tokens_but_counts_them(strategy: Make, tmp_path: Path) -> None:
    server = strategy(fake_server(tmp_path, "old"))
    server.deploy()
    answer = server.generate(REQUEST)
    assert (answer.text, answer.token_ids, answer.generated_tokens) == (" there was a dog", None, 4)


def test_tokens_that_were_not_all_told_are_not_known(strategy: Make, tmp_path: Path) -> None:
    server = strategy(fake_server(tmp_path, "within a character"))
    server.deploy()
    answer = server.generate(REQUEST)
    assert (answer.token_ids, answer.generated_tokens) == (None, 4)


def test_nothing_of_it_is_left_after_close(strategy: Make, tmp_path: Path) -> None:
    server = strategy(fake_server(tmp_path))
    server.deploy()
    assert isinstance(server, BitnetCppStrategy)
    assert server._deployed is not None
    assert server._deployed.server is not None
    pid = server._deployed.server._process._process.pid
    assert alive(pid)
    server.close()
    assert not alive(pid)
    with pytest.raises(UnavailableError, match="not deployed"):
        server.generate(REQUEST)


def test_a_taken_port_is_left_to_its_owner(
    strategy: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = strategy(fake_server(tmp_path, "port taken"))
    server.deploy()  # at the second try
    assert server.generate(REQUEST).text == " there was a dog"
    server.close()
    monkeypatch.setenv("FAKE_TRIES", "99")
    with pytest.raises(UnavailableError, match="couldn't bind"):
        server.deploy()


# A server that does not --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("exits", "status 3: error: failed to load model: no such architecture"),
        ("another", r"another program answers at 127\.0\.0\.1"),
    ],
)
def test_a_server_that_does_not_start(strategy: Make, tmp_path: Path, mode: str, words: str) -> None:
    with pytest.raises(UnavailableError, match=words):
        strategy(fake_server(tmp_path, mode)).deploy()


def test_a_server_that_is_never_ready(strategy: Make, tmp_path: Path) -> None:
    begin = time.monotonic()
    trial = strategy(fake_server(tmp_path, "never ready"), start_seconds=1).test(REQUEST)
    assert not trial.success
    assert "was not ready within 1 seconds" in trial.reason
    assert time.monotonic() - begin < 20


def test_a_server_that_hangs(strategy: Make, tmp_path: Path) -> None:
    server = strategy(fake_server(tmp_path, "hangs"))
    server.deploy()
    with pytest.raises(DeadlineError, match=r"within 1\.5 seconds"):
        server.generate(QUICK)


def test_a_server_that_answers_nonsense(strategy: Make, tmp_path: Path) -> None:
    server = strategy(fake_server(tmp_path, "garbage"))
    server.deploy()
    with pytest.raises(FormatError, match="a JSON list, not an object"):
        server.generate(REQUEST)


def test_a_server_that_dies_is_started_again(strategy: Make, tmp_path: Path) -> None:
    server = strategy(fake_server(tmp_path, "dies"))
    server.deploy()
    with pytest.raises(UnavailableError, match="was ended by SIGKILL"):
        server.generate(REQUEST)
    server.deploy()
    short = GenerationRequest("Once upon a time", max_tokens=2)
    assert server.generate(short).text == " there was"


# Programs that are none --------------------------------------------------------------------------


def test_no_build_gives_the_steps_that_make_one(
    strategy: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    found = strategy(None).availability()
    assert not found.available
    assert "llama-server is not on the PATH" in found.reason
    assert found.steps[0].startswith("git clone")
    assert len(found.steps) == 4
    with pytest.raises(UnavailableError, match="--install"):
        strategy(None).set_up()


def test_a_program_that_is_not_there(strategy: Make, tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "no program at"), (tmp_path, "neither llama-server nor")):
        found = strategy(path).availability()
        assert not found.available
        assert words in found.reason
        assert found.steps == ()  # the user named another place


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("another program", "is it another program?"),
        ("crashes", "was ended by SIGILL"),
        ("version hangs", "did not end within"),
    ],
)
def test_a_program_that_does_not_run_here(
    strategy: Make, tmp_path: Path, mode: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "VERSION_SECONDS", 1.0 if mode == "version hangs" else 10.0)
    found = strategy(fake_server(tmp_path, mode)).availability()
    assert not found.available
    assert words in found.reason


def test_a_program_for_another_processor(strategy: Make, tmp_path: Path) -> None:
    for machine, words in ((243, "RISC-V"), (9999, "ELF machine 9999")):
        path = tmp_path / "llama-server"
        path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + machine.to_bytes(2, "little") + bytes(40))
        path.chmod(0o755)
        trial = strategy(path).test(REQUEST)
        assert not trial.success
        assert words in trial.reason


def test_a_program_that_may_not_be_executed(strategy: Make, tmp_path: Path) -> None:
    path = fake_server(tmp_path)
    path.chmod(0o644)
    assert "may not be executed" in strategy(path).availability().reason


# The script of bitnet.cpp ------------------------------------------------------------------------


@pytest.fixture
def script(strategy: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Strategy]:
    def make(mode: str) -> Strategy:
        monkeypatch.setenv("FAKE_MODE", mode)
        one = strategy(fake_checkout(tmp_path / "BitNet").parent)
        one.deploy()
        return one

    return make


def test_the_script_continues_a_text(script: Callable[[str], Strategy]) -> None:
    one = script("good")
    assert "bitnet.cpp 3947 (bitnet)" in one.availability().reason
    answer = one.generate(GenerationRequest("Once upon a time", max_tokens=3))
    assert answer.text == " w0 w1 w2"
    assert answer.finish_reason == "stop"
    with LLM() as llm:
        assert answer.generated_tokens == len(llm.tokenize(" w0 w1 w2"))
    assert answer.time_to_first_token_seconds is None


def test_the_script_answers_a_message(script: Callable[[str], Strategy]) -> None:
    begin = time.monotonic()
    answer = script("good").generate(GenerationRequest("Hello\nyou", max_tokens=8, chat=True))
    assert answer.text == "You said: Hello you"
    assert time.monotonic() - begin < 30  # it waits for the next message, and is not waited for


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("exits", UnavailableError, "status 1: error: unable to load model"),
        ("hangs", DeadlineError, r"within 1\.5 seconds"),
        ("garbage", FormatError, "did not print the prompt"),
        ("endless", FormatError, "talks without end"),
    ],
)
def test_a_script_that_does_not(
    script: Callable[[str], Strategy], mode: str, kind: type[Exception], words: str
) -> None:
    begin = time.monotonic()
    with pytest.raises(kind, match=words):
        script(mode).generate(QUICK if mode == "hangs" else REQUEST)
    assert time.monotonic() - begin < 40


# Benchmark and installation ----------------------------------------------------------------------


def test_a_benchmark_counts_what_was_generated(strategy: Make, tmp_path: Path) -> None:
    one = strategy(fake_server(tmp_path))
    assert isinstance(one, BitnetCppStrategy)
    result = one.benchmark(["Once", "A dog"], num_runs=3)
    assert (result.total, result.successful, result.success_rate) == (6, 6, 1.0)
    assert result.average_seconds is not None
    expected = 4 / result.average_seconds  # four tokens came, though 64 were asked for
    assert result.tokens_per_second == pytest.approx(expected)


def test_a_benchmark_counts_failures(strategy: Make, tmp_path: Path) -> None:
    one = strategy(fake_server(tmp_path, "garbage"))
    assert isinstance(one, BitnetCppStrategy)
    result = one.benchmark(["Once"], num_runs=2)
    assert (result.total, result.successful, result.average_seconds) == (2, 0, None)
    assert len(result.failures) == 1


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Programs `git`, `cmake` and the compilers that make what a build would."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:/usr/bin:/bin")
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))

    def make(name: str, text: str) -> None:
        executable(tmp_path / "tools" / name, text)

    for name in ("clang", "clang++"):
        make(name, "exit 0")
    made = fake_server(tmp_path / "made")
    generator = "open('include/bitnet-lut-kernels.h', 'w').close()"
    make(
        "git",
        'for to; do :; done; mkdir -p "$to/utils" "$to/include"; touch "$to/CMakeLists.txt"'
        f'; for t in tl1 tl2; do echo "{generator}" > "$to/utils/codegen_$t.py"; done',
    )
    make(
        "cmake",
        'if [ "$1" = -S ]; then mkdir -p "$4/bin"; touch "$4/CMakeCache.txt"; '
        f'else cp {made} "$2/bin/llama-server"; fi',
    )
    return make


def test_install_makes_a_build_and_uses_it(strategy: Make, tools: Callable[[str, str], None]) -> None:
    assert not strategy(None).availability().available
    found = strategy(None, install=True).availability()
    assert found.available
    assert "to be built in" in found.reason
    trial = strategy(None, install=True).test(REQUEST)
    assert trial.success, trial.reason
    assert strategy(None).availability().available


@pytest.mark.parametrize(
    ("name", "text", "kind", "words"),
    [
        (
            "git",
            "echo 'fatal: unable to access' >&2; exit 128",
            UnavailableError,
            "status 128: fatal: unable",
        ),
        ("git", "exit 0", UnavailableError, "as if all were well"),
        ("cmake", "sleep 1000", DeadlineError, "did not end within 1 seconds"),
    ],
)
def test_a_step_that_fails(
    strategy: Make,
    tools: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    kind: type[Exception],
    words: str,
) -> None:
    from tercet.deployment.bitnet_cpp import installation

    tools(name, text)
    monkeypatch.setattr(installation, "MOST_SECONDS", 1.0 if kind is DeadlineError else 60.0)
    with pytest.raises(kind, match=words):
        strategy(None, install=True).set_up()


def test_install_needs_its_tools(strategy: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    with pytest.raises(UnavailableError, match="git, cmake, clang, clang"):
        strategy(None, install=True).set_up()
