"""What `pip install` gives: a wheel with all that is needed and nothing else, usable outside the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_WHEEL_BYTES = 25_000_000
HEAVY = {"torch", "transformers", "matplotlib", "accelerate", "fastapi", "pandas", "scipy", "huggingface_hub"}
# The same as in ./dev: a build with other options would compile the core once more.
OPTIONS = (
    ["--config-settings=cmake.define.TERCET_WARNINGS_AS_ERRORS=ON"] if os.environ.get("CI") == "true" else []
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", *OPTIONS]
    done = subprocess.run([*pip, "--wheel-dir", str(folder), "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("tercet-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `tercet` is the wheel's: -S keeps the editable install of the clone out."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), sysconfig.get_paths()["platlib"]])}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    sources = (ROOT / "src").rglob("*")
    wanted = {path.relative_to(ROOT / "src").as_posix() for path in sources if path.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name and not name.endswith(".so")}
    assert not wanted - set(names), "the wheel lacks these"
    extra = [name for name in names if name not in wanted and ".dist-info/" not in name]
    assert [name for name in extra if not name.startswith("tercet/_core.")] == []
    assert len(extra) == 1, "one extension module"
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_the_wheel_tells_a_story_outside_the_clone(installed: dict[str, str], tmp_path: Path) -> None:
    command = ["run", "Once upon a time", "--max-tokens", "20", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-S", "-m", "tercet", *command],
        cwd=tmp_path,
        env=installed,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 5


def test_import_is_light(installed: dict[str, str], tmp_path: Path) -> None:
    """Neither the import nor `--help` loads what only some commands need."""
    program = (
        "import sys, tercet\n"
        "from tercet.cli import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code, done.code\n"
        f"print('loaded:', sorted({HEAVY} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-S", "-c", program, "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "loaded: []" in done.stdout


def test_import_takes_less_than_150_milliseconds(installed: dict[str, str], tmp_path: Path) -> None:
    """The best of several processes, each timing its own import: what the machine allows, not its mood."""
    program = "import time; start = time.perf_counter(); import tercet; print(time.perf_counter() - start)"
    command = [sys.executable, "-S", "-c", program]
    times = [float(subprocess.check_output(command, cwd=tmp_path, env=installed)) for _ in range(5)]
    assert min(times) < 0.150
