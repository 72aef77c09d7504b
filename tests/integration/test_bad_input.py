"""What the program does with what it cannot use: one clear line, exit status 2, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from program import assert_refused, tercet

PROMPT = "Once upon a time"


# Models --------------------------------------------------------------------------------------------


def test_unknown_name() -> None:
    assert_refused(tercet("run", PROMPT, "--model", "no-such-model"), "'no-such-model'", "known names")


def test_a_path_where_nothing_is(tmp_path: Path) -> None:
    assert_refused(tercet("run", PROMPT, "--model", "./none.tercet", folder=tmp_path), "none.tercet", "path")


@pytest.mark.parametrize(
    ("command", "kept_bytes"),
    [(("run", PROMPT, "--model"), 5), (("inspect",), 1000), (("chat", "--model"), -1)],
)
def test_truncated_files(
    tiny_model_file: Path, tmp_path: Path, command: tuple[str, ...], kept_bytes: int
) -> None:
    """Every length and every byte are tried in tests/property/test_native_file_bytes.py."""
    (tmp_path / "cut.tercet").write_bytes(tiny_model_file.read_bytes()[:kept_bytes])
    assert_refused(tercet(*command, tmp_path / "cut.tercet"), "cut.tercet")


def test_a_flipped_bit_is_found_and_named(tiny_model_file: Path, tmp_path: Path) -> None:
    content = bytearray(tiny_model_file.read_bytes())
    for place, part in ((100, "header"), (len(content) - 200, "damaged")):
        changed = bytearray(content)
        changed[place] ^= 0x10
        (tmp_path / "flipped.tercet").write_bytes(changed)
        assert_refused(tercet("run", PROMPT, "--model", tmp_path / "flipped.tercet"), "flipped.tercet", part)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("model.gguf", b"GGUF\x03\x00\x00\x00" + bytes(100), "GGUF"),
        ("model.pt", b"PK\x03\x04" + bytes(100), "zip"),
        ("model.pkl", b"\x80\x04\x95" + bytes(100), "pickle"),
        ("story.txt", b"Once upon a time", "not a model file"),
        ("model.safetensors", (2).to_bytes(8, "little") + b"{}" + bytes(8), "safetensors"),
        ("empty", b"", "empty"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert_refused(tercet("run", PROMPT, "--model", tmp_path / name), name, part)


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    assert_refused(tercet("run", PROMPT, "--model", tmp_path), "config.json")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert_refused(tercet("inspect", tmp_path), "gpt2")
    (tmp_path / "config.json").write_text("{")
    assert_refused(tercet("convert", tmp_path, tmp_path / "x.tercet"), "config.json")


def test_a_model_that_may_not_be_read(tiny_model_file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.tercet"
    secret.write_bytes(tiny_model_file.read_bytes())
    secret.chmod(0)
    try:
        secret.read_bytes()
    except PermissionError:
        assert_refused(tercet("run", PROMPT, "--model", secret), "secret.tercet", "permission")
    else:
        pytest.skip("this user may read every file (root)")


# Prompts -------------------------------------------------------------------------------------------


def test_a_prompt_longer_than_the_context(tiny_model_file: Path) -> None:
    done = tercet("run", "dog " * 100, "--model", tiny_model_file)
    assert_refused(done, "the prompt has ", "the context of 64 tokens")


@pytest.mark.parametrize("arguments", [("run",), ("run", "--chat")])
def test_arguments_that_are_not_utf8(tiny_model_file: Path, arguments: tuple[str, ...]) -> None:
    assert_refused(tercet(*arguments, b"caf\xe9", "--model", tiny_model_file), "surrogate")


def test_input_that_is_not_utf8(tiny_model_file: Path) -> None:
    assert_refused(
        tercet("run", "-", "--model", tiny_model_file, stdin=b"caf\xe9!"), "not UTF-8", "byte 3 is 0xe9"
    )
    done = tercet("chat", "--model", tiny_model_file, stdin=b"caf\xe9!\n")
    assert_refused(done, "not UTF-8", "byte 3 is 0xe9")


# Sampling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--temperature", "nan", "temperature"),
        ("--temperature", "-1", "temperature"),
        ("--top-p", "0", "top_p"),
        ("--top-p", "1.01", "top_p"),
        ("--max-tokens", "-5", "max_tokens"),
        ("--seed", "-1", "seed"),
        ("--stop", "", "stop"),
        ("--threads", "0", "threads"),
        ("--isa", "abacus", "abacus"),
    ],
)
def test_values_out_of_range(tiny_model_file: Path, option: str, value: str, part: str) -> None:
    assert_refused(tercet("run", PROMPT, "--model", tiny_model_file, option, value), part)


# Disks ---------------------------------------------------------------------------------------------


def full_after(num_bytes: int) -> str:
    """What to run first so that no file may grow beyond a size, which fails like a full disk."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes}, {num_bytes}))"


def test_a_disk_that_fills_up_while_converting(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.tercet").write_bytes(b"what was there before")
    arguments = ("convert", tiny_model_folder, "model.tercet", "--overwrite")
    done = tercet(*arguments, folder=tmp_path, first=full_after(20_000))
    assert done.status == 2, done
    assert done.err.splitlines()[-1].startswith("tercet: error: cannot write "), done
    assert "Traceback" not in done.err
    assert (tmp_path / "model.tercet").read_bytes() == b"what was there before"
    assert [path.name for path in tmp_path.iterdir()] == ["model.tercet"]


def test_a_disk_that_fills_up_while_saving_a_conversation(tiny_model_file: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "dog " * 10_000}, {"role": "assistant", "content": "yes"}]
    (tmp_path / "long.json").write_text(json.dumps({"messages": messages}))
    typed = b"/load long.json\n/save saved.json\n"
    done = tercet("chat", "--model", tiny_model_file, stdin=typed, folder=tmp_path, first=full_after(10_000))
    assert done.status == 2, done
    assert "cannot write saved.json" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["long.json"]


def test_places_that_cannot_be_written(tiny_model_folder: Path, tmp_path: Path) -> None:
    done = tercet("convert", tiny_model_folder, tmp_path / "none" / "model.tercet")
    assert done.status == 2, done
    assert "no such file or directory" in done.err.splitlines()[-1]
    assert_refused(tercet("convert", tiny_model_folder, tmp_path), "is a folder")


# Texts to measure ----------------------------------------------------------------------------------


def test_texts_that_cannot_be_read(tiny_model_file: Path, tmp_path: Path) -> None:
    model = ("--model", tiny_model_file)
    assert_refused(tercet("eval", "perplexity", tmp_path / "none.txt", *model), "there is no file")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    assert_refused(tercet("eval", "perplexity", tmp_path / "latin1.txt", *model), "not UTF-8")
    (tmp_path / "good.txt").write_text("A dog.")
    assert_refused(
        tercet("eval", "perplexity", tmp_path / "good.txt", *model, "--window", "1000"),
        "window must be",
        "64",
    )
