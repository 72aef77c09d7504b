"""Ray beside an amdsmi that does not load, as on every machine without AMD's library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOADS = """
import os, sys
from tercet.cluster.connection import ray_module

ray_module("ray._private.thirdparty.pyamdsmi")
print(sys.modules["amdsmi"], os.environ.get("PYTHONPATH", "").split(os.pathsep)[0])
"""


@pytest.mark.parametrize(
    ("package", "left_out"),
    [
        ("print('no library')\nraise KeyError('libamd_smi.so')", True),
        ("raise ImportError('no library')", False),
        ("AmdSmiInitFlags = AmdSmiMemoryType = AmdSmiLibraryException = 1", False),
    ],
    ids=["broken", "absent", "whole"],
)
def test_ray_is_imported_and_its_processes_will_be(package: str, left_out: bool, tmp_path: Path) -> None:
    (tmp_path / "amdsmi.py").write_text(package, encoding="utf-8")
    script = LOADS if package.startswith(("print", "Amd")) else LOADS.replace('sys.modules["amdsmi"]', "None")
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    module, first = done.stdout.rsplit(maxsplit=1)
    assert (first != str(tmp_path)) == left_out
    if left_out:
        assert module == "None"  # for every import from now on
        child = subprocess.run(  # as Ray starts its own
            [sys.executable, "-c", "import ray._private.thirdparty.pyamdsmi"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([first, str(tmp_path)])},
            check=False,
        )
        assert child.returncode == 0, child.stderr
