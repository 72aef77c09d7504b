"""safetensors: the same tensors as the library reads and writes, and at least its strictness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tercet.errors import FormatError, ModelNotFoundError, ParameterError, UnsupportedFormatError
from tercet.formats.safetensors import SafetensorsFile, SafetensorsFolder, write_safetensors

SHAPES = {"b": (3, 5), "a": (7,), "scalar": ()}


def values() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {name: np.asarray(random.standard_normal(shape, np.float32)) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("float_type", ["f32", "f16", "bf16"])
def test_what_we_write_the_library_reads(tmp_path: Path, float_type: str) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, SHAPES, values().items(), float_type, {"format": "pt"})
    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[float_type]
    theirs, ours = load_file(path), SafetensorsFile(path)
    assert set(theirs) == set(ours.tensors) == set(SHAPES)
    assert ours.metadata == {"format": "pt"}
    for name, value in values().items():
        assert theirs[name].dtype == dtype
        expected = torch.tensor(value).to(dtype)
        assert torch.equal(theirs[name], expected)
        assert np.array_equal(ours.tensors[name].float32(), expected.float().numpy())
    assert int.from_bytes(path.read_bytes()[:8], "little") % 64 == 56, "the data begin on a cache line"
    assert np.array_equal(ours.tensors["b"].float32(slice(1, 3)), ours.tensors["b"].float32()[1:3])


def test_what_the_library_writes_we_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = values() | {"bytes": np.arange(6, dtype=np.uint8), "ints": np.arange(3)}
    safetensors.numpy.save_file(tensors, path)
    file = SafetensorsFile(path)
    assert {name: tensor.shape for name, tensor in file.tensors.items()} == {
        n: t.shape for n, t in tensors.items()
    }
    for name in SHAPES:
        assert np.array_equal(file.tensors[name].float32(), tensors[name])
    assert file.tensors["bytes"].data.tobytes() == bytes(range(6))
    assert not file.tensors["a"].elements().flags.writeable
    with pytest.raises(UnsupportedFormatError, match="bytes is of type U8"):
        file.tensors["bytes"].float32()


def test_the_writer_holds_to_its_shapes(tmp_path: Path) -> None:
    path, tensors = tmp_path / "model.safetensors", list(values().items())
    for wrong, reason in [
        (tensors[:-1], "1 tensors were not written, scalar first"),
        ([*tensors, tensors[0]], "no further tensor"),
        (tensors[::-1], "scalar"),
        ([("b", np.zeros((5, 3), np.float32))], r"b \[5, 3\] came where b \[3, 5\]"),
    ]:
        with pytest.raises(ParameterError, match=reason):
            write_safetensors(path, SHAPES, wrong, "f32")
    with pytest.raises(ParameterError, match="f64"):
        write_safetensors(path, SHAPES, tensors, "f64")
    assert not list(tmp_path.iterdir())


def with_header(change: Callable[[dict[str, Any]], None], data: bytes = bytes(24)) -> bytes:
    header: dict[str, Any] = {
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "F16", "shape": [4], "data_offsets": [16, 24]},
    }
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x02\0\0", "length of the header"),
        ((2**63).to_bytes(8, "little") + b"{}", "length of the header"),
        ((3).to_bytes(8, "little") + b"{}", "length of the header"),
        ((200_000_000).to_bytes(8, "little") + b"{}", "length of the header"),
        ((2).to_bytes(8, "little") + b"[]", "first byte"),
        (with_header(lambda h: h["a"].update(dtype="F33")), "header.a.dtype"),
        (with_header(lambda h: h["a"].update(shape=[2, 3])), "header.a.data_offsets"),
        (with_header(lambda h: h["a"].update(shape=[-2, -2])), "header.a.shape"),
        (with_header(lambda h: h["a"].update(shape=[2**62, 2**62])), "header.a.data_offsets"),
        (with_header(lambda h: h["a"].update(data_offsets=[16, 0])), "header.a.data_offsets"),
        (with_header(lambda h: h["a"].update(data_offsets=[0, 16, 3])), "header.a.data_offsets"),
        (with_header(lambda h: h["a"].update(data_offsets=[8, 24])), "offset of tensor"),
        (with_header(lambda h: h["b"].update(data_offsets=[8, 16])), "offset of tensor b"),
        (with_header(lambda h: h.pop("a")), "offset of tensor b"),
        (with_header(lambda h: h.pop("b")), "tensors end at"),
        (with_header(lambda h: None, bytes(23)), "tensors end at"),
        (with_header(lambda h: None, bytes(25)), "tensors end at"),
        (with_header(lambda h: h.update(__metadata__={"a": 1})), "__metadata__"),
        (with_header(lambda h: h.update(c=3)), "header.c"),
    ],
)
def test_malformed_files_are_refused_as_the_library_does(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=reason) as caught:
        SafetensorsFile(path)
    assert str(path) in str(caught.value)
    with pytest.raises((SafetensorError, OSError)):
        load_file(path)


def sharded(folder: Path, weight_map: dict[str, object]) -> Path:
    folder.mkdir()
    for name, value in values().items():
        write_safetensors(folder / f"{name}.safetensors", {name: value.shape}, [(name, value)], "f32")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    return folder


def test_shards_are_one_model(tmp_path: Path) -> None:
    folder = SafetensorsFolder(sharded(tmp_path / "f", {name: f"{name}.safetensors" for name in SHAPES}))
    assert len(folder.files) == 3
    for name, value in values().items():
        assert np.array_equal(folder.tensors[name].float32(), value)


@pytest.mark.parametrize(
    ("shard", "error"),
    [
        ("../f/a.safetensors", FormatError),
        ("/etc/passwd", FormatError),
        ("..\\a.safetensors", FormatError),
        ("a\0.safetensors", FormatError),
        ("a" * 250 + ".safetensors", FormatError),
        ("pytorch_model.bin", FormatError),
        ("b.safetensors", FormatError),
        ("absent.safetensors", ModelNotFoundError),
        (5, FormatError),
    ],
)
def test_an_index_stays_in_its_folder(tmp_path: Path, shard: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        SafetensorsFolder(sharded(tmp_path / "f", {"a": shard}))


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(
        ModelNotFoundError, match=r"neither model.safetensors nor .*pytorch_model.*unpickling runs code"
    ):
        SafetensorsFolder(tmp_path)
