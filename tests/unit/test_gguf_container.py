"""The front of GGUF files: good ones are read, and bad ones refused, each for its reason.

The list of bad ones follows llama.cpp's tests/test-gguf.cpp and the advisories against its readers.
"""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf_files as g
from gguf_files import Tensor, array, container, scalar, string
from tercet.errors import FormatError, ModelNotFoundError, StorageError, UnsupportedFormatError
from tercet.formats.gguf.file import GgufFile
from tercet.formats.gguf.values import ValueType

F32 = Tensor("t", (4, 2), 0, np.arange(8, dtype="<f4").tobytes())


def opened(path: Path, data: bytes) -> GgufFile:
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return GgufFile(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.gguf"


SCALARS: list[tuple[int, Any]] = [
    (g.UINT8, 255), (g.INT8, -128), (g.UINT16, 65535), (g.INT16, -32768),
    (g.UINT32, 2**32 - 1), (g.INT32, -(2**31)), (g.UINT64, 2**64 - 1), (g.INT64, -(2**63)),
    (g.FLOAT32, 0.5), (g.FLOAT64, 1e300), (g.BOOL, True), (g.BOOL, False),
    (g.STRING, "grüße"), (g.STRING, ""),
]  # fmt: skip


@pytest.mark.parametrize("version", [2, 3])
def test_every_kind_of_value_is_read(path: Path, version: int) -> None:
    values = [(f"k{index}", kind, scalar(kind, value)) for index, (kind, value) in enumerate(SCALARS)]
    arrays = dict(SCALARS)  # of each kind the last
    values += [(f"a{kind}", g.ARRAY, array(kind, [value, value])) for kind, value in arrays.items()]
    values.append(
        ("nested", g.ARRAY, struct.pack("<IQ", g.ARRAY, 2) + array(g.STRING, ["x"]) + array(g.INT8, []))
    )
    file = opened(path, container(values, [F32], version=version))
    assert file.version == version
    for index, (kind, value) in enumerate(SCALARS):
        found = file.metadata[f"k{index}"]
        assert (found.type, found.value) == (ValueType(kind), value)
        assert type(found.value) is type(value)
    assert file.metadata["a8"].value == ("", "")
    assert file.metadata["a7"].value.tolist() == [False, False]
    assert file.metadata["a10"].value.tolist() == [2**64 - 1] * 2
    strings, empty = file.metadata["nested"].value
    assert strings.value == ("x",)
    assert empty.value.size == 0
    assert file.tensor("t").shape == (2, 4)
    assert np.array_equal(file.float32("t"), np.arange(8, dtype=np.float32).reshape(2, 4))
    assert np.array_equal(file.float32("t", slice(1, 2)), [[4, 5, 6, 7]])
    assert not file.tensor("t").data.flags.writeable


def test_a_file_may_hold_nothing(path: Path) -> None:
    file = opened(path, container())
    assert not file.metadata
    assert not file.tensors
    with pytest.raises(FormatError, match="holds no tensor 'x'"):
        file.tensor("x")


def test_alignment_is_the_files_own(path: Path) -> None:
    for alignment in (1, 8, 4096):
        values = [("general.alignment", g.UINT32, scalar(g.UINT32, alignment))]
        second = Tensor("u", (3,), 0, bytes(12))
        file = opened(
            path, container(values, [F32, second, Tensor("v", (), 0, bytes(4))], alignment=alignment)
        )
        assert list(file.tensors) == ["t", "u", "v"]
        assert file.tensor("v").shape == ()
        assert file.float32("v").shape == ()


def bad_files() -> dict[str, bytes]:
    """Files by what is wrong with them; each differs from a good one in that alone."""
    one = [("key", g.UINT32, scalar(g.UINT32, 1))]
    one_tensor = struct.pack("<4sIQQ", b"GGUF", 3, 1, 0)  # the front, up to where its only tensor is told
    huge = 2**63 - 1
    return {
        "magic": container(one, magic=b"FUGG"),
        "version 0": container(one, version=0),
        "version 1": container(one, version=1),
        "version 4": container(one, version=4),
        "big endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        "tensor count -1": container(one, num_tensors=2**64 - 1),
        "value count -1": container(one, num_values=2**64 - 1),
        "tensor count huge": container(one, num_tensors=2**40),
        "one value more than there is": container(one, num_values=2),
        "key length -1": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**64 - 1) + bytes(64),
        "key longer than the file": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 200) + bytes(64),
        "empty key": container([("", g.UINT32, scalar(g.UINT32, 1))]),
        "key with a control character": container([("a\x1b[2J", g.UINT32, scalar(g.UINT32, 1))]),
        "key that is not UTF-8": container([(b"\xff\xfe", g.UINT32, scalar(g.UINT32, 1))]),
        "duplicate key": container(one * 2),
        "value type 13": container([("key", 13, bytes(64))]),
        "value type -1": container([("key", 2**32 - 1, bytes(64))]),
        "string longer than the file": container([("key", g.STRING, struct.pack("<Q", huge))]),
        "string length wraps": container([("key", g.STRING, struct.pack("<Q", 2**64 - 8))]),
        "string that is not UTF-8": container([("key", g.STRING, string(b"\xed\xa0\x80"))]),
        "bool 2": container([("key", g.BOOL, b"\2")]),
        "array of bool 2": container([("key", g.ARRAY, struct.pack("<IQ", g.BOOL, 2) + b"\1\2")]),
        "array of type 13": container([("key", g.ARRAY, struct.pack("<IQ", 13, 1) + bytes(64))]),
        "array of numbers too long": container([("key", g.ARRAY, array(g.UINT8, [], huge))]),
        "array of wide numbers too long": container([("key", g.ARRAY, array(g.UINT64, [1, 2], 2**61 + 1))]),
        "array of strings too long": container([("key", g.ARRAY, array(g.STRING, ["a"], 2**60))]),
        "array of strings one too long": container([("key", g.ARRAY, array(g.STRING, ["a"], 2))]),
        "array of strings not UTF-8": container([("key", g.ARRAY, array(g.STRING, [b"\xc3"]))]),
        "array of arrays too long": container([("key", g.ARRAY, array(g.ARRAY, [], 2**60))]),
        "arrays nested too deep": container(
            [("key", g.ARRAY, struct.pack("<IQ", g.ARRAY, 1) * 8 + bytes(64))]
        ),
        "alignment 0": container([("general.alignment", g.UINT32, scalar(g.UINT32, 0))], [F32]),
        "alignment 13": container([("general.alignment", g.UINT32, scalar(g.UINT32, 13))], [F32]),
        "alignment 2^31": container([("general.alignment", g.UINT32, scalar(g.UINT32, 2**31))], [F32]),
        "alignment of the wrong type": container(
            [("general.alignment", g.UINT64, scalar(g.UINT64, 32))], [F32]
        ),
        "alignment that the file does not keep": container(
            [("general.alignment", g.UINT32, scalar(g.UINT32, 64))], [F32, Tensor("u", (1,), 0, bytes(4))]
        ),
        "name of 64 bytes": container(one, [Tensor("n" * 64, (1,), 0, bytes(4))]),
        "empty name": container(one, [Tensor("", (1,), 0, bytes(4))]),
        "name that is not UTF-8": container(one, [Tensor(b"\xff", (1,), 0, bytes(4))]),
        "name length -1": one_tensor + struct.pack("<Q", 2**64 - 1) + bytes(64),
        "duplicate name": container(one, [F32, F32]),
        "5 dimensions": container(one, [Tensor("t", (1,) * 5, 0, bytes(4))]),
        "2^32 - 1 dimensions": one_tensor + string("t") + struct.pack("<I", 2**32 - 1) + bytes(64),
        "zero dimension": container(one, [Tensor("t", (4, 0), 0, b"")]),
        "negative dimension": container(one, [Tensor("t", (2**64 - 1, 1), 0, bytes(4))]),
        "product overflows 64 bits to 0": container(one, [Tensor("t", (2**32, 2**32), 0, bytes(32))]),
        "product overflows to 4": container(one, [Tensor("t", (2**62, 2**2 + 2**3), 0, bytes(32))]),
        "bytes overflow": container(one, [Tensor("t", (2**62,), 0, bytes(32))]),
        "bytes wrap when padded": container(one, [Tensor("t", (4, 2**30 - 1, 2**30 + 1), 0, bytes(32))]),
        "sum of sizes overflows": container(
            one, [Tensor("t", (0x7FFFFFFFFFFFFFC0,), 24, b""), Tensor("u", (0x7FFFFFFFFFFFFFC0,), 24, b"")]
        ),
        "type 43": container(one, [Tensor("t", (32,), 43, bytes(32))]),
        "type -1": container(one, [Tensor("t", (32,), 2**32 - 1, bytes(32))]),
        "removed type 4": container(one, [Tensor("t", (32,), 4, bytes(32))]),
        "rows that are no whole blocks": container(one, [Tensor("t", (33,), 8, bytes(68))]),
        "offset not aligned": container(one, [F32, Tensor("u", (1,), 0, bytes(4), offset=33)]),
        "offset too small": container(one, [F32, Tensor("u", (1,), 0, bytes(4), offset=0)]),
        "offset too large": container(one, [F32, Tensor("u", (1,), 0, bytes(4), offset=64)]),
        "offset 2^64 - 32": container(one, [Tensor("t", (1,), 0, bytes(4), offset=2**64 - 32)]),
        "data one byte short": container(one, [F32])[:-1],
        "no data": container(one, [F32])[:-32],
        "data start beyond the end": container(one, [Tensor("t", (1,), 0, b"")])[:-20],
        "empty": b"",
        "three bytes": b"GGU",
    }  # fmt: skip


BAD_FILES = bad_files()


REASONS = {
    "magic": "the magic bytes is b'FUGG'",
    "version 0": "version 0, expected 2 or 3",
    "version 1": "version 1, expected 2 or 3",
    "version 4": "version 4, expected 2 or 3",
    "big endian": "for big-endian machines",
    "tensor count huge": "the number of tensors is 1099511627776, expected at most",
    "duplicate key": "a key not yet taken",
    "bool 2": "0 or 1",
    "alignment of the wrong type": "a uint32 that is a power of two",
    "name of 64 bytes": "1 to 63",
    "name length -1": "name of tensor 0 is 18446744073709551615",
    "2^32 - 1 dimensions": "dimensions",
    "zero dimension": "positive dimensions",
    "type 43": "type 43, which this release does not know",
    "rows that are no whole blocks": r"shape \[33\] does not fit its type Q8_0",
    "offset too large": "the offset of tensor u is 64, expected 32",
    "data one byte short": "truncated",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(path: Path, name: str) -> None:
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(FormatError, match=REASONS.get(name)) as caught:
            opened(path, BAD_FILES[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert peak < 1 << 20, "memory was taken for what the file only claims to have"
    assert time.perf_counter() - start < 5


def test_versions_and_byte_order_are_refused_as_unsupported(path: Path) -> None:
    for name in ("version 1", "version 4", "big endian", "type 43"):
        with pytest.raises(UnsupportedFormatError):
            opened(path, BAD_FILES[name])


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no file"):
        GgufFile(tmp_path / "absent.gguf")
    with pytest.raises((FormatError, StorageError)):
        GgufFile(tmp_path)
    assert not GgufFile.recognizes(tmp_path)
    assert not GgufFile.recognizes(tmp_path / "absent.gguf")
    (tmp_path / "y").write_bytes(b"GGUF and more")
    assert GgufFile.recognizes(tmp_path / "y")


def test_accessors_name_file_and_key(path: Path) -> None:
    values = [
        ("n", g.INT32, scalar(g.INT32, -1)),
        ("s", g.STRING, string("x" * 200)),
        ("f", g.FLOAT32, scalar(g.FLOAT32, float("nan"))),
        ("b", g.BOOL, b"\1"),
        ("same", g.ARRAY, array(g.UINT32, [4, 4])),
        ("mixed", g.ARRAY, array(g.UINT32, [4, 5])),
        ("wide", g.ARRAY, array(g.UINT64, [2**63])),
        ("big", g.ARRAY, array(g.FLOAT64, [1e300])),
        ("flags", g.ARRAY, array(g.BOOL, [True, False])),
    ]
    found = opened(path, container(values)).metadata
    assert found.integer("n", -1) == -1
    assert found.uniform_integer("same") == 4
    assert found.flag("b")
    assert found.flag("absent", default=False) is False
    for call, reason in [
        (lambda: found.integer("n"), "n is -1, expected a whole number from 0"),
        (lambda: found.integer("b"), "b is True"),
        (lambda: found.integer("absent"), "absent is None"),
        (lambda: found.number("f"), "f is nan, expected a finite number"),
        (lambda: found.number("s"), "a finite number"),
        (lambda: found.text("n"), "a string"),
        (lambda: found.flag("n"), "true or false"),
        (lambda: found.flag("absent"), "true or false"),
        (lambda: found.texts("s"), "an array of strings"),
        (lambda: found.integers("s"), "an array of whole numbers"),
        (lambda: found.integers("wide"), r"below 2\^63"),
        (lambda: found.numbers("big"), "an array of finite numbers"),
        (lambda: found.numbers("flags"), "an array of numbers"),
        (lambda: found.uniform_integer("mixed"), "equal for all layers"),
        (lambda: found.uniform_integer("f"), "a whole number"),
    ]:
        with pytest.raises(FormatError, match=reason) as caught:
            call()
        assert str(caught.value).startswith(f"{path}: ")
        assert len(str(caught.value)) < 400


def test_a_large_vocabulary_opens_quickly(path: Path) -> None:
    tokens = [f"token {index}" for index in range(100_000)]
    data = container([("tokenizer.ggml.tokens", g.ARRAY, array(g.STRING, tokens))])
    path.write_bytes(data)
    start = time.perf_counter()
    file = GgufFile(path)
    assert time.perf_counter() - start < 3  # measured: 0.03 s
    assert file.metadata.texts("tokenizer.ggml.tokens")[-1] == "token 99999"
