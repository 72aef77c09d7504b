"""The steps that make a build of bitnet.cpp: shown, or run one after the other with a time limit for each.

They are those of its own instructions, without Python packages and models: those we convert ourselves. A step
that was done is not done again, so an installation that was broken off goes on where it was.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tercet.deployment.guarded_process import GuardedProcess, ending
from tercet.engine.processors import available_cores
from tercet.environment import cache_directory, storage_errors
from tercet.errors import DeadlineError, UnavailableError

__all__ = ["install", "installation_folder", "shown_steps"]

SOURCE = "https://github.com/microsoft/BitNet.git"
MOST_SECONDS = 3600.0
"""No step may take longer."""
NEEDS = ("git", "cmake", "clang", "clang++")


@dataclass(frozen=True)
class Step:
    """One command."""

    command: tuple[str, ...]
    result: Path
    """What is there when it has been done."""
    seconds: float
    folder: Path | None = None
    """Where it runs; None: anywhere."""

    def __str__(self) -> str:
        line = shlex.join(self.command)
        return line if self.folder is None else f"cd {shlex.quote(str(self.folder))} && {line}"


def installation_folder() -> Path:
    """Return where a build is put, in the cache."""
    return cache_directory() / "deployment" / "bitnet.cpp"


def shown_steps(folder: Path) -> tuple[str, ...]:
    """Return the commands that are still to be run, for a shell."""
    return tuple(str(step) for step in _steps(folder) if not step.result.exists())


def install(folder: Path) -> None:
    """Make a build in a folder.

    Raises:
        UnavailableError: a program that it takes is missing, or a step fails.
        DeadlineError: a step does not end in its time.
        StorageError: the folder cannot be made.
    """
    missing = [name for name in NEEDS if shutil.which(name) is None]
    if missing:
        raise UnavailableError(
            f"bitnet.cpp is built with {', '.join(NEEDS)}, and {', '.join(missing)} is not on the PATH. "
            "Install it with the package manager of this machine."
        )
    with storage_errors(folder, opening=True):
        folder.parent.mkdir(parents=True, exist_ok=True)
    for step in _steps(folder):
        if not step.result.exists():
            _run(step)


def _run(step: Step) -> None:
    # Nobody is there to answer questions, as for a password.
    with GuardedProcess(step.command, step.folder, {"GIT_TERMINAL_PROMPT": "0"}) as process:
        seconds = min(step.seconds, MOST_SECONDS)
        status = process.wait(seconds)
    if status is None:
        raise DeadlineError(
            f"{step} did not end within {seconds:g} seconds. Run it yourself, with more time."
        )
    if status != 0:
        raise UnavailableError(f"{step} {ending(status)}: {process.errors.telling_line('error', 'fatal')}")
    if not step.result.exists():
        raise UnavailableError(f"{step} ended as if all were well, but {step.result} is not there")


def _steps(folder: Path) -> tuple[Step, ...]:
    arm = platform.machine().lower() in ("aarch64", "arm64")
    table = "tl1" if arm else "tl2"
    blocks = ("64,128,64", "32,64,32") if arm else ("96,96,96", "32,32,32")
    build, checkout = folder / "build", str(folder)
    suffix = ".exe" if os.name == "nt" else ""
    compilers = ("-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++")
    return (
        # `git clone` removes what it has made where it fails or is ended.
        Step(
            ("git", "clone", "--depth", "1", "--recursive", SOURCE, checkout), folder / "CMakeLists.txt", 900
        ),
        Step(
            # Of the lookup tables, which the build includes even where it does not use them.
            (
                *(sys.executable, f"utils/codegen_{table}.py", "--model", "bitnet_b1_58-3B"),
                *("--BM", "160,320,320", "--BK", blocks[0], "--bm", blocks[1]),
            ),
            folder / "include" / "bitnet-lut-kernels.h",
            60,
            folder,
        ),
        Step(
            (
                *("cmake", "-S", checkout, "-B", str(build), "-DCMAKE_BUILD_TYPE=Release", *compilers),
                *(f"-DBITNET_{'ARM_TL1' if arm else 'X86_TL2'}=OFF", "-DLLAMA_BUILD_SERVER=ON"),
            ),
            build / "CMakeCache.txt",
            300,
        ),
        Step(
            (
                *(
                    "cmake",
                    "--build",
                    str(build),
                    "--config",
                    "Release",
                    "--parallel",
                    str(available_cores()),
                ),
                *("--target", "llama-server", "llama-cli"),
            ),
            build / "bin" / f"llama-server{suffix}",
            3600,
        ),
    )
