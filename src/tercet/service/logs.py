"""The log: one JSON object a line, on the console and in a file that is rotated.

    {"event": "request finished", "level": "info", "timestamp": "2026-11-23T08:00:00.0Z", "request_id": ...}

A line is always one object, whatever a client has sent: everything but printable ASCII is escaped, so that
no line break, terminal sequence or reversed text gets through. What people write to the model and what it
answers is not logged; identifiers that clients choose are cut. Lines are written by a thread of their own: a
slow disk or a full pipe costs lines, counted in the next one that is written, and never holds up an answer.

Whatever is logged through `logging.getLogger("tercet...")` comes out the same way, its `extra` as fields.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import math
import os
import queue
import sys
from pathlib import Path
from typing import Any, TextIO

import structlog

from tercet.environment import storage_errors
from tercet.errors import ParameterError

__all__ = ["Logs", "configure", "json_line"]

LEVELS = ("debug", "info", "warning", "error")
ROOT = "tercet"
MAX_FIELD_CHARACTERS = 1_000
MAX_TRACEBACK_CHARACTERS = 8_000
MAX_WAITING_LINES = 10_000
FILE_BYTES = 10 * 2**20
FILE_COUNT = 5
_ESCAPED_TOO = str.maketrans({"\x7f": "\\u007f"})  # the one control character that JSON leaves in ASCII


def json_line(_: Any, __: str, fields: structlog.typing.EventDict) -> str:
    """The last processor: the fields as one line of printable ASCII."""
    bounded = {str(name)[:100]: _bounded(name, value) for name, value in fields.items()}
    return json.dumps(bounded, ensure_ascii=True, default=repr).translate(_ESCAPED_TOO)


def configure(
    level: str = "info",
    file: str | os.PathLike[str] | None = None,
    *,
    console: TextIO | None = sys.stderr,
    file_bytes: int = FILE_BYTES,
    file_count: int = FILE_COUNT,
) -> Logs:
    """Send what Tercet logs to the console, and to a file if one is named; call `close` on what comes back.

    Args:
        level: the least that is written: debug, info, warning or error.
        file: rotated when it reaches `file_bytes`; `file_count` older ones are kept, FILE.1 being the latest.
        console: where lines go besides; None for nowhere.

    Raises:
        ParameterError: there is no such level.
        StorageError: the file cannot be opened.
    """
    if level not in LEVELS:
        raise ParameterError(f"the level of a log is {', '.join(LEVELS)}, not {level!r}")
    targets: list[logging.Handler] = []
    if console is not None:
        targets.append(logging.StreamHandler(console))
    if file is not None:
        with storage_errors(file, opening=True):
            rotating = logging.handlers.RotatingFileHandler(
                Path(file), maxBytes=file_bytes, backupCount=file_count, encoding="ascii"
            )
        targets.append(rotating)
    return Logs(level, targets)


class Logs:
    """The way of lines from loggers to their targets, until it is closed."""

    def __init__(self, level: str, targets: list[logging.Handler]) -> None:
        shared: list[structlog.typing.Processor] = [
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
        ]
        formatter = structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, json_line],
        )
        self._queue = _Lines(formatter)
        for target in targets:
            target.setFormatter(logging.Formatter("%(message)s"))
        self._targets = targets
        self._listener = logging.handlers.QueueListener(self._queue.queue, *targets)
        self._listener.start()
        self._logger = logging.getLogger(ROOT)
        self._before = self._logger.level, self._logger.propagate
        self._logger.addHandler(self._queue)
        self._logger.setLevel(level.upper())
        self._logger.propagate = False

    @property
    def num_lost(self) -> int:
        """Lines that could not be written, since too many waited."""
        return self._queue.num_lost

    def close(self) -> None:
        """Write what waits, and leave logging as it was."""
        self._logger.removeHandler(self._queue)
        self._logger.level, self._logger.propagate = self._before
        self._listener.stop()
        for target in self._targets:
            target.close()


class _Lines(logging.handlers.QueueHandler):
    """Formats a line where it is logged, and never waits."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(queue.Queue(MAX_WAITING_LINES))
        self.setFormatter(formatter)
        self.num_lost = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A record that is nothing but its line."""
        if self.num_lost:
            record.lost_lines = self.num_lost
        return logging.makeLogRecord({"msg": self.format(record), "levelno": record.levelno})

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand a line to the thread that writes."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.num_lost += 1


def _bounded(name: str, value: Any) -> Any:
    """A value that JSON has and that is not long: text is cut at its end, a traceback at its beginning."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    if name == "exception":
        return text[-MAX_TRACEBACK_CHARACTERS:]
    if len(text) > MAX_FIELD_CHARACTERS:
        return f"{text[:MAX_FIELD_CHARACTERS]}... ({len(text)} characters)"
    return text
