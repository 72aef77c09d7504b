"""libtercet as users have it: installed into a folder, found by pkg-config and CMake, called from C and C++.

The build is the one under sanitizers, so that the examples are checked as they run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from native_programs import ROOT, build_checked
from tercet import LLM

pytestmark = pytest.mark.timeout(1200)  # a compilation, on a machine that may be busy

HEADER = ROOT / "cpp" / "capi" / "tercet.h"
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PROMPT = "Once upon a time"


def run(command: Sequence[str | Path], **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed tree, moved since: nothing in it may name the folder that it was made for."""
    built, folder = build_checked(), tmp_path_factory.mktemp("installed")
    run(["cmake", "--install", built, "--prefix", folder / "first"])
    return (folder / "first").rename(folder / "moved")


@pytest.fixture(scope="module")
def story(shipped_model: Path) -> str:
    with LLM(shipped_model, threads=1) as llm:
        return PROMPT + llm.generate(PROMPT, temperature=0, max_tokens=80).text


def flags(prefix: Path, *options: str) -> list[str]:
    (folder,) = prefix.rglob("pkgconfig")
    found = run(["pkg-config", *options, "tercet"], env={**os.environ, "PKG_CONFIG_PATH": str(folder)})
    return found.stdout.split()


def test_what_is_installed(prefix: Path) -> None:
    names = {path.name for path in prefix.rglob("*") if path.is_file() or path.is_symlink()}
    assert {
        "libtercet.so",
        "libtercet.so.0",
        "libtercet.a",
        "tercet.h",
        "tercet.pc",
        "tercetConfig.cmake",
    } <= names
    for path in prefix.rglob("*"):
        if path.suffix in (".pc", ".cmake", ".h"):
            assert str(ROOT) not in path.read_text(), path


def test_the_versions_are_one(prefix: Path) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (expected,) = re.findall(r'^version = "(.*)"$', project, flags=re.M)
    parts = re.findall(
        r"#define TERCET_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", HEADER.read_text(encoding="utf-8")
    )
    assert ".".join(parts) == expected == flags(prefix, "--modversion")[0]


def test_a_program_in_c(prefix: Path, story: str, shipped_model: Path, tmp_path: Path) -> None:
    """In C89 but for the types of <stdint.h>, against the shared library."""
    strict = ["-std=c89", "-pedantic-errors", "-Wall", "-Wextra", "-Wstrict-prototypes", "-Werror"]
    source = ROOT / "examples" / "c" / "tell.c"
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 60
    program, library = tmp_path / "tell", flags(prefix, "--variable=libdir")[0]
    run(
        [
            "cc",
            *strict,
            *SANITIZED,
            source,
            *flags(prefix, "--cflags", "--libs"),
            f"-Wl,-rpath,{library}",
            "-o",
            program,
        ]
    )
    told = run([program, shipped_model, PROMPT, "0"])
    assert told.stdout == story + "\n"
    assert told.stderr == "80 tokens\n"
    failed = subprocess.run([program, tmp_path / "nothing"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr == f"tell: open: there is no file {tmp_path / 'nothing'}\n"


def test_the_static_library(prefix: Path, story: str, shipped_model: Path, tmp_path: Path) -> None:
    """A compiler of C links it with what pkg-config says."""
    for shared in prefix.rglob("libtercet.so*"):
        shutil.copy(shared, tmp_path)
    alone = tmp_path / "alone"
    shutil.copytree(prefix, alone, ignore=shutil.ignore_patterns("*.so*"))
    linked = flags(alone, "--static", "--cflags", "--libs")
    program = tmp_path / "tell"
    run(["cc", *SANITIZED, ROOT / "examples" / "c" / "tell.c", *linked, "-o", program])
    assert run([program, shipped_model, PROMPT, "0"]).stdout == story + "\n"


def test_a_program_in_cpp_by_cmake(prefix: Path, shipped_model: Path, tmp_path: Path) -> None:
    source = ROOT / "examples" / "cpp"
    options = [
        f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DCMAKE_CXX_FLAGS={' '.join(SANITIZED)} -Wall -Wextra -Werror",
    ]
    run(["cmake", "-S", source, "-B", tmp_path, *options])
    run(["cmake", "--build", tmp_path])
    questions = ["Tell me a story about a cat.", "<|assistant|> And then?"]
    talk = run([tmp_path / "talk", shipped_model], input="\n".join(questions))
    with LLM(shipped_model, threads=1) as llm:
        first = llm.chat([{"role": "user", "content": questions[0]}], temperature=0, max_tokens=40)
    assert talk.stdout.startswith(first.text + "\n")
    assert len(talk.stdout) > len(first.text) + 10


def test_what_the_library_shows_is_the_header(prefix: Path) -> None:
    library = next(prefix.rglob("libtercet.so"))
    listed = run(["nm", "--dynamic", "--defined-only", library]).stdout
    shown = {line.split()[2].partition("@")[0] for line in listed.splitlines() if line.split()[1] != "A"}
    declared = set(re.findall(r"TERCET_API [\w *]*?(tercet_\w+)\(", HEADER.read_text(encoding="utf-8")))
    assert shown == declared
    assert len(declared) > 20


def test_the_header_is_one_of_cpp_too(tmp_path: Path) -> None:
    source = tmp_path / "includes.cpp"
    source.write_text(
        '#include "tercet.h"\n#include "tercet.h"\nint main() { return tercet_version() == nullptr; }\n'
    )
    run(
        [
            "c++",
            "-std=c++98",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
            "-Dnullptr=0",
            f"-I{HEADER.parent}",
            source,
        ]
    )
