"""Which machine this is, so that a figure can be placed."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from tercet.engine.memory import total_memory_bytes
from tercet.engine.processors import available_cores
from tercet.kernels.introspection import cpu_name


@dataclass(frozen=True)
class Machine:
    """What a figure depends on besides the program."""

    cpu: str
    cores: int
    memory_bytes: int | None
    system: str
    python: str
    tercet: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)


def this_machine() -> Machine:
    """Describe the machine that the process runs on; `cores` are those that it may use."""
    return Machine(
        cpu=cpu_name(),
        cores=available_cores(),
        memory_bytes=total_memory_bytes(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        tercet=version("tercet"),
    )
