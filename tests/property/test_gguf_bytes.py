"""GGUF files of strangers: cut off anywhere, random behind the magic, and claims that must cost nothing.

Damage of every sort is in test_damaged_bytes.py.
"""

from __future__ import annotations

import contextlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damaged_gguf import damaged_gguf
from gguf_files import write_every_type
from tercet.errors import FormatError
from tercet.formats.gguf import GgufFile
from untrusted_weights import read_gguf_tensors

PADDING = -210 % 32
"""Behind the last tensor, a block of Q6_K; a file may end without it."""


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return write_every_type(tmp_path / "whole").read_bytes()


def written(path: Path, data: bytes) -> Path:
    path.unlink(missing_ok=True)  # the old one may still be mapped: never change it in place
    path.write_bytes(data)
    return path


def test_truncation_at_every_byte(tmp_path: Path, whole: bytes) -> None:
    for length in range(len(whole)):
        path = written(tmp_path / "truncated", whole[:length])
        if length < len(whole) - PADDING:
            with pytest.raises(FormatError):
                GgufFile(path)
        else:
            assert GgufFile(path).tensors


@given(data=st.binary(max_size=400))
@settings(max_examples=300)
def test_any_bytes_behind_the_magic(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(FormatError):
        GgufFile(written(tmp_path / "file", data))
    one_of_each = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
    with pytest.raises(FormatError):
        GgufFile(written(tmp_path / "file", one_of_each + data))


def test_memory_stays_in_proportion_to_the_file(tmp_path: Path, whole: bytes) -> None:
    """Decoding widens bits to floats; nothing else may grow. Claims about sizes cost nothing."""
    read_gguf_tensors(written(tmp_path / "file", whole))
    for seed in range(60):
        data = damaged_gguf(whole, np.random.default_rng(seed))
        path = written(tmp_path / "file", data)
        tracemalloc.start()
        with contextlib.suppress(FormatError):
            read_gguf_tensors(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (1 << 20) + 400 * len(data)
