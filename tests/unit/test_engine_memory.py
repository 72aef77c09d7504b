"""Memory as the operating system counts it, on a process table made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.engine import memory
from tercet.engine.memory import MemoryUsage, measure_memory, peak_resident_bytes, total_memory_bytes
from tercet.engine.processors import available_cores

SMAPS = """\
7f0000000000-7f0000100000 r--s 00000000 08:01 42                         {model}
Size:               1024 kB
Rss:                 512 kB
Pss:                 512 kB
7f0000100000-7f0000200000 r--s 00100000 08:01 42                         {model}
Size:                100 kB
Rss:                   4 kB
7f0000200000-7f0000300000 r--s 00000000 08:01 43                         {model}-other
Size:               4096 kB
Rss:                4096 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0
Size:                132 kB
Rss:                  16 kB
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    process = tmp_path / "proc" / "self"
    process.mkdir(parents=True)
    (tmp_path / "model file").write_bytes(b"x")
    (process / "smaps").write_text(SMAPS.format(model=tmp_path / "model file"))
    (process / "smaps_rollup").write_text("0-1 ---p 00000000 00:00 0  [rollup]\nRss:   9000 kB\nPss: 1 kB\n")
    (process / "status").write_text("VmHWM:\t   10000 kB\nVmRSS:\t    8999 kB\n")
    (process.parent / "meminfo").write_text("MemTotal:       16000000 kB\n")
    return process.parent


def test_what_linux_tells(proc: Path, tmp_path: Path) -> None:
    assert measure_memory(tmp_path / "model file", 77, proc) == MemoryUsage(
        resident_bytes=9000 * 1024,
        peak_resident_bytes=10000 * 1024,
        mapped_bytes=1124 * 1024,
        mapped_resident_bytes=516 * 1024,
        kv_cache_bytes=77,
        gpu_bytes=0,
    )


def test_a_folder_counts_its_files(proc: Path, tmp_path: Path) -> None:
    smaps = (proc / "self" / "smaps").read_text()
    (proc / "self" / "smaps").write_text(smaps.replace("model file-other", "folder/model.safetensors"))
    assert measure_memory(tmp_path / "folder", 0, proc).mapped_bytes == 4096 * 1024


def test_where_there_is_no_process_table_the_mapping_is_unknown(tmp_path: Path) -> None:
    usage = measure_memory(tmp_path, 0, tmp_path / "absent")
    assert usage.mapped_bytes is None
    assert usage.peak_resident_bytes is not None  # getrusage
    assert usage.peak_resident_bytes > 1 << 20


def test_what_cannot_be_measured_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no ps
    assert measure_memory(tmp_path, 0, tmp_path / "absent").resident_bytes is None


def test_this_process(tmp_path: Path) -> None:
    usage = measure_memory(tmp_path, 0)
    assert usage.resident_bytes is not None
    assert 1 << 20 < usage.resident_bytes <= (peak_resident_bytes() or 0)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16_000_000 * 1024),
        ({"memory.max": "max\n"}, 16_000_000 * 1024),
        ({"memory.max": "1000\n"}, 1000),
        ({"memory/memory.limit_in_bytes": "2000\n"}, 2000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 16_000_000 * 1024),
    ],
)
def test_the_control_group_limits_the_memory(
    proc: Path, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    for name, content in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(content)
    assert total_memory_bytes(proc, tmp_path / "cgroup") == expected


def test_hardware_threads_of_a_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.os, "sched_getaffinity", lambda process: {0, 1, 2, 5}, raising=False)
    for cpu, siblings in {0: "0,4", 1: "1,5", 5: "1,5"}.items():
        folder = tmp_path / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    nothing = tmp_path / "absent"
    assert (
        available_cores(tmp_path, nothing, nothing) == 3
    )  # the last one tells nothing: it counts for itself
