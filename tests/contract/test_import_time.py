"""`import tercet` is quick, and neither it nor `tercet --help` loads what they do not need."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

MAX_MILLISECONDS = 150
# What a person who only asks for help should not wait for. NumPy is not heavy, but nothing there needs it.
HEAVY = {
    "accelerate",
    "cachetools",
    "fastapi",
    "huggingface_hub",
    "llguidance",
    "matplotlib",
    "minijinja",
    "numpy",
    "onnx",
    "onnxruntime",
    "prometheus_client",
    "redis",
    "safetensors",
    "starlette",
    "structlog",
    "tokenizers",
    "torch",
    "transformers",
    "uvicorn",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def imported(*arguments: str) -> dict[str, float]:
    """The modules that a program imports, each with the milliseconds that it and what it imports took."""
    lines = re.findall(
        r"import time:\s+\d+ \|\s+(\d+) \|\s+(\S+)", run("-X", "importtime", *arguments).stderr
    )
    return {name: int(microseconds) / 1000 for microseconds, name in lines}


def test_import_is_quick() -> None:
    """The best of five: the machine may be busy, and only the least disturbed run measures us."""
    milliseconds = min(imported("-c", "import tercet")["tercet"] for _ in range(5))
    assert milliseconds < MAX_MILLISECONDS


def test_import_loads_nothing_but_itself_and_the_standard_library() -> None:
    before, after = imported("-c", ""), imported("-c", "import tercet")
    loaded = {name for name in after if name.partition(".")[0] not in sys.stdlib_module_names} - set(before)
    assert loaded == {"tercet"}


@pytest.mark.parametrize("arguments", [(), ("run",), ("train",), ("serve",), ("batch",)])
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    modules = imported("-m", "tercet", *arguments, "--help")
    assert "tercet.cli" in modules
    assert not {name.partition(".")[0] for name in modules} & HEAVY
    assert "tercet._core" not in modules
