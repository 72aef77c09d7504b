"""Builds of llama.cpp and bitnet.cpp in a folder, made of programs that are none."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

PLUGINS = Path(__file__).parent


def executable(path: Path, text: str) -> Path:
    """Write a program for the shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake_server(folder: Path, mode: str = "good") -> Path:
    """A `llama-server` of this mode (see fake_llama_server.py)."""
    words = [sys.executable, "-I", "-S", str(PLUGINS / "fake_llama_server.py"), mode]
    return executable(folder / "llama-server", f'exec {shlex.join(words)} "$@"')


def fake_checkout(folder: Path) -> Path:
    """A checkout of bitnet.cpp with a `llama-cli` and the script, and no server."""
    executable(folder / "build" / "bin" / "llama-cli", "echo 'version: 3947 (bitnet)' >&2")
    script = folder / "run_inference.py"
    script.write_text((PLUGINS / "fake_run_inference.py").read_text())
    return script


def alive(pid: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
