"""Limits of containers, on trees made by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tercet.engine.control_groups import cpu_limit, memory_limit
from tercet.engine.memory import total_memory_bytes
from tercet.engine.processors import available_cores

# What /proc/self/cgroup says: a service of version 2, a container of version 1, a mixture.
V2 = "0::/system.slice/tercet.service\n"
V1 = "12:cpu,cpuacct:/docker/ab12\n4:memory:/docker/ab12\n1:name=systemd:/docker/ab12\n"
MIXED = "3:memory:/jobs/7\n0::/jobs/7\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    return tmp_path / "proc"


def write(root: Path, files: dict[str, str]) -> Path:
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("named", "files", "expected"),
    [
        ("", {}, None),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),  # a container sees its own group as the root
        (V2, {"system.slice/tercet.service/cpu.max": "50000 100000"}, 0.5),
        (
            V2,
            {"system.slice/cpu.max": "200000 100000", "system.slice/tercet.service/cpu.max": "max 100000"},
            2.0,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3.0),
        (
            V1,
            {
                "cpu,cpuacct/docker/ab12/cpu.cfs_quota_us": "25000",
                "cpu,cpuacct/docker/ab12/cpu.cfs_period_us": "50000",
            },
            0.5,
        ),
        (V2, {"cpu.max": "nonsense"}, None),
        ("a line that means nothing\n", {"cpu.max": "0 0"}, None),
    ],
)
def test_processor_time(
    proc: Path, tmp_path: Path, named: str, files: dict[str, str], expected: float | None
) -> None:
    (proc / "self" / "cgroup").write_text(named)
    assert cpu_limit(proc, write(tmp_path / "cgroup", files)) == expected


@pytest.mark.parametrize(
    ("named", "files", "expected"),
    [
        ("", {}, None),
        ("0::/\n", {"memory.max": "max"}, None),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        (V2, {"system.slice/memory.max": "4000", "system.slice/tercet.service/memory.max": "3000"}, 3000),
        (V2, {"system.slice/memory.max": "2000", "system.slice/tercet.service/memory.max": "3000"}, 2000),
        (V1, {"memory/docker/ab12/memory.limit_in_bytes": "5000"}, 5000),
        (MIXED, {"memory/jobs/7/memory.limit_in_bytes": "6000", "unified/jobs/7/memory.max": "max"}, 6000),
    ],
)
def test_memory(proc: Path, tmp_path: Path, named: str, files: dict[str, str], expected: int | None) -> None:
    (proc / "self" / "cgroup").write_text(named)
    (proc / "meminfo").write_text("MemTotal:  100 kB\n")
    cgroup = write(tmp_path / "cgroup", files)
    assert memory_limit(proc, cgroup) == expected
    assert total_memory_bytes(proc, cgroup) == (expected or 100 * 1024)


@pytest.mark.parametrize(("quota", "cores"), [("max", 4), ("800000", 4), ("150000", 2), ("10000", 1)])
def test_threads_follow_the_processor_time(
    proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    cgroup = write(tmp_path / "cgroup", {"cpu.max": f"{quota} 100000"})
    assert available_cores(tmp_path / "absent", proc, cgroup) == cores
