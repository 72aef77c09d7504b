"""`tercet run`: text alone on stdout, figures on stderr, as a person and as a script would use it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import IO

import pytest

from program import assert_refused, command, environment, tercet
from tercet import LLM

PROMPT = "Once upon a time"
FIGURES = re.compile(
    r"prompt (\d+) tokens?, [\d.]+ tokens/s · generated (\d+) tokens?(, [\d.]+ tokens/s)? · "
    r"first token \d+ ms · peak memory [\d.]+ [MG]iB · seed (\d+)"
)


@pytest.fixture(scope="module")
def llm(tiny_model_file: Path) -> LLM:
    return LLM(tiny_model_file, threads=1)


def test_text_on_stdout_figures_on_stderr(tiny_model_file: Path, llm: LLM) -> None:
    done = tercet("run", PROMPT, "--model", tiny_model_file, "--max-tokens", "12", "--seed", "3")
    expected = llm.generate(PROMPT, max_tokens=12, seed=3)
    assert done.status == 0, done
    assert done.out == expected.text + "\n"
    figures = FIGURES.fullmatch(done.err.strip())
    assert figures, done
    assert int(figures[1]) == expected.prompt_tokens
    assert int(figures[2]) == expected.generated_tokens
    assert figures[4] == "3"


def test_every_option_reaches_the_sampler(tiny_model_file: Path) -> None:
    options = {
        "max_tokens": 5, "temperature": 1.25, "top_p": 0.8, "top_k": 40, "min_p": 0.01,
        "repetition_penalty": 1.1, "seed": 9,
    }  # fmt: skip
    arguments = [
        part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    done = tercet(
        "run", PROMPT, "--model", tiny_model_file, *arguments, "--stop", "xyz", "--stop", "END",
        "--threads", "1", "--isa", "reference", "--json",
    )  # fmt: skip
    assert done.status == 0, done
    assert done.data["metadata"]["sampling"].items() >= options.items()
    assert done.data["metadata"]["sampling"]["stop"] == ["xyz", "END"]
    assert done.err == ""


def test_json_gives_the_same_as_data(tiny_model_file: Path, llm: LLM) -> None:
    done = tercet("run", PROMPT, "--model", tiny_model_file, "--seed", "3", "-n", "12", "--json")
    expected = llm.generate(PROMPT, max_tokens=12, seed=3).to_dict()
    same = ("text", "token_ids", "finish_reason", "prompt_tokens", "generated_tokens", "cache_hit")
    assert {name: done.data[name] for name in same} == {name: expected[name] for name in same}
    assert set(done.data) == set(expected) | {"memory"}
    assert done.data["memory"]["peak_resident_bytes"] > 1 << 20


@pytest.mark.parametrize("stdin", [b"Once upon a time", b"Once upon a time\n", b"Once upon a time\r\n"])
def test_a_dash_reads_standard_input(tiny_model_file: Path, llm: LLM, stdin: bytes) -> None:
    done = tercet("run", "-", "--model", tiny_model_file, "--max-tokens", "5", "--seed", "3", stdin=stdin)
    assert done.out == llm.generate(PROMPT, max_tokens=5, seed=3).text + "\n", done


def test_words_need_no_quotes(tiny_model_file: Path, llm: LLM) -> None:
    quick = ("--max-tokens", "5", "--seed", "3")
    expected = llm.generate(PROMPT, max_tokens=5, seed=3).text + "\n"
    for words in (
        (*PROMPT.split(), "--model", tiny_model_file),
        (tiny_model_file, PROMPT),
        (tiny_model_file, *PROMPT.split()),
    ):
        assert tercet("run", *words, *quick).out == expected, words
    done = tercet("run", tiny_model_file, "-", *quick, stdin=PROMPT.encode())
    assert done.out == expected, done
    named = tercet("run", "llama-tercet-tiny", "--model", tiny_model_file, *quick)
    assert named.out == llm.generate("llama-tercet-tiny", max_tokens=5, seed=3).text + "\n"


def test_a_model_where_the_prompt_should_be(tmp_path: Path) -> None:
    assert_refused(tercet("run", "llama-tercet-tiny"), "is a model and there is no prompt", "tercet chat")
    assert_refused(tercet("run", "missing.gguf", "Hello"), "missing.gguf", "no file or folder")
    hub = tercet("run", "microsoft/bitnet-b1.58-2B-4T", "Hello", TERCET_CACHE=str(tmp_path))
    assert_refused(hub, "tercet pull microsoft/bitnet-b1.58-2B-4T", "quote the whole prompt")


def test_an_empty_prompt_begins_from_nothing(tiny_model_file: Path, llm: LLM) -> None:
    done = tercet("run", "", "--model", tiny_model_file, "--max-tokens", "5", "--seed", "3")
    assert done.out == llm.generate("", max_tokens=5, seed=3).text + "\n", done


def test_chat_uses_the_template(tiny_model_file: Path, llm: LLM) -> None:
    done = tercet("run", "Hello", "--chat", "--model", tiny_model_file, "--max-tokens", "5", "--seed", "3")
    expected = llm.chat([{"role": "user", "content": "Hello"}], max_tokens=5, seed=3)
    assert done.out == expected.text + "\n", done


def with_stdout(stdout: int | IO[bytes], model: Path) -> subprocess.CompletedProcess[bytes]:
    arguments = command("run", PROMPT, "--model", model)
    return subprocess.run(arguments, stdout=stdout, stderr=subprocess.PIPE, env=environment(), check=False)


def test_a_reader_that_leaves_is_no_error(tiny_model_file: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        command("run", PROMPT, "--model", tiny_model_file),
        stdout=write_end,
        stderr=subprocess.PIPE,
        env=environment(),
        check=False,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_full_disk_behind_stdout_is_an_error(tiny_model_file: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("run", PROMPT, "--model", tiny_model_file),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.decode().startswith("tercet: error: cannot write to standard output: ")
    assert len(done.stderr.splitlines()) == 1


def test_interrupt_keeps_what_was_generated(slow_model: Path) -> None:
    process = subprocess.Popen(
        command("run", PROMPT, "--model", slow_model, "-t", "0", "--threads", "1", "--max-tokens", "100000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED="1"),
    )
    assert process.stdout is not None
    first = process.stdout.read(1)
    assert first
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert (first + out).decode().endswith("\n")
    figures = FIGURES.fullmatch(err.decode().strip())
    assert figures, err.decode()
    assert int(figures[2]) > 0


def test_the_shipped_model_is_the_default(shipped_model: Path) -> None:
    done = tercet("run", PROMPT, "--max-tokens", "30", "--temperature", "0", "--json")
    assert done.status == 0, done
    with LLM("llama-tercet-tiny") as llm:
        assert llm.path == shipped_model
        expected = llm.generate(PROMPT, max_tokens=30, temperature=0)
        answer = llm.chat(
            [{"role": "user", "content": "Tell a very short story for a small child."}],
            max_tokens=30,
            temperature=0,
        )
    assert done.data["text"] == expected.text
    for text in (expected.text, answer.text):  # words, not noise
        assert len(re.findall(r"\b[a-z]{2,}\b", text)) > 5, text
