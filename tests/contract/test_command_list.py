"""`./dev` is the command list: pyproject.toml, CI and the README say the same as it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dev() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("dev", str(ROOT / "dev"))
    spec = importlib.util.spec_from_loader("dev", loader)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    loader.exec_module(module)
    return module


def test_build_requirements_are_those_of_pyproject(dev: ModuleType) -> None:
    line = re.search(r"^requires = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), flags=re.M)
    assert line is not None
    declared = re.findall(r'"([^"]+)"', line[1])
    assert [*declared, "ninja"] == dev.BUILD_REQUIREMENTS


def test_every_command_is_explained_and_an_unknown_one_is_an_error(dev: ModuleType) -> None:
    explained = re.findall(r"^    \./dev (\S+)", dev.__doc__ or "", flags=re.M)
    assert sorted(explained) == sorted(dev.COMMANDS)
    done = subprocess.run([sys.executable, "dev", "tset"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "./dev test" in done.stdout


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "exec python3 ./dev test" in (ROOT / ".ci" / "run").read_text()
    assert "./dev test" in (ROOT / "README.md").read_text()
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_a_changed_core_is_built_again(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpp" / "src").mkdir(parents=True)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "packages").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "CMakeLists.txt").write_text("")
    kernel = tmp_path / "cpp" / "src" / "kernel.cpp"
    kernel.write_text("int x;")
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    before = dev.sources_digest()
    assert dev.sources_digest() == before
    kernel.write_text("int y;")
    assert dev.sources_digest() != before


def test_an_update_of_the_tests_keeps_the_tools(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `./dev test`, a change of the core and `./dev run` reinstall everything that was there."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(dev, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(dev, "sources_digest", lambda: "new")
    monkeypatch.setattr(dev, "install_system_packages", lambda level: None)
    monkeypatch.setattr(dev, "program", lambda name: sys.executable)
    monkeypatch.setattr(dev, "pip", lambda *arguments: asked.append(arguments))
    dev.STAMP.write_text('{"level": "test", "digest": "old"}')
    dev.install("run")
    assert asked == [
        (*dev.BUILD_REQUIREMENTS, dev.TORCH),
        ("--no-build-isolation", "--editable", ".[all,dev]"),
        ("--no-deps", *dev.VOCABULARIES, *dev.CLUSTER_PROGRAMS),
    ]
    dev.install("run")
    assert len(asked) == 3, "nothing changed, nothing to install"


def test_a_user_gets_no_package_that_only_tests_need(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, ...]] = []
    monkeypatch.setattr(dev.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(dev.os, "geteuid", lambda: 0)
    monkeypatch.setattr(dev, "has_system_package", lambda name: name == "cmake")
    monkeypatch.setattr(dev, "call", lambda *command: called.append(command))
    dev.install_system_packages("run")
    dev.install_system_packages("test")
    _, for_run, _, for_test = called  # each time an update, then an install
    assert "g++" in for_run
    assert "qemu-user" not in for_run
    assert {"g++", "qemu-user"} <= set(for_test)
    assert "cmake" not in for_test, "it is there already"
