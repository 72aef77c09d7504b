"""What one kind of untrusted bytes is; `untrusted_kinds` has all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from damage import Damage, damaged_bytes
from tercet.errors import FormatError, TercetError, UnsupportedModelError

Read = Callable[[bytes], object]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of bytes."""

    wholes: Callable[[Path], Sequence[bytes]]
    open: Callable[[Path], Read]
    damage: Damage = damaged_bytes
    refusals: tuple[type[TercetError], ...] = (FormatError, UnsupportedModelError)
    share: int = 10
    """How many are tried, in relation to other kinds; fewer where one takes long."""
    ends_matter: bool = False
    """Whether a file that was cut off anywhere must be refused. (Some texts cut off are texts, too.)"""


def from_file(read: Callable[[Path], object], name: str = "file") -> Callable[[Path], Read]:
    """Make a reader of bytes of a reader of files. No file is changed in place: it may still be mapped."""

    def open_in(folder: Path) -> Read:
        path = folder / name

        def read_bytes(data: bytes) -> object:
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            return read(path)

        return read_bytes

    return open_in


def constant(*wholes: Callable[[], bytes]) -> Callable[[Path], Sequence[bytes]]:
    return lambda folder: [whole() for whole in wholes]
