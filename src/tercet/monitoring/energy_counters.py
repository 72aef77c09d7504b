"""Where energy is counted: the files of Linux, or the daemon of the package zeus.

Linux shows the counters of Intel's and AMD's processors (RAPL) as folders, one a domain
(Documentation/power/powercap/powercap.rst in the kernel's source):

    /sys/class/powercap/intel-rapl:0/          name "package-0": a whole processor
    /sys/class/powercap/intel-rapl:0:0/        name "core": part of it, so never added to it
    /sys/class/powercap/intel-rapl:0:1/        name "dram": the memory beside it; told apart
    /sys/class/powercap/intel-rapl:1/          name "psys": everything on the board, the package included
    /sys/class/powercap/intel-rapl-mmio:0/     the same package once more, by another way

`energy_uj` starts again at zero after `max_energy_range_uj`. Since 2020 only root may read it
(CVE-2020-8694); zeus has a daemon that reads it for others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tercet.environment import optional_import
from tercet.errors import MissingExtraError

__all__ = ["POWERCAP", "Counter", "Counters", "rapl_counters", "zeus_counters"]

POWERCAP = Path("/sys/class/powercap")
_DOMAIN = re.compile(r"(?:intel|amd)-rapl:\d+")
_PACKAGE = re.compile(r"package-\d+(?:-die-\d+)?")
_MICROJOULES = 1e-6
_MILLIJOULES = 1e-3


class Counter(Protocol):
    """One counter that only grows, until it turns."""

    @property
    def name(self) -> str:
        """What it counts."""

    @property
    def turn_joules(self) -> float | None:
        """What it has counted when it starts again at zero; None for one that never does."""

    def joules(self) -> float:
        """Read it. OSError where that is not possible."""


@dataclass(frozen=True)
class Counters:
    """What a machine counts. The memories beside the processors are no part of these."""

    source: str
    packages: Sequence[Counter]
    drams: Sequence[Counter] = ()


class RaplDomain:
    """A folder of the powercap interface."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = (folder / "name").read_text().strip()

    @property
    def turn_joules(self) -> float | None:
        """The range of the counter, where it is told."""
        try:
            return _whole_number(self.folder / "max_energy_range_uj") * _MICROJOULES
        except OSError:
            return None

    def joules(self) -> float:
        """Read the counter."""
        return _whole_number(self.folder / "energy_uj") * _MICROJOULES


def rapl_counters(powercap: Path) -> Counters:
    """Packages, and the memories beside them; OSError with a sentence for people where there are none."""
    try:
        folders = sorted(path for path in powercap.iterdir() if _DOMAIN.fullmatch(path.name))
    except OSError:
        raise OSError(
            f"there is no energy counter: {powercap} does not exist (it is Linux's way to show RAPL, and "
            "virtual machines mostly lack it)"
        ) from None
    packages: dict[str, RaplDomain] = {}
    drams: dict[str, RaplDomain] = {}
    for folder in folders:
        domain = RaplDomain(folder)
        if not _PACKAGE.fullmatch(domain.name) or domain.name in packages:
            continue
        packages[domain.name] = domain
        for part in sorted(folder.glob(f"{folder.name}:*")) or sorted(powercap.glob(f"{folder.name}:*")):
            inner = RaplDomain(part)
            if inner.name == "dram":
                drams[domain.name] = inner
    if not packages:
        raise OSError(f"there is no energy counter: {powercap} shows no package domain")
    for domain in (*packages.values(), *drams.values()):
        try:
            domain.joules()
        except PermissionError:
            raise OSError(
                f"the energy counter {domain.folder / 'energy_uj'} may not be read by this user: run as "
                f"root, or let an administrator allow it with: chmod o+r {powercap}/*/energy_uj"
            ) from None
        except OSError as error:
            raise OSError(f"the energy counter of {domain.name} cannot be read: {error}") from None
    return Counters("RAPL " + ", ".join(packages), list(packages.values()), list(drams.values()))


def _whole_number(file: Path) -> int:
    text = file.read_text().strip()
    if not text.isdigit():
        raise OSError(f"{file} says {text[:40]!r}, not a number")
    return int(text)


class ZeusProcessor:
    """A processor as the package zeus counts it, turns taken care of."""

    turn_joules: float | None = None

    def __init__(self, processor: Any, errors: type[Exception]) -> None:
        self._processor = processor
        self._errors = errors
        self.name = f"package-{processor.cpu_index}"

    def joules(self) -> float:
        """Ask zeus."""
        try:
            measured = self._processor.get_total_energy_consumption()
        except self._errors as error:
            raise OSError(str(error)) from error
        return float(measured.cpu_mj) * _MILLIJOULES


def zeus_counters() -> Counters | None:
    """Every processor that zeus can read; None where it is not installed or can read none."""
    try:
        errors = optional_import("zeus.exception", "energy").ZeusBaseError
        processors = optional_import("zeus.device.cpu", "energy").get_cpus
    except MissingExtraError:
        return None
    try:
        counters = [ZeusProcessor(one, errors) for one in processors().cpus]
        for counter in counters:
            counter.joules()
    except (OSError, errors):
        return None
    names = ", ".join(counter.name for counter in counters)
    return Counters(f"zeus {names}", counters) if counters else None
