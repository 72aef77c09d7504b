"""Alerts by a command of the operator's: a pager, a script, whatever the other sinks are not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tercet.errors import ParameterError
from tercet.monitoring.alerts.delivery import DeliveryError
from tercet.monitoring.alerts.events import AlertEvent
from tercet.monitoring.alerts.rules import Severity

__all__ = ["CommandSink"]


@dataclass(frozen=True, kw_only=True)
class CommandSink:
    """A program that is run for each event, without a shell.

    It gets the event as JSON on its standard input, and `TERCET_ALERT_RULE`, `_STATE`, `_SEVERITY`, `_ID`,
    `_VALUE`, `_THRESHOLD` and `_MESSAGE` in its environment. What it prints is thrown away; a status other
    than 0 has it tried again.

    Attributes:
        command: the program and its arguments.
        timeout_seconds: after them it is killed, with all it has started.
        severity: "critical" for those alone.

    Raises:
        ParameterError: there is no program.
    """

    command: tuple[str, ...]
    timeout_seconds: float = 30.0
    severity: Severity = "warning"

    def __post_init__(self) -> None:
        if not self.command or not self.command[0] or any("\0" in one for one in self.command):
            raise ParameterError("a command is a list: its program, then its arguments")

    @property
    def label(self) -> str:
        """The program; its arguments may be secret."""
        return f"command {Path(self.command[0]).name}"

    def send(self, event: AlertEvent) -> None:
        """Run it.

        Raises:
            DeliveryError: it cannot be run, took too long or ended with a status other than 0.
        """
        names = ("rule", "state", "severity", "id", "value", "threshold", "message")
        told = {f"TERCET_ALERT_{name.upper()}": str(getattr(event, name)) for name in names}
        try:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **told},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise DeliveryError(f"it cannot be run: {type(error).__name__}", again=False) from error
        try:
            process.communicate(json.dumps(event.to_dict()).encode(), timeout=self.timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise DeliveryError(f"it ran longer than {self.timeout_seconds:g} s") from error
        finally:
            if process.poll() is None:
                _kill(process)
        if process.returncode:
            raise DeliveryError(f"it ended with status {process.returncode}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)  # its own group, see start_new_session
        else:
            process.kill()
    process.communicate()
