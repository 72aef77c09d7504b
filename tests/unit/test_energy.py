"""Energy as the machine counts it, on counters made by hand."""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from tercet.monitoring import energy
from tercet.monitoring.energy import EnergyMeter
from tercet.monitoring.energy_counters import rapl_counters

RANGE = 262_143_328_850  # of many processors: 262 kJ


def domain(powercap: Path, folder: str, name: str, microjoules: int, turn: int | None = RANGE) -> Path:
    made = powercap / folder
    made.mkdir(parents=True)
    (made / "name").write_text(name + "\n")
    (made / "energy_uj").write_text(f"{microjoules}\n")
    if turn is not None:
        (made / "max_energy_range_uj").write_text(f"{turn}\n")
    return made


def advance(folder: Path, microjoules: int, turn: int = RANGE) -> None:
    """What the hardware does: count on, from zero again after the range."""
    counter = folder / "energy_uj"
    now = int(counter.read_text()) + microjoules
    counter.write_text(f"{now if now < turn else now - turn}\n")


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages of a server, their parts, and whatever else the interface shows."""
    root = tmp_path / "powercap"
    for package in (0, 1):
        domain(root, f"intel-rapl:{package}", f"package-{package}", 1_000_000)
        domain(root, f"intel-rapl:{package}:0", "core", 500_000)
        domain(root, f"intel-rapl:{package}:1", "dram", 100_000)
    domain(root, "intel-rapl:2", "psys", 9_000_000)
    domain(root, "intel-rapl-mmio:0", "package-0", 1_000_000)
    (root / "intel-rapl").mkdir()
    return root


def test_packages_add_up_and_nothing_counts_twice(powercap: Path) -> None:
    with EnergyMeter(powercap) as meter:
        for path in powercap.iterdir():
            if path.name in ("intel-rapl:0:1", "intel-rapl:1:1"):
                advance(path, 250_000)
            elif (path / "energy_uj").exists():
                advance(path, 2_000_000 if path.name == "intel-rapl:0" else 1_500_000)
    assert meter.joules == pytest.approx(3.5)
    assert meter.dram_joules == pytest.approx(0.5)
    assert meter.reason is None
    assert meter.source == "RAPL package-0, package-1"


def test_processors_of_amd_and_with_several_dies(tmp_path: Path) -> None:
    amd = domain(tmp_path / "amd", "intel-rapl:0", "package-0", 0)  # Linux shows AMD's under this name too
    domain(tmp_path / "amd", "intel-rapl:0:0", "core", 0)
    with EnergyMeter(tmp_path / "amd") as meter:
        advance(amd, 4_000_000)
    assert (meter.joules, meter.dram_joules) == (pytest.approx(4.0), None)
    for die in (0, 1):
        domain(tmp_path / "dies", f"intel-rapl:{die}", f"package-0-die-{die}", 0)
    assert len(rapl_counters(tmp_path / "dies").packages) == 2


def test_a_meter_may_be_used_again(powercap: Path) -> None:
    meter = EnergyMeter(powercap)
    assert meter.joules is None
    assert meter.reason == "nothing has been measured yet"
    for microjoules in (1_000_000, 3_000_000):
        with meter:
            advance(powercap / "intel-rapl:0", microjoules)
        assert meter.joules == pytest.approx(microjoules * 1e-6)


def test_a_counter_that_turns_goes_on(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_000_000)
    with EnergyMeter(tmp_path) as meter:
        advance(package, 3_000_000)
        assert int((package / "energy_uj").read_text()) == 2_000_000
    assert meter.joules == pytest.approx(3.0)


def test_long_work_sees_every_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "SECONDS_BETWEEN_READINGS", 0.001)
    turn = 1_000_000
    package = domain(tmp_path, "intel-rapl:0", "package-0", 0, turn)
    read: list[int] = []
    counted = energy._Sum.advance

    def advance_and_tell(one: Any) -> float:
        total = counted(one)
        read.append(1)
        return total

    monkeypatch.setattr(energy._Sum, "advance", advance_and_tell)
    with EnergyMeter(tmp_path) as meter:
        for _ in range(6):  # 0.6 of the range each: three turns in all, the end is not far from the start
            advance(package, 600_000, turn)
            seen = len(read)
            deadline = time.monotonic() + 30
            while len(read) < seen + 2 and time.monotonic() < deadline:  # one may have been under way
                time.sleep(0.001)
    assert meter.joules == pytest.approx(3.6)


def test_a_counter_that_goes_back_without_a_known_range_is_no_measurement(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 5_000_000, turn=None)
    with EnergyMeter(tmp_path) as meter:
        (package / "energy_uj").write_text("1\n")
    assert meter.joules is None
    assert "says nothing of when it turns" in str(meter.reason)


@pytest.mark.parametrize("change", ["absent", "empty", "no package"])
def test_where_nothing_counts_nothing_is_measured(tmp_path: Path, change: str) -> None:
    root = tmp_path / "powercap"
    if change != "absent":
        root.mkdir()
    if change == "no package":
        domain(root, "intel-rapl:0", "psys", 1)
    with EnergyMeter(root, use_zeus=False) as meter:
        pass
    assert (meter.joules, meter.dram_joules, meter.source) == (None, None, None)
    assert str(meter.reason).startswith("there is no energy counter: ")
    assert str(root) in str(meter.reason)


def test_missing_permission_is_told_with_what_helps(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text

    def refuse(path: Path, *arguments: Any, **named: Any) -> str:
        if path.name == "energy_uj":  # as for everyone but root; the tests may run as root
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", refuse)
    with EnergyMeter(powercap, use_zeus=False) as meter:
        pass
    assert meter.joules is None
    assert "may not be read by this user" in str(meter.reason)
    assert "chmod o+r" in str(meter.reason)


def test_a_counter_that_stands_still_measured_nothing(powercap: Path) -> None:
    with EnergyMeter(powercap) as meter:
        pass
    assert meter.joules is None
    assert "did not move" in str(meter.reason)


def test_a_counter_that_vanishes_or_lies_is_told(powercap: Path) -> None:
    with EnergyMeter(powercap) as meter:
        (powercap / "intel-rapl:1" / "energy_uj").write_text("many\n")
    assert meter.joules is None
    assert "'many', not a number" in str(meter.reason)
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    with meter:
        pass
    assert "cannot be read" in str(meter.reason)


def test_zeus_is_asked_where_the_files_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package with zeus's names: its daemon needs a machine with counters."""

    class ZeusError(Exception):
        pass

    class Processor:
        def __init__(self, index: int) -> None:
            self.cpu_index = index
            self.millijoules = 7000.0
            self.broken = False

        def get_total_energy_consumption(self) -> types.SimpleNamespace:
            if self.broken:
                raise ZeusError("the daemon has gone")
            return types.SimpleNamespace(cpu_mj=self.millijoules, dram_mj=None)

    processors = [Processor(0), Processor(1)]
    modules = {
        "zeus": {},
        "zeus.device": {},
        "zeus.exception": {"ZeusBaseError": ZeusError},
        "zeus.device.cpu": {"get_cpus": lambda: types.SimpleNamespace(cpus=processors)},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    with EnergyMeter(tmp_path / "absent") as meter:
        processors[0].millijoules += 1500
        processors[1].millijoules += 500
    assert meter.joules == pytest.approx(2.0)
    assert meter.source == "zeus package-0, package-1"
    with meter:
        processors[1].broken = True
    assert meter.joules is None
    assert "the daemon has gone" in str(meter.reason)
    with EnergyMeter(tmp_path / "absent") as meter:  # zeus is there and can read nothing
        pass
    assert str(meter.reason).startswith("there is no energy counter: ")
