"""Import Ray, and be connected to a cluster of it.

    with connected() as ray:
        ray.get(...)

Zeus, which measures energy, brings amdsmi, and where AMD's library is missing (libamd_smi.so) amdsmi ends its
own import with a KeyError, which Ray does not expect: neither it nor its processes would start. So amdsmi is
tried first. Where it fails in this way it counts as not installed: in this process, and by a folder on
PYTHONPATH in all those that Ray starts for it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tercet.environment import optional_import
from tercet.errors import UnavailableError

__all__ = ["connected", "ray_module"]

START_TRIES = 4
"""Of a cluster on this machine. Ray gives some of its processes 15 seconds to start, and no setting gives
them more, which is short where other programs are busy; so it may take another try."""
START_SECONDS = 120
"""For the rest."""
_STAND_IN = Path(__file__).parent / "without_amdsmi"


def ray_module(name: str = "ray") -> ModuleType:
    """Import Ray, or a module of it (`ray.train`).

    Raises:
        MissingExtraError: it is not installed.
    """
    if "ray" not in sys.modules:
        _leave_out_broken_amdsmi()
    optional_import("ray", "ray")
    return optional_import(name, "ray")


@contextlib.contextmanager
def connected(num_cpus: float | None = None) -> Iterator[ModuleType]:
    """Give Ray, connected: as it is already, else to the cluster of RAY_ADDRESS, else to one started here.

    What was started or joined here is left at the end of the block.

    Args:
        num_cpus: processors that a cluster started here counts; None: those of the machine, rounded down.

    Raises:
        MissingExtraError: Ray is not installed.
        UnavailableError: the cluster does not answer, or none can be started.
    """
    ray = ray_module()
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        hint = "" if os.environ.get("RAY_AUTH_MODE") else "; one that wants a token needs RAY_AUTH_MODE=token"
        _connect(ray, 1, f"the cluster at {address} does not answer{hint}", address=address)
    else:
        os.environ.setdefault("RAY_raylet_start_wait_time_s", str(START_SECONDS))
        _connect(ray, START_TRIES, "no cluster starts on this machine", num_cpus=num_cpus)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ray tells of lost processes, and results may be there
            yield ray
    finally:
        ray.shutdown()


def _connect(ray: ModuleType, tries: int, failure: str, **options: Any) -> None:
    while True:
        tries -= 1
        try:
            ray.init(log_to_driver=False, include_dashboard=False, **options)
            return
        except Exception as error:  # Ray raises bare ones
            ray.shutdown()
            if not tries:
                raise UnavailableError(f"Ray: {failure} ({error})") from error


def _leave_out_broken_amdsmi() -> None:
    if "amdsmi" in sys.modules or importlib.util.find_spec("amdsmi") is None:
        return
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses
            importlib.import_module("amdsmi")
    except ImportError:
        return  # as Ray expects
    except Exception:
        sys.modules["amdsmi"] = None  # type: ignore[assignment]  # an import of it is an ImportError now
        paths = [str(_STAND_IN), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
