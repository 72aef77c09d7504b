"""The choice of an instruction set: the best, the one asked for, or an error that says what there is."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from tercet.errors import IsaError
from tercet.kernels.introspection import (
    clock_rate,
    cpu_features,
    cpu_name,
    inspect_kernels,
    int8_peak,
    lookup_peak,
    read_bandwidth,
    time_ternary_matmul,
)
from tercet.kernels.isa import available_isas, choose_isa, known_isas

LIST = (Path(__file__).parents[2] / "cpp" / "isa.cmake").read_text(encoding="utf-8")


def requirements() -> dict[str, list[str]]:
    """Instruction set -> features, read from the one list."""
    block = LIST.split("set(TERCET_ISAS")[1].split(")")[0]
    rows = [line.split() for line in re.findall(r'"([^"]*)"', block)]
    return {name: features for name, architecture, *features in rows if architecture in ("any", machine())}


def machine() -> str:
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())


PROVIDERS = {
    "matmul_two_bit": {"avx512_vbmi": "avx512_vnni"},
    "matmul_five_per_byte": {"avx512_vnni": "avx2"},
    "prepare_five_per_byte": {"avx512_vnni": "avx2", "amx_int8": "avx512_vbmi"},
    "rms_norm": {"avx512_vbmi": "avx512_vnni", "amx_int8": "avx512_vnni", "neon_dotprod": "neon"},
    "int8_dot_products": {"avx512_vbmi": "avx512_vnni"},
}
"""Operation -> instruction set -> whose kernel it takes, where that is not its own."""


@pytest.fixture(autouse=True)
def _no_forced_isa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TERCET_ISA", raising=False)


def test_the_build_has_what_the_list_says() -> None:
    assert known_isas() == list(requirements())
    assert available_isas()[0] == "reference"


def test_an_instruction_set_is_available_when_its_features_are() -> None:
    features = set(cpu_features())
    assert available_isas() == [name for name, needs in requirements().items() if features.issuperset(needs)]


@pytest.mark.skipif(
    not Path("/proc/cpuinfo").exists(), reason="this system has no /proc/cpuinfo to compare with"
)
def test_features_are_those_that_the_kernel_reports() -> None:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").replace("_", "").split())
    described = re.findall(r'"([\w-]+) +\d \d e\w+ +\d+ \w+"', LIST)
    expected = [feature for feature in described if feature.replace("-", "") in flags]
    if machine() == "x86_64":
        assert cpu_features() == expected
    assert cpu_name()


def test_the_best_is_chosen_and_the_reason_given() -> None:
    isa, reason = choose_isa()
    assert isa == available_isas()[-1]
    assert "best" in reason


@pytest.mark.parametrize("isa", available_isas())
def test_the_environment_forces_and_the_argument_wins(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_ISA", isa)
    assert choose_isa() == (isa, "TERCET_ISA asks for it")
    monkeypatch.setenv("TERCET_ISA", "nonsense")
    assert choose_isa(isa) == (isa, "the caller asked for it")


def test_an_unknown_name_is_an_error_that_lists_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ", ".join(available_isas())
    with pytest.raises(IsaError, match=rf"'sse7' \(the caller asked for it\).*available here: {listed}$"):
        choose_isa("sse7")
    monkeypatch.setenv("TERCET_ISA", "sse8")
    with pytest.raises(IsaError, match=rf"'sse8' \(TERCET_ISA asks for it\).*available here: {listed}$"):
        inspect_kernels()


def test_every_kernel_passes_and_says_where_it_comes_from() -> None:
    for isa in available_isas():
        reports = inspect_kernels(isa)
        assert [report for report in reports if not report.passed] == []
        assert len({report.operation for report in reports}) == len(reports) > 20
        providers = {report.operation: report.provided_by for report in reports}
        assert set(providers.values()) <= set(requirements())
        assert all(
            set(requirements()[provider]) <= set(requirements()[isa]) for provider in providers.values()
        )
        for operation, folders in PROVIDERS.items():
            assert providers[operation] == folders.get(isa, isa)


def test_probes_measure_something() -> None:
    for isa in available_isas():
        rates = read_bandwidth(1 << 20, 2, 1, isa)
        assert set(rates) == {"plain", "prefetched", "streams"}
        assert all(1e8 < rate < 1e13 for rate in rates.values())
        assert 1e8 < int8_peak(1, 0.001, isa) < 1e14
        assert 1e8 < lookup_peak(1, 0.001, isa) < 1e14
        assert all(0 < seconds < 10 for seconds in time_ternary_matmul("two_bit", 32, 64, 3, 1, 2, isa))
    assert 1e8 < clock_rate() < 1e10
