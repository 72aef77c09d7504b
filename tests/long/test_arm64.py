"""The package on a 64-bit ARM: it installs into a Debian of that kind, tells the story that it tells here and
passes the tests of its kernels.

./dev test-long tests/long/test_arm64.py        in an emulator; at first it downloads 300 MB

Debian's archive and PyPI have to answer, so this is not for CI, where tests/kernels/test_neon.py runs. The
programs that it needs are named in tests/plugins/arm64_root.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from arm64_root import PROCESSOR, cross_built_wheel, download_wheels, make_root, run_in
from long_results import RecordLongResult
from native_programs import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(4 * 3600)]

STORY = ["run", "Once upon a time", "--max-tokens", "40", "--seed", "1"]
TRANSCRIPT = "/source/tests/golden/test_transcript.py"
TESTING = ["pytest>=8.4", "pytest-timeout>=2.3", "hypothesis>=6.100"]
EXACT = ["test_isa", "test_ternary_matmul", "test_kernel_packing"]
"""Of the multiplications, which differ with the processor."""

KERNELS = [
    *EXACT,
    "test_float_kernels",
    "test_group_scales",
    "test_head",
    "test_hadamard",
    "test_activation_rules",
]
"""All that is asked of single kernels. Whole decoders, which would take hours here, are compared in C++
(tests/kernels/test_neon.py)."""

PROCESSORS = {
    "neoverse-n1": ("reference, neon, neon_dotprod", EXACT),
    PROCESSOR: ("reference, neon", KERNELS),
}


def test_the_package_on_arm64(tmp_path: Path, record_long_result: RecordLongResult) -> None:
    root = make_root()
    wheel = cross_built_wheel(root, tmp_path)
    wheels = tmp_path / "wheels"
    download_wheels(declared_dependencies(wheel) + TESTING, wheels)
    (wheels / wheel.name).write_bytes(wheel.read_bytes())

    # A fresh environment of the system's own Python, filled by its own pip.
    environment = tmp_path / "environment"
    environment.mkdir()
    binds = {environment: "/opt/tercet", wheels: "/wheels", ROOT: "/source"}
    program = "/opt/tercet/bin/"
    run_in(root, "/usr/bin/python3", "-m", "venv", "/opt/tercet", binds=binds)
    install = [program + "pip", "install", "--quiet", "--no-index", "--find-links", "/wheels"]
    _, installing = run_in(root, *install, "tercet", "pytest", "pytest-timeout", "hypothesis", binds=binds)

    told, telling = run_in(root, program + "tercet", *STORY, binds=binds)
    here = subprocess.run(
        [sys.executable, "-m", "tercet", *STORY], capture_output=True, text=True, check=True
    )
    assert told == here.stdout

    figures = {}
    for processor, (isas, names) in PROCESSORS.items():
        doctor, _ = run_in(root, program + "tercet", "doctor", binds=binds, processor=processor)
        assert re.search(rf"instruction sets +{isas}(;| *\n)", doctor)
        assert "Everything works." in doctor
        pytest_command = [program + "python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        paths = [f"/source/tests/kernels/{name}.py" for name in names]
        printed, testing = run_in(root, *pytest_command, *paths, TRANSCRIPT, binds=binds, processor=processor)
        passed = re.search(r"(\d+) passed", printed)
        assert passed is not None
        figures[processor] = {"passed": int(passed[1]), "test_seconds": round(testing), "isas": isas}
    record_long_result(
        "arm64",
        {
            "system": root.name,
            "wheel": wheel.name,
            "wheel_bytes": wheel.stat().st_size,
            "install_seconds": round(installing),
            "story_seconds": round(telling),
            "story": told,
            "processors": figures,
        },
    )


def declared_dependencies(wheel: Path) -> list[str]:
    """What the wheel asks for without extras."""
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    text = archive.read(metadata).decode()
    return [name for name in re.findall(r"^Requires-Dist: (.*)$", text, flags=re.M) if "extra ==" not in name]
