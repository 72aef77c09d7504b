"""The chain of an audit log: how a line is bound to the one before it, and the check of a whole folder.

    {"at":...,"before":...,"caller":...,"fields":{...},"kind":...,"seq":7,"hash":...}      ASCII, no spaces

    before   the hash of the line before; 64 zeros for the first
    seq      the number of the line, from 1, through all files
    hash     SHA-256, or HMAC-SHA256 with a key, of the line without its hash

The bytes themselves are hashed, so there is no second way of writing a line that would pass for it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tercet.errors import ChecksumError, StorageError

__all__ = [
    "CLOSED",
    "FIRST",
    "REMOVED",
    "AuditFile",
    "Head",
    "Verdict",
    "audit_files",
    "end_before",
    "read_events",
    "read_file",
    "seal",
    "verify",
]

REMOVED = "audit.removed"
CLOSED = "audit.closed"
_NAME = re.compile(r"audit-([0-9]{6,9})\.jsonl")
MAX_LINE_BYTES = 2**16
_WORDS = ("at", "caller", "kind", "before")
_SEAL = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_SEAL_BYTES = len(',"hash":""}') + 64


class Head(NamedTuple):
    """A line: its number and its hash."""

    seq: int
    hash: str


FIRST = Head(0, "0" * 64)
"""What stands before the first line."""


@dataclass
class AuditFile:
    """What one file holds, checked line by line.

    Attributes:
        before: the line before its first one; None if it has no whole line.
        head: its last line.
        num_bytes: of whole lines.
        torn: half a line at its end.
        removed: the last lines of files that it says were removed to make room.
        last_kind: the kind of its last line.
    """

    before: Head | None = None
    head: Head | None = None
    num_bytes: int = 0
    torn: bytes = b""
    removed: set[Head] = field(default_factory=set)
    last_kind: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a log that is whole holds.

    Attributes:
        first: number of the first line that is kept.
        head: the last line.
        num_files: files that were read.
        torn_bytes: half a line at the end: a process died there, or writes at this moment.
        is_closed: whether the last process that wrote ended in order.
    """

    first: int
    head: Head
    num_files: int
    torn_bytes: int
    is_closed: bool


def seal(content: dict[str, Any], before: Head, key: bytes | None) -> tuple[bytes, Head]:
    """The line that comes after `before`, and its number and hash."""
    numbered = {**content, "before": before.hash, "seq": before.seq + 1}
    plain = json.dumps(numbered, sort_keys=True, separators=(",", ":"), allow_nan=False)
    plain = plain.replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is
    digest = _digest(plain.encode("ascii"), key)
    return f'{plain[:-1]},"hash":"{digest}"}}\n'.encode("ascii"), Head(before.seq + 1, digest)


def audit_files(folder: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """(number, path) of the files of a log, the oldest first.

    Raises:
        StorageError: there is no such folder, or it cannot be read.
    """
    try:
        paths = list(Path(folder).iterdir())
    except OSError as error:
        raise StorageError(f"cannot read the audit log in {folder}: {error.strerror or error}") from error
    found = [(_NAME.fullmatch(path.name), path) for path in paths]
    return sorted((int(match[1]), path) for match, path in found if match)


def end_before(path: Path) -> Head:
    """The line that the first line of a file, which has been checked, comes after; raises OSError."""
    with path.open("rb") as file:
        content = json.loads(file.readline())
    return Head(content["seq"] - 1, content["before"])


def read_file(path: Path, key: bytes | None) -> AuditFile:
    """Check one file from its first line to its last.

    Raises:
        ChecksumError: the first line that does not fit, by its number in the file, and why.
        StorageError: the file cannot be read.
    """
    found = AuditFile()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
                if not line.endswith(b"\n"):
                    if len(line) == MAX_LINE_BYTES:
                        raise ChecksumError(
                            f"{path}, line {number}: it is longer than any line that we write"
                        )
                    found.torn = line
                    break
                try:
                    _add_line(found, line[:-1], key)
                except ValueError as error:
                    raise ChecksumError(f"{path}, line {number}: {error}") from None
                except (KeyError, TypeError, AttributeError, RecursionError):  # sealed, but not by us
                    raise ChecksumError(f"{path}, line {number}: it is no line of an audit log") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    return found


def verify(
    folder: str | os.PathLike[str], *, key: bytes | None = None, expected: Head | None = None
) -> Verdict:
    """Check a whole log.

    Args:
        folder: where its files are.
        key: the one that it was written with, if it was.
        expected: a line that was seen earlier, in the log or at its end then; it must still be there.

    Raises:
        ChecksumError: where it was changed: a line, a gap between files, a missing beginning or end.
        StorageError: there is no log.
    """
    files = audit_files(folder)
    if not files:
        raise StorageError(f"there is no audit log in {folder}: no file audit-NNNNNN.jsonl")
    first = head = None
    removed: set[Head] = set()
    torn, last_kind, seen = b"", "", expected is None
    for _, path in files:
        if torn:
            raise ChecksumError(f"{path}: the file before it ends in half a line")
        found = read_file(path, key)
        torn = found.torn
        if found.before is None or found.head is None:
            continue
        if head is not None and found.before != head:
            raise ChecksumError(
                f"{path}, line 1: it comes after line {found.before.seq} of the log, and the file before it "
                f"ends with line {head.seq}: lines are missing or were changed"
            )
        first = found.before if first is None else first
        seen = seen or (expected is not None and _has(path, expected, found))
        head, last_kind = found.head, found.last_kind
        removed |= found.removed
    if first is None or head is None:
        raise ChecksumError(f"the audit log in {folder} has not one whole line")
    if first != FIRST and first not in removed:
        raise ChecksumError(
            f"the audit log in {folder} begins after line {first.seq}, and nothing in it says that the lines "
            "before were removed to make room"
        )
    if not seen and expected is not None:
        gone = "it now ends before it" if expected.seq > head.seq else "it is not there"
        raise ChecksumError(
            f"the audit log in {folder} had a line {expected.seq} with hash {expected.hash[:12]}, and {gone}"
        )
    return Verdict(first.seq + 1, head, len(files), len(torn), last_kind == CLOSED)


def read_events(folder: str | os.PathLike[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """(content, line) of everything in a log that has been verified, the oldest first.

    Raises:
        StorageError: it cannot be read.
    """
    for _, path in audit_files(folder):
        try:
            with path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield json.loads(line), line[:-1].decode("ascii", "backslashreplace")
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def _add_line(found: AuditFile, line: bytes, key: bytes | None) -> None:
    """Check a line and take it in; ValueError says what is wrong with it."""
    match = _SEAL.fullmatch(line[-_SEAL_BYTES:])
    if match is None:
        raise ValueError("it does not end with a hash")
    plain, given = line[:-_SEAL_BYTES] + b"}", match[1].decode()
    if not hmac.compare_digest(_digest(plain, key), given):
        raise ValueError("it does not match its hash: it was changed, or written with another key")
    content = json.loads(plain)
    if not isinstance(content["fields"], dict) or not all(isinstance(content[name], str) for name in _WORDS):
        raise ValueError("it is no line of an audit log")
    before = Head(content["seq"] - 1, content["before"])
    if found.head is not None and before != found.head:
        raise ValueError(
            f"it comes after line {before.seq} of the log, and the line before it is {found.head.seq}: "
            "lines are missing or were changed"
        )
    found.before = found.before or before
    found.head = Head(content["seq"], given)
    found.num_bytes += len(line) + 1
    found.last_kind = content["kind"]
    if content["kind"] == REMOVED:
        found.removed.add(Head(content["fields"]["seq"], content["fields"]["hash"]))


def _has(path: Path, expected: Head, found: AuditFile) -> bool:
    if found.before is None or found.head is None or not found.before.seq < expected.seq <= found.head.seq:
        return False
    wanted = f'"hash":"{expected.hash}"}}\n'.encode()
    with path.open("rb") as file:
        for number, line in enumerate(file, found.before.seq + 1):
            if number == expected.seq:
                return line.endswith(wanted)
    return False


def _digest(plain: bytes, key: bytes | None) -> str:
    if key is None:
        return hashlib.sha256(plain).hexdigest()
    return hmac.new(key, plain, hashlib.sha256).hexdigest()
