"""What an input file holds, found out before the first request runs.

Reading a file twice costs little beside generating, and answers three questions at once: how many requests
there are (for the progress bar), whether the output belongs to this input (the hash of every line), and which
ids stand there more than once. Of a line that holds one, the first is run and the others are refused.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tercet.errors import ParameterError
from tercet.service.batch.lines import BatchLine, RawLine, parse_line, read_lines

__all__ = ["Inventory", "is_parquet"]


def is_parquet(path: Path) -> bool:
    """Whether a file of requests or results is one of Parquet, by its name."""
    return path.suffix == ".parquet"


class Inventory:
    """The requests of an input file, and which of them are done.

    Args:
        path: the input; Parquet if its name ends so, else JSON Lines.

    Raises:
        ParameterError: it is no file that can be read twice, or holds nothing but blank lines.
        MissingExtraError: it is Parquet, and there is no reader of that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests = array.array("Q", [0])  # by line number; 0 for blank lines
        ids = array.array("Q")
        urls: set[str | None] = set()
        with self._open() as lines:
            for raw in lines:
                blank = raw.number - len(self._digests)
                self._digests.extend([0] * blank)
                self._digests.append(raw.digest)
                with contextlib.suppress(ParameterError):
                    line = parse_line(raw)
                    ids.append(_hash_of(line.id))
                    urls.add(line.url)
        self.total: int = sum(digest != 0 for digest in self._digests)
        if not self.total:
            raise ParameterError(f"{path} holds no requests: a line each, as JSON objects")
        hashes, counts = np.unique(np.frombuffer(ids, np.uint64), return_counts=True)
        self.has_plain_form: bool = None in urls
        self.has_openai_form: bool = bool(urls - {None})
        self._suspects = frozenset(hashes[counts > 1].tolist())
        self._seen: set[str] = set()
        self._done = bytearray(len(self._digests))

    def mark_done(self, number: int, digest: int) -> bool:
        """Note that line `number` need not run; False where it is not the line that it was."""
        if not 0 < number < len(self._digests) or self._digests[number] != digest:
            return False
        self._done[number] = 1
        return True

    def is_done(self, number: int) -> bool:
        """Whether line `number` has been marked."""
        return bool(self._done[number])

    def remaining(self) -> Iterator[RawLine]:
        """Read the lines again that are not done.

        Raises:
            ParameterError: the file has changed meanwhile.
        """
        self._seen.clear()
        with self._open() as lines:
            for raw in lines:
                if raw.number >= len(self._digests) or self._digests[raw.number] != raw.digest:
                    raise ParameterError(
                        f"{self.path} has changed while its requests were running: line {raw.number}"
                    )
                if not self._done[raw.number]:
                    yield raw
                elif self._suspects:
                    with contextlib.suppress(ParameterError):
                        self.check_id(parse_line(raw))

    def check_id(self, line: BatchLine) -> None:
        """Note the id of a line; ParameterError where an earlier one has it, too. Lines come in order."""
        if _hash_of(line.id) not in self._suspects:
            return
        if line.id in self._seen:
            raise ParameterError(f"the id {line.id!r} stands in an earlier line already")
        self._seen.add(line.id)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Iterator[RawLine]]:
        try:
            file = self.path.open("rb")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ParameterError(f"cannot read the requests in {self.path}: {reason}") from error
        with file:
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise ParameterError(
                    f"{self.path} is no regular file; requests are read twice, so that a batch can be resumed"
                )
            if is_parquet(self.path):
                from tercet.service.batch.parquet import read_rows

                yield read_rows(file, self.path)
            else:
                yield read_lines(file)


def _hash_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
