"""What GitHub runs for us: workflows in which a linter finds nothing, and the wheels that they build."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"uses: (?:\./|[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d)")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_hash_and_jobs_bounded(workflow: Path) -> None:
    lines = text(f".github/workflows/{workflow.name}").splitlines()
    assert [line for line in lines if "uses:" in line and not PINNED.search(line)] == []
    assert sum("runs-on:" in line for line in lines) == sum("timeout-minutes:" in line for line in lines)
    assert "permissions:\n  contents: read\n" in "\n".join(lines), "whatever needs more says so in its job"


def test_secrets_are_not_needed_to_publish() -> None:
    assert all("secrets." not in path.read_text(encoding="utf-8") for path in WORKFLOWS)
    granted = [path.name for path in WORKFLOWS if "id-token: write" in path.read_text(encoding="utf-8")]
    assert granted == ["docs.yml", "release.yml"]


def test_the_wheels_are_built_by_the_version_that_is_tested_here() -> None:
    (pinned,) = re.findall(r'"cibuildwheel==([\d.]+);', text("pyproject.toml"))
    assert f"pip install cibuildwheel=={pinned}\n" in text(".github/workflows/wheels.yml")


if sys.version_info >= (3, 11):  # which these two programs want

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / program), *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    def test_the_linter_finds_nothing() -> None:
        done = run("zizmor", "--offline", "--min-severity=medium", *map(str, WORKFLOWS))
        assert done.returncode == 0, done.stdout + done.stderr

    def test_the_linter_finds_what_there_is(tmp_path: Path) -> None:
        careless = tmp_path / "careless.yml"
        careless.write_text(
            "name: Careless\non: pull_request_target\n"
            "jobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n"
            "      - uses: actions/checkout@v4\n      - run: echo ${{ github.event.pull_request.title }}\n"
        )
        done = run("zizmor", "--offline", "--min-severity=medium", str(careless))
        assert done.returncode != 0
        assert "template-injection" in done.stdout
        assert "unpinned-uses" in done.stdout

    @pytest.mark.parametrize(
        ("platform", "machine", "built"),
        [
            ("linux", "x86_64", "manylinux_x86_64"),
            ("linux", "aarch64", "manylinux_aarch64"),
            ("macos", "arm64", "macosx_arm64"),
            ("macos", "x86_64", "macosx_x86_64"),
            ("windows", "AMD64", "win_amd64"),
        ],
    )
    def test_one_wheel_for_each_python_and_one_for_all_that_follow(
        platform: str, machine: str, built: str
    ) -> None:
        done = run(
            "cibuildwheel", "--print-build-identifiers", f"--platform={platform}", f"--archs={machine}"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [f"{python}-{built}" for python in ("cp310", "cp311", "cp312")]
        assert 'wheel.py-api = "cp312"' in text("pyproject.toml"), "the last one is of the stable ABI"
