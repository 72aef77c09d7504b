"""Weights mapped or copied onto huge pages: the same bytes, and what `auto` takes where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tercet.errors import ParameterError, StorageError
from tercet.formats.mapped_file import MappedFile
from tercet.formats.weights_memory import (
    HUGE_FROM_BYTES,
    PIECE_BYTES,
    available_memory_bytes,
    chosen_memory,
    read_into_memory,
)
from tercet.models.loading import load_model
from tercet.models.registry import resolve

GIB = 1 << 30


def machine(root: Path, free: int, huge: str = "always [madvise] never") -> Path:
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {free // 1024} kB\n")
    pages = root / "sys/kernel/mm/transparent_hugepage"
    pages.mkdir(parents=True)
    (pages / "enabled").write_text(huge + "\n")
    return root


def test_auto_copies_a_large_file_where_there_is_room(tmp_path: Path) -> None:
    root = machine(tmp_path, 3 * GIB)
    assert chosen_memory("auto", GIB, root) == "huge"
    assert chosen_memory("auto", 2 * GIB, root) == "mapped"
    assert chosen_memory("auto", HUGE_FROM_BYTES - 1, root) == "mapped"
    assert chosen_memory("huge", 1, root) == "huge"
    assert chosen_memory("mapped", GIB, root) == "mapped"


def test_auto_maps_where_there_are_no_huge_pages(tmp_path: Path) -> None:
    assert chosen_memory("auto", GIB, machine(tmp_path, 9 * GIB, "always madvise [never]")) == "mapped"
    assert chosen_memory("auto", GIB, tmp_path / "nowhere") == "mapped"


@pytest.mark.parametrize(
    ("limit", "usage"),
    [
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ],
    ids=["cgroup 2", "cgroup 1"],
)
def test_the_limit_of_a_container_counts(tmp_path: Path, limit: str, usage: str) -> None:
    root = machine(tmp_path, 9 * GIB)
    for name, value in ((limit, 2 * GIB), (usage, GIB)):
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    assert available_memory_bytes(root) == GIB
    assert chosen_memory("auto", GIB, root) == "mapped"


def test_no_limit_is_the_machine_s_free_memory(tmp_path: Path) -> None:
    root = machine(tmp_path, 9 * GIB)
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/memory.max").write_text("max\n")
    (root / "sys/fs/cgroup/memory.current").write_text("5\n")
    assert available_memory_bytes(root) == 9 * GIB


@pytest.mark.parametrize("num_bytes", [1, 4096, PIECE_BYTES + 5])
def test_the_copy_has_the_bytes_of_the_file(tmp_path: Path, num_bytes: int) -> None:
    content = np.random.default_rng(1).integers(0, 256, num_bytes, dtype=np.uint8)
    content.tofile(tmp_path / "file")
    file = MappedFile(tmp_path / "file", "huge")
    assert file.memory == "huge"
    view = file.view(0, num_bytes, "all")
    np.testing.assert_array_equal(view, content)
    assert not view.flags.writeable
    file.release()  # gives back nothing that is needed
    np.testing.assert_array_equal(view, content)


def test_a_file_that_became_shorter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(StorageError, match="has become shorter"):
        read_into_memory(tmp_path / "file", 6)


def test_a_model_gives_the_same_weights_from_either_memory() -> None:
    path = resolve(None)
    mapped, copied = load_model(path), load_model(path, weights_memory="huge")
    assert (mapped.weights_memory, copied.weights_memory) == ("mapped", "huge")
    for name in ("embedding", "layers.0.attention.q"):
        np.testing.assert_array_equal(mapped.weights[name].data, copied.weights[name].data)


def test_an_unknown_memory_is_refused() -> None:
    with pytest.raises(ParameterError, match="weights_memory must be one of mapped, huge, auto, not 'big'"):
        load_model(resolve(None), weights_memory="big")
