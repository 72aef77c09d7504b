"""A Debian for 64-bit ARM in a folder, whose programs an emulator runs: what a Raspberry Pi has, or Termux.

    root = make_root()                       # Debian's python3 with venv, from its own archive
    wheel = cross_built_wheel(root, folder)  # of this checkout, by the cross compiler
    run_in(root, "/opt/tercet/bin/tercet", "doctor")

It needs mmdebstrap, proot, qemu-user and g++-aarch64-linux-gnu, and neither root's rights nor a setting of
the machine: `proot` shows the folder as `/` and hands each program of it to the emulator, also those that
other programs start. The folder is kept in build/arm64.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from native_programs import AARCH64_COMPILER, AARCH64_EMULATOR, ROOT

FOLDER = ROOT / "build" / "arm64"
PACKAGES = "python3,python3-venv,libpython3-dev,ca-certificates"
RELEASES = {(3, 11): "bookworm", (3, 13): "trixie"}
"""Debian's release by its Python: a wheel is built with headers of the version that builds it."""

PROCESSOR = "cortex-a72"
"""That of a Raspberry Pi 4: no dot products."""

PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def make_root() -> Path:
    """The folder with the system; made at the first call, which downloads some 100 MB."""
    for program in ("mmdebstrap", "proot", AARCH64_EMULATOR[0], AARCH64_COMPILER):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    version = sys.version_info[:2]
    assert version in RELEASES, f"needs Python {RELEASES}, as Debian has"
    root = FOLDER / RELEASES[version]
    if not root.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = FOLDER / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        # Packages are taken out of their archives and not configured: nothing of what we run needs that.
        options = ["--variant=extract", "--architectures=arm64", f"--include={PACKAGES}"]
        _call(["mmdebstrap", *options, RELEASES[version], unfinished], os.environ)
        unfinished.rename(root)
    return root


def cross_built_wheel(root: Path, folder: Path) -> Path:
    """The wheel of this checkout for the system in a root, as pip builds it, by the cross compiler."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # The headers alone: the rest of the root's /usr/include is for the root's own compiler.
    headers = folder / "include"
    (headers / "aarch64-linux-gnu").mkdir(parents=True)
    for name in (python, f"aarch64-linux-gnu/{python}"):
        (headers / name).symlink_to(root / "usr" / "include" / name)
    # What a Python says of its platform is in this module; the building Python reads it in place of its own.
    data = root / "usr" / "lib" / python / "_sysconfigdata__aarch64-linux-gnu.py"
    shutil.copy(data, folder)
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # ninja is there
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
        "_PYTHON_SYSCONFIGDATA_NAME": data.stem,
        "PYTHONPATH": str(folder),
        "CPLUS_INCLUDE_PATH": str(headers),
    }
    settings = {
        "build-dir": FOLDER / "wheel",
        "cmake.args": f"--toolchain={ROOT}/cpp/toolchains/aarch64-linux-gnu.cmake",
        "cmake.define.Python_INCLUDE_DIR": headers / python,
    }
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    options = [f"--config-settings={name}={value}" for name, value in settings.items()]
    _call([*pip, *options, ROOT], environment)
    (wheel,) = folder.glob("tercet-*_aarch64.whl")
    return wheel


def download_wheels(requirements: list[str], folder: Path) -> None:
    """What pip would install on the processor; a package that has no wheel for it is an error."""
    platforms = [f"--platform={name}" for name in PLATFORMS]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", folder]
    _call([*pip, *platforms, *requirements], os.environ)


def run_in(
    root: Path, *command: str | Path, binds: Mapping[Path, str] | None = None, processor: str = PROCESSOR
) -> tuple[str, float]:
    """Run a program of the root; returns what it prints and the seconds it took. It must end well."""
    emulator = f"{AARCH64_EMULATOR[0]} -cpu {processor}"
    shown = [f"--bind={path}:{place}" for path, place in (binds or {}).items()]
    proot = ["proot", "-q", emulator, "-r", root, "--bind=/proc", "--bind=/dev", *shown, "-w", "/tmp"]
    # CI: generated inputs are the same each time and none is remembered, for which there is no place here.
    environment = {"HOME": "/tmp", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "CI": "true"}
    started = time.monotonic()
    printed = _call([*proot, *command], environment)
    return printed, time.monotonic() - started


def _call(command: list[str | Path], environment: Mapping[str, str]) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout[-5000:]}{done.stderr[-5000:]}"
    return done.stdout
