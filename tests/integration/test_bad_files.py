"""What people and attackers put where a model should be: one clear error each, never a crash.

The unit tests know the fields of each format; here the doors that users come through meet whole files and
folders that are truncated, flipped, swapped, unreadable or hostile.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.errors import ChecksumError, FormatError, ModelNotFoundError, StorageError, TercetError
from tercet.llm import LLM
from tercet.models.loading import load_model
from tercet.models.saving import save_huggingface_folder
from tercet.tokenization import ChatTemplate
from tiny_models import TINY_CONFIG, random_masters


def used(path: Path) -> None:
    """Do with a model what running it does, up to the forward pass."""
    model = load_model(path)
    for name in model.weights:
        model.weights[name]
    if model.tokenizer_json is not None:
        tokenizer = model.tokenizer()
        tokenizer.decode(tokenizer.encode("Once upon a time <|user|> 🙂"))
        if model.chat_template is not None:
            ChatTemplate(model.chat_template, tokenizer).encode([{"role": "user", "content": "Hello"}])


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "error", "reason"),
    [
        (cut, FormatError, "should be .* bytes long and is"),
        (flipped, ChecksumError, "does not match its checksum"),
        (lambda data: data + b"\n", FormatError, "bytes long and is"),
        (lambda data: data.replace(b"\r\n", b"\n", 1), FormatError, "begins with"),
        (lambda data: b"", FormatError, "empty"),
        (lambda data: b"\0" * len(data), FormatError, "not a model file"),
        (
            lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            FormatError,
            "not a model file",
        ),
        (lambda data: b"<!DOCTYPE html><title>404</title>", FormatError, "not a model file"),
    ],
    ids=["truncated", "flipped", "longer", "text mode", "empty", "zeros", "pointer", "error page"],
)
def test_a_damaged_file(
    tiny_model_file: Path,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
    error: type[TercetError],
    reason: str,
) -> None:
    path = tmp_path / "model.tercet"
    path.write_bytes(damage(tiny_model_file.read_bytes()))
    with pytest.raises(error, match=reason) as caught:
        LLM(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreadable_file(tiny_model_file: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_model_file, tmp_path / "model.tercet"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        # root may read everything; a directory where a file should be cannot be read by anyone
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(FormatError, match="not a regular file"):
            load_model(path)
    else:
        with pytest.raises(StorageError, match="permission denied"):
            load_model(path)


def test_names_and_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no model 'no-such-model'"):
        LLM("no-such-model")
    with pytest.raises(ModelNotFoundError, match=r"holds no config\.json"):
        LLM(tmp_path)


def test_truncated_folders(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Every file of a folder, cut at several places and emptied."""
    for name in sorted(path.name for path in tiny_model_folder.iterdir()):
        data = (tiny_model_folder / name).read_bytes()
        for length in sorted({0, 1, 8, 60, len(data) // 3, len(data) // 2, len(data) - 2}):
            folder = tmp_path / f"{name}-{length}"
            shutil.copytree(tiny_model_folder, folder)
            (folder / name).write_bytes(data[:length])
            with pytest.raises(FormatError) as caught:
                used(folder)
            assert name in str(caught.value) or name == "tokenizer.json", caught.value


def test_missing_parts_of_a_folder(tiny_model_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        folder = tmp_path / name
        shutil.copytree(tiny_model_folder, folder)
        (folder / name).unlink()
        with pytest.raises(ModelNotFoundError, match=name):
            used(folder)
    for name in ("tokenizer_config.json", "generation_config.json"):
        folder = tmp_path / name
        shutil.copytree(tiny_model_folder, folder)
        (folder / name).unlink()
        used(folder)


def test_a_symbolic_link_is_followed(tiny_model_file: Path, tmp_path: Path) -> None:
    """The cache of huggingface_hub consists of links."""
    (tmp_path / "link.tercet").symlink_to(tiny_model_file)
    used(tmp_path / "link.tercet")
    (tmp_path / "dangling.tercet").symlink_to(tmp_path / "absent")
    with pytest.raises(ModelNotFoundError):
        used(tmp_path / "dangling.tercet")


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """A folder to be changed file by file; opening it is quick."""
    folder = tmp_path_factory.mktemp("bad") / "folder"
    shutil.copytree(tiny_model_folder, folder)
    return folder


FILES = [
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "model.safetensors",
]


@given(name=st.sampled_from(FILES), data=st.data())
@settings(max_examples=300)
def test_edited_folders_are_refused_or_used(
    small_folder: Path, tiny_model_folder: Path, name: str, data: st.DataObject
) -> None:
    whole = (tiny_model_folder / name).read_bytes()
    edited = whole
    # The interesting bytes of safetensors are those of its header.
    reach = min(len(whole), 3000) if name == "model.safetensors" else len(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, reach))
        stop = start + data.draw(st.integers(0, 8))
        replacement = data.draw(
            st.one_of(st.binary(max_size=8), st.sampled_from([b"-1", b"null", b"1e99", b'"', b"[]"]))
        )
        edited = edited[:start] + replacement + edited[stop:]
    path = small_folder / name
    path.unlink()  # the old file may still be mapped: never change it in place
    path.write_bytes(edited)
    try:
        used(small_folder)
    except TercetError as error:
        assert str(error)  # noqa: PT017 (most edits are refused, some are harmless)
    finally:
        path.unlink()
        path.write_bytes(whole)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(name=st.sampled_from(FILES[:3]), value=json_values, data=st.data())
@settings(max_examples=300)
def test_any_value_in_any_field_of_a_folder(
    small_folder: Path, tiny_model_folder: Path, name: str, value: object, data: st.DataObject
) -> None:
    whole = json.loads((tiny_model_folder / name).read_bytes())
    extra = ["rope_scaling", "head_dim", "quantization_config", "max_new_tokens", "do_sample", "top_k"]
    field = data.draw(st.sampled_from([*whole, *extra]))
    path = small_folder / name
    try:
        path.write_text(json.dumps({**whole, field: value}))
        used(small_folder)
    except TercetError as error:
        assert str(error)  # noqa: PT017
    finally:
        path.write_bytes((tiny_model_folder / name).read_bytes())


def test_weights_that_are_no_numbers_never_reach_the_decoder(tmp_path: Path) -> None:
    masters = dict(random_masters(TINY_CONFIG))
    masters["layers.1.ffn.down"][0, 0] = np.nan
    save_huggingface_folder(tmp_path / "nan", TINY_CONFIG, iter(masters.items()))
    with pytest.raises(
        FormatError, match=r"mlp\.down_proj\.weight: weights to quantize are finite, but \[0, 0\] is nan"
    ):
        LLM(tmp_path / "nan")
