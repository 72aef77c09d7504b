"""Which build of bitnet.cpp or llama.cpp this machine has, and whether it runs here.

A build is looked for where the user says, then on the PATH, then where `--install` puts it. Of a folder
`llama-server` is taken, which loads the model once; `run_inference.py` where there is no server.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tercet.deployment.guarded_process import GuardedProcess, ending
from tercet.errors import UnavailableError

__all__ = ["Program", "find", "version"]

VERSION_SECONDS = 10.0
SUFFIX = ".exe" if os.name == "nt" else ""
SERVER, SCRIPT, SPEAKER = f"llama-server{SUFFIX}", "run_inference.py", f"llama-cli{SUFFIX}"
BUILD_FOLDERS = ("build/bin/Release", "build/bin", "bin", ".")

# ELF: e_machine, the two bytes at 18, in the order of bytes that byte 5 names.
ELF_MACHINES = {3: "x86", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}


@dataclass(frozen=True)
class Program:
    """What answers."""

    kind: Literal["server", "script"]
    path: Path
    """`llama-server` or `run_inference.py`."""
    family: Literal["bitnet.cpp", "llama.cpp"]

    @property
    def speaker(self) -> Path:
        """The compiled program: itself, or the one that the script runs."""
        if self.kind == "server":
            return self.path
        return _inside(self.path.parent, SPEAKER) or self.path.parent / "build" / "bin" / SPEAKER


def find(told: str | None, installed: Path) -> Program:
    """Return the build to use.

    Args:
        told: where the user says it is: a program, the script, or the folder of a build.
        installed: where `--install` puts one.

    Raises:
        UnavailableError: there is none; the message says where it was looked for.
    """
    if told is not None:
        path = Path(told).expanduser().absolute()
        if path.is_dir():
            found = _in_folder(path)
            missing = f"there is neither {SERVER} nor {SCRIPT} in {path}"
        else:
            found = _named(path) if path.is_file() else None
            missing = f"there is no program at {path}"
        if found is None:
            raise UnavailableError(f"{missing}. --program names one of them, or the folder of a build")
        return found
    on_path = shutil.which(SERVER)
    found = _named(Path(on_path)) if on_path is not None else _in_folder(installed)
    if found is None:
        raise UnavailableError(
            f"no build of bitnet.cpp or llama.cpp was found: {SERVER} is not on the PATH and nothing is in "
            f"{installed}. Name one with --program, or let --install make one"
        )
    return found


def version(program: Program) -> str:
    """Return what the compiled program says of its version, within ten seconds.

    Raises:
        UnavailableError: it does not run on this machine, or it is another program.
    """
    path = program.speaker
    if not path.is_file():
        raise UnavailableError(f"{program.path} runs {path}, which is not there: build it first")
    if not os.access(path, os.X_OK):
        raise UnavailableError(f"{path} may not be executed: chmod +x it, or take another build")
    with GuardedProcess([path, "--version"]) as process:
        status = process.wait(VERSION_SECONDS)
    if status is None:
        raise UnavailableError(f"{path} --version did not end within {VERSION_SECONDS:g} seconds")
    told = process.output.text() + process.errors.text()
    # Only now: what is made for another processor may run all the same, in an emulator or in 32 bits.
    if status != 0 and (other := _other_machine(path)) is not None:
        raise UnavailableError(
            f"{path} is a program for {other}, and this machine is {platform.machine()}: build it here"
        )
    if status != 0:
        last = process.errors.telling_line()
        raise UnavailableError(f"{path} --version {ending(status)}: {last}")
    if (match := re.search(r"version: (.+)", told)) is None:
        raise UnavailableError(f"{path} --version does not answer as {SERVER} does; is it another program?")
    return match[1].strip()


def _in_folder(folder: Path) -> Program | None:
    server = _inside(folder, SERVER)
    if server is not None:
        return _named(server)
    script = folder / SCRIPT
    return _named(script) if script.is_file() else None


def _inside(folder: Path, name: str) -> Path | None:
    paths = (folder / place / name for place in BUILD_FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def _named(path: Path) -> Program:
    if path.suffix == ".py":
        return Program("script", path, "bitnet.cpp")
    # bitnet.cpp's builds are in its checkout, where the script is: FOLDER/build/bin/llama-server.
    checkout = any((parent / SCRIPT).is_file() for parent in list(path.resolve().parents)[:4])
    return Program("server", path, "bitnet.cpp" if checkout else "llama.cpp")


def _other_machine(path: Path) -> str | None:
    """Return what machine an ELF file is for, if it is not for this one."""
    with path.open("rb") as file:
        head = file.read(20)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    with Path(sys.executable).resolve().open("rb") as file:
        own = file.read(20)
    if own[:4] != b"\x7fELF" or own[18:20] == head[18:20]:
        return None
    return ELF_MACHINES.get(machine, f"another kind of processor (ELF machine {machine})")
