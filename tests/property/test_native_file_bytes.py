"""Whatever bytes the native reader gets, it returns or raises `FormatError`; and no change goes unnoticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from small_files import write_small_file
from tercet.errors import FormatError
from tercet.formats.tercet import FilePlan, TensorPlan, TercetFile, create_file
from tercet.formats.tercet.layout import PREAMBLE_BYTES
from tercet.quantization import packings


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_small_file(tmp_path_factory.mktemp("whole") / "small.tercet").read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "mutated.tercet"


def refused(path: Path, data: bytes) -> bool:
    """Whether the reader refuses these bytes; anything but FormatError fails the test."""
    path.unlink(missing_ok=True)  # the old file may still be mapped: never change it in place
    path.write_bytes(data)
    try:
        file = TercetFile(path)
    except FormatError as error:
        return str(path) in str(error)
    for name in file.header.tensors:
        file.tensor(name)
    for name in file.header.blobs:
        file.blob(name)
    return False


def test_truncation_at_every_byte_is_refused(whole: bytes, scratch: Path) -> None:
    assert not refused(scratch, whole)
    assert all(refused(scratch, whole[:length]) for length in range(len(whole)))


def test_a_longer_file_is_refused(whole: bytes, scratch: Path) -> None:
    assert refused(scratch, whole + b"\0")
    assert refused(scratch, whole + bytes(64))


def test_a_flipped_bit_in_any_byte_is_refused(whole: bytes, scratch: Path) -> None:
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << (position % 8)
        assert refused(scratch, bytes(data)), f"a flip in byte {position} went unnoticed"


@st.composite
def mutations(draw: st.DrawFn, length: int) -> list[tuple[int, int, bytes]]:
    """Replacements of (start, stop) by other bytes, at most a handful."""
    edits = []
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, length))
        stop = start + draw(st.integers(0, 16))
        edits.append((start, stop, draw(st.binary(max_size=16))))
    return edits


@given(data=st.data())
@settings(max_examples=300)
def test_edited_files_are_refused_or_read(whole: bytes, scratch: Path, data: st.DataObject) -> None:
    edited = whole
    for start, stop, replacement in data.draw(mutations(len(whole))):
        edited = edited[:start] + replacement + edited[stop:]
    assert refused(scratch, edited) or edited == whole


@given(data=st.binary(max_size=400))
def test_any_bytes_behind_the_magic_are_refused(scratch: Path, data: bytes) -> None:
    assert refused(scratch, data)
    assert refused(scratch, b"TERCET\r\n\x01\0\0\0" + data)


@given(
    rows=st.integers(1, 70),
    depth=st.integers(1, 40),
    name=st.sampled_from(sorted(packings.PACKINGS)),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_any_shape_survives(scratch: Path, rows: int, depth: int, name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(-1, 2, (rows, depth)).astype(np.int8)
    scales = random.random(rows, dtype=np.float32)
    scratch.unlink(missing_ok=True)
    with create_file(scratch, FilePlan({}, [TensorPlan("t", name, rows, depth, "row")])) as writer:
        writer.write_tensor("t", [packings.packing(name).pack(codes)], scales)
    matrix = TercetFile(scratch).tensor("t")
    tensor = matrix.unpack()
    assert np.array_equal(tensor.codes, codes)
    assert np.array_equal(tensor.scales.reshape(-1), scales)
    assert scratch.stat().st_size >= PREAMBLE_BYTES
