"""Opening a `.tercet` file: map it, check all of it, hand out views.

Opening reads the header and checks it against the file. Verifying reads everything else: the SHA-256 of each
piece, the zeros between pieces, and that the values mean something (no code that the packing does not have,
no infinite scale). It runs in a few threads, because hashing and NumPy let go of Python's lock.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tercet.errors import ChecksumError, FormatError
from tercet.formats.floats import FLOAT_TYPES, has_only_finite
from tercet.formats.mapped_file import MappedFile
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.formats.tercet.layout import MAGIC, PREAMBLE_BYTES, Header, Piece, Preamble, TensorEntry, aligned
from tercet.formats.tercet.verified import FileState, remember_verified, was_verified
from tercet.quantization import packings
from tercet.quantization.planes import PLANES

__all__ = ["TercetFile"]

VERIFY_ALWAYS_UP_TO_BYTES = 64 << 20
"""Smaller files are verified whenever they are opened: it is done in a blink."""
VERIFY_UP_TO_BYTES = 4 << 30
"""Larger files are verified only when asked: reading all of one takes longer than a person wants to wait."""
MAX_THREADS = 4
THREADS_FROM_BYTES = 1 << 20
"""Smaller files are checked sooner than a second thread has started."""
RELEASE_FROM_BYTES = 1 << 30
"""Larger files do not stay in memory as a whole while they are checked."""


class TercetFile:
    """An open native file. Everything it hands out is a read-only view into the mapped file, or into the copy
    of it that `memory` asks for.

    Args:
        path: the file.
        verify: whether to check the content against its checksums. By default files up to 4 GiB are checked,
            those above 64 MiB only when they are opened first, see `tercet.formats.tercet.verified`.
        memory: where the bytes lie, one of `tercet.formats.weights_memory.WEIGHTS_MEMORY`.

    Raises:
        FormatError: the file is truncated, malformed, or of another kind.
        ChecksumError: its content has changed since it was written.
        UnsupportedFormatError: this release does not read its version, or a tensor type in it.
        ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """

    def __init__(
        self, path: str | os.PathLike[str], verify: bool | None = None, memory: str = "mapped"
    ) -> None:
        self._file = MappedFile(path, memory)
        self.memory = self._file.memory
        self.path: Path = self._file.path
        self.num_bytes = self._file.num_bytes
        first = self._file.view(0, min(PREAMBLE_BYTES, self.num_bytes), "the preamble").tobytes()
        preamble = Preamble.parse(first, self.path, self.num_bytes)
        header = self._file.view(PREAMBLE_BYTES, preamble.header_bytes, "the header").tobytes()
        self.header = Header.parse(header, self.path, preamble)
        self.verified = self._verify_once() if verify is None else verify
        if verify:
            self.verify()

    def blob(self, name: str) -> bytes:
        """Return a copy of a blob. Raises FormatError if the file has none of this name."""
        if name not in self.header.blobs:
            raise FormatError(
                f"{self.path} holds no {name!r}, only: {', '.join(self.header.blobs) or 'no blobs'}"
            )
        return self._view(self.header.blobs[name].piece, f"blob {name}").tobytes()

    def tensor(self, name: str) -> PackedMatrix | PlaneMatrix | FloatMatrix:
        """Return a tensor without copying it. Raises FormatError if the file has none of this name."""
        if name not in self.header.tensors:
            raise FormatError(f"{self.path} holds no tensor {name!r}")
        entry = self.header.tensors[name]
        data = self._view(entry.piece, f"tensor {name}")
        if entry.scales is None:
            return FloatMatrix(entry.type, entry.rows, entry.depth, data.view(FLOAT_TYPES[entry.type]))
        scales = self._view(entry.scales.piece, f"scales of {name}").view(FLOAT_TYPES["f32"])
        if entry.type in PLANES:
            return PlaneMatrix(entry.type, entry.rows, entry.depth, data, scales)
        return PackedMatrix(entry.type, entry.rows, entry.depth, data, scales)

    def release(self) -> None:
        """Give back the memory that reading has filled; what is read later is mapped again."""
        self._file.release()

    def verify(self) -> None:
        """Check every byte behind the header. Raises ChecksumError or FormatError, naming what is damaged."""
        self._file.read_ahead()
        checks: list[Callable[[], None]] = [self._verify_gaps]
        for name, blob in self.header.blobs.items():
            checks.append(partial(self._verify_digest, f"blob {name}", (blob.piece,), blob.sha256))
        # The largest pieces first, so that no thread is left with one of them at the end.
        for name, tensor in sorted(self.header.tensors.items(), key=lambda item: -item[1].piece.num_bytes):
            checks.append(partial(self._verify_tensor, name, tensor))
        releases = self.num_bytes > RELEASE_FROM_BYTES
        num_threads = min(MAX_THREADS, os.cpu_count() or 1) if self.num_bytes > THREADS_FROM_BYTES else 1
        with ThreadPoolExecutor(num_threads) as threads:
            for _ in threads.map(lambda check: check(), checks):  # the first failure is raised here
                if releases:
                    self._file.release()

    def _verify_once(self) -> bool:
        """Check the content unless the file is very large, or was found whole before; say if it is known."""
        if self.num_bytes > VERIFY_UP_TO_BYTES:
            return False
        state = FileState.of(self.path, self._file.status)
        is_large = self.num_bytes > VERIFY_ALWAYS_UP_TO_BYTES
        if not (is_large and was_verified(state)):
            self.verify()
            if is_large:
                remember_verified(state)
        return True

    def _verify_tensor(self, name: str, entry: TensorEntry) -> None:
        self._verify_digest(f"tensor {name}", entry.pieces, entry.sha256)
        matrix = self.tensor(name)
        if isinstance(matrix, FloatMatrix):
            if not has_only_finite(matrix.data, matrix.type):
                raise FormatError(
                    f"{self.path}: tensor {name} holds values that are infinite or not a number"
                )
            return
        if isinstance(matrix, PlaneMatrix):
            is_valid = PLANES[matrix.type].is_valid(matrix.data, matrix.rows, matrix.depth)
        else:
            is_valid = packings.packing(matrix.packing).is_valid(matrix.data)
        if not is_valid:
            raise FormatError(f"{self.path}: tensor {name} holds bytes that {entry.type} does not have")
        if not has_only_finite(matrix.scales, "f32"):
            raise FormatError(f"{self.path}: the scales of {name} are infinite or not a number")

    def _verify_digest(self, what: str, pieces: tuple[Piece, ...], expected: str) -> None:
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(self._view(piece, what).data)
        if digest.hexdigest() != expected:
            raise ChecksumError(
                f"{self.path}: {what} does not match its checksum: found {digest.hexdigest()[:16]}…, "
                f"expected {expected[:16]}…. The file is damaged; get it again."
            )

    def _verify_gaps(self) -> None:
        for name, piece in self.header.pieces():
            gap = self._file.view(piece.end, aligned(piece.end) - piece.end, f"the gap after {name}")
            if gap.any():
                raise ChecksumError(
                    f"{self.path}: the bytes after {name} are not zero. The file is damaged; get it again."
                )

    def _view(self, piece: Piece, what: str) -> npt.NDArray[np.uint8]:
        return self._file.view(piece.offset, piece.num_bytes, what)

    @staticmethod
    def recognizes(path: str | os.PathLike[str]) -> bool:
        """Say whether a file begins like a `.tercet` file; False if it cannot be read."""
        try:
            # Only a regular file is opened: a pipe would make us wait for its writer.
            if not Path(path).is_file():
                return False
            with Path(path).open("rb") as file:
                return file.read(len(MAGIC)) == MAGIC
        except (OSError, ValueError):  # ValueError: a name with a zero byte
            return False
