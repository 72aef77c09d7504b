"""What `pip install` gives: a wheel with all that is needed and nothing else, usable outside the clone."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tercet.kernels.isa import known_isas

ROOT = Path(__file__).resolve().parents[2]
MAX_WHEEL_BYTES = 25_000_000
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


def test_one_wheel_carries_every_instruction_set_of_its_processor(
    installed: dict[str, str], tmp_path: Path
) -> None:
    """Which one runs is decided where it runs; the list is that of cpp/isa.cmake."""
    program = "from tercet.kernels.isa import known_isas; print(*known_isas())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=tmp_path, env=installed, capture_output=True, text=True
    )
    assert done.stdout.split() == known_isas(), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel reads wheels of Linux")
def test_the_wheel_needs_no_library_that_a_linux_may_lack(wheel: Path) -> None:
    """How old it may be, the building system decides: for a release that is manylinux_2_28."""
    auditwheel = Path(sys.executable).with_name("auditwheel")
    done = subprocess.run([auditwheel, "show", wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert re.search(r'platform tag: "manylinux_2_\d+_\w+"', shown), shown
    (libraries,) = re.findall(r"system-provided shared libraries: (.*?) This constrains", shown)
    named = set(re.findall(r"[\w+-]+\.so\.\d+|ld-linux[\w-]*", libraries))
    assert named <= {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "libpthread.so.0"}, shown


IMPORTED_AS = {"google-re2": "re2", "pyahocorasick": "ahocorasick"} | dict.fromkeys(
    ("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"), "opentelemetry"
)


def declared(section: str) -> set[str]:
    """The packages of one list of pyproject.toml, by their import names."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^{section} = \[(.*?)\]\n", text, flags=re.M | re.S)
    names = re.findall(r'"([A-Za-z][\w-]*)', block)
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def imported(paths: Iterable[Path]) -> tuple[set[str], set[str]]:
    """The packages that modules import, wherever in the file, and those that they ask for as optional."""
    plain: set[str] = set()
    optional: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                plain |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                plain.add(node.module)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("optional_import"):
                optional |= {part.value for part in node.args[:1] if isinstance(part, ast.Constant)}
    ours = {*sys.stdlib_module_names, "tercet"}
    return {name.partition(".")[0] for name in plain} - ours, {name.partition(".")[0] for name in optional}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    """A user who installs the package without extras can import everything but what an extra is for."""
    package = ROOT / "src" / "tercet"
    modules = set(package.rglob("*.py"))
    extras = {"ray": {package / "training" / "ray_train.py", package / "deployment" / "ray_batch.py"}}
    extras["ray"] |= {
        *(package / "cluster").rglob("*.py"),
        *(package / "deployment" / "ray_serve").rglob("*.py"),
    }
    extras["parquet"] = {package / "service" / "batch" / "parquet.py"}
    trained = [set((package / name).rglob("*.py")) for name in ("training", "distillation", "pruning")]
    extras["train"] = set().union(*trained) - extras["ray"]
    extras["finetune"] = {*(package / "finetuning").rglob("*.py"), *(package / "data").rglob("*.py")}
    extras["evaluation"] = set((package / "evaluation" / "harness").rglob("*.py"))
    extras["transformers"] = set((package / "integrations").rglob("*.py"))
    extras["transformers"].add(package / "deployment" / "transformers.py")
    extras["energy"] = {package / "monitoring" / "energy_counters.py"}
    extras["onnx"] = set((package / "conversion" / "onnx").rglob("*.py"))
    extras["gpu"] = set((package / "gpu").rglob("*.py"))
    extras["bench"] = {package / "bench" / "plot.py"}
    extras["otel"] = {package / "service" / "telemetry.py"}
    extras["redis"] = {package / "service" / "redis_store.py"}
    extras["pii"] = {package / "security" / "content" / "personal_data.py"}
    extras["security"] = {*(package / "security").rglob("*.py"), package / "service" / "guard.py"}
    extras["security"] -= extras["pii"]
    served = {*(package / "server").rglob("*.py"), *(package / "service").rglob("*.py")}
    served |= {package / "monitoring" / "exposition.py", package / "sampling" / "constraints.py"}
    extras["server"] = served - extras["redis"] - extras["security"] - extras["otel"] - extras["parquet"]
    assert imported(modules.difference(*extras.values()))[0] == declared("dependencies")
    for extra, files in extras.items():
        needed = set().union(*imported(files)) - declared("dependencies")
        assert needed <= declared(extra), extra
    everything = set().union(*imported(modules)) - declared("dependencies")
    assert everything == set().union(*map(declared, extras))
