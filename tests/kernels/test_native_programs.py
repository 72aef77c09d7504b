"""What only C++ can test: the thread pool under stress, a self-test of broken kernels, the weak-symbol check.

Each program of cpp/tests is compiled here with the compiler that built the package and prints "ok". The
list of instruction sets is generated for an unknown processor, which leaves the reference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CPP = Path(__file__).resolve().parents[2] / "cpp"

pytestmark = pytest.mark.compiler


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def cmake() -> str:
    beside_python = shutil.which("cmake", path=str(Path(sys.executable).parent))
    found = beside_python or shutil.which("cmake")
    if found is None:
        pytest.skip("cmake is not installed, so no program can be compiled")
    return found


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which(os.environ.get("CXX", "c++"))
    if found is None:
        pytest.skip("a C++ compiler is not installed, so no program can be compiled")
    return found


@pytest.fixture(scope="module")
def generated(cmake: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with isa_list.hpp for a processor that isa.cmake does not know."""
    folder = tmp_path_factory.mktemp("generated")
    script = folder / "generate.cmake"
    script.write_text(
        f'set(CMAKE_SYSTEM_PROCESSOR unknown)\ninclude("{CPP}/isa.cmake")\ntercet_read_isa_list("{folder}")\n'
    )
    done = run(cmake, "-P", script)
    assert done.returncode == 0, done.stderr
    return folder


def output_of(compiler: str, generated: Path, program: Path, sources: list[Path]) -> str:
    includes = [f"-I{CPP / 'include'}", f"-I{CPP / 'src'}", f"-I{generated}"]
    flags = ["-std=c++20", "-O0", "-ffp-contract=off", "-Wno-psabi", "-pthread"]
    built = run(compiler, *flags, *includes, *sources, "-o", program)
    assert built.returncode == 0, built.stderr
    done = run(program)
    return done.stdout + done.stderr


def test_thread_pool_under_stress(compiler: str, generated: Path, tmp_path: Path) -> None:
    sources = [CPP / "tests" / "thread_pool_stress.cpp", *(CPP / "src" / "threads").glob("*.cpp")]
    assert output_of(compiler, generated, tmp_path / "stress", sources) == "ok\n"


def test_the_self_test_names_the_broken_kernel(compiler: str, generated: Path, tmp_path: Path) -> None:
    sources = [
        CPP / "tests" / "self_test_faults.cpp",
        *(CPP / "src" / "dispatch").glob("self_test*.cpp"),
        *(CPP / "src" / "kernels" / "reference").glob("*.cpp"),
    ]
    assert output_of(compiler, generated, tmp_path / "faults", sources) == "ok\n"


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("namespace { int f() { return 1; } } int g() { return f(); }", True),
        ("inline int f() { return 1; } int g() { return f(); }", False),
        ("template <class T> T f() { return 1; } int g() { return f<int>(); }", False),
        ("inline int shared = 1; int* g() { return &shared; }", False),
    ],
    ids=["anonymous namespace", "inline function", "template", "inline variable"],
)
def test_weak_symbols_stop_the_build(
    cmake: str, compiler: str, tmp_path: Path, code: str, passes: bool
) -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed; it comes with binutils")
    source, kernel_object, stamp = (tmp_path / name for name in ("kernel.cpp", "kernel.o", "stamp"))
    source.write_text(code)
    assert run(compiler, "-std=c++20", "-c", source, "-o", kernel_object).returncode == 0
    script = CPP / "weak_symbols.cmake"
    done = run(cmake, f"-DNM={nm}", f"-DOBJECTS={kernel_object}", f"-DSTAMP={stamp}", "-P", script)
    assert (done.returncode == 0, stamp.exists()) == (passes, passes), done.stderr
    assert passes or "defines weak symbols" in done.stderr
