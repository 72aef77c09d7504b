"""The files for iOS, as far as they can be checked without a Mac: syntax, and names that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_swift

ROOT = Path(__file__).resolve().parents[2]
CAPI = ROOT / "cpp" / "capi"
SWIFT = sorted((ROOT / "examples" / "ios").rglob("*.swift"))


@pytest.mark.parametrize("path", SWIFT, ids=lambda path: path.name)
def test_swift_parses(path: Path) -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    assert not parser.parse(path.read_bytes()).root_node.has_error


def test_swift_calls_what_the_header_has() -> None:
    header = (CAPI / "tercet.h").read_text(encoding="utf-8")
    used = {
        name
        for path in SWIFT
        for name in re.findall(r"\b(?:tercet|TERCET)_\w+", path.read_text(encoding="utf-8"))
    }
    assert len(used) > 8
    assert used <= set(re.findall(r"\b(?:tercet|TERCET)_\w+", header))


def test_the_script_is_sound() -> None:
    """Shellcheck has nothing against it, and without a Mac it says what it needs."""
    script = CAPI / "make_xcframework.sh"
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or "shellcheck"
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    if shutil.which("xcodebuild") is None:
        refused = subprocess.run([script], capture_output=True, text=True)
        assert refused.returncode == 1
        assert "is not installed" in refused.stderr


def test_the_script_and_the_toolchain_agree() -> None:
    toolchain = ROOT / "cpp" / "toolchains" / "ios.cmake"
    text = (CAPI / "make_xcframework.sh").read_text(encoding="utf-8")
    for name in ("cpp/toolchains/ios.cmake", "cpp/capi/tercet.h", "cpp/capi/module.modulemap"):
        assert name in text
        assert (ROOT / name).is_file()
    variables = set(re.findall(r"-D(TERCET_\w+)=", text))
    known = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8") + toolchain.read_text(encoding="utf-8")
    assert all(re.search(rf"\b{name}\b", known) for name in variables)
    done = subprocess.run(["cmake", "-P", toolchain], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
