"""What the files of a model were when somebody vouched for them: a name and a SHA-256 a line.

    5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03  config.json
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  model.safetensors

The file is called `manifest.sha256` and lies in the model's folder, or beside a model that is one file. It
is what `sha256sum` writes, so that `sha256sum --check manifest.sha256` says the same as we do, and
`minisign -S -m manifest.sha256` signs it (`tercet.security.signatures`).

This module knows the text and compares; which files a model reads is known to `tercet.models.provenance`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from tercet.errors import ChecksumError, FormatError
from tercet.security.paths import is_safe_path

__all__ = [
    "MANIFEST",
    "SIGNATURE",
    "check_digest",
    "files_of",
    "parse_manifest",
    "sha256_of",
    "write_manifest",
]

MANIFEST = "manifest.sha256"
SIGNATURE = MANIFEST + ".minisig"
MAX_BYTES = 1 << 20
MAX_FILES = 10_000
CHUNK_BYTES = 1 << 20
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<path>[^\n]+)")


def parse_manifest(data: bytes, where: str = MANIFEST) -> dict[str, str]:
    """Return path -> SHA-256 in hexadecimal digits.

    Raises:
        FormatError: it is no manifest, names a file twice, or one outside its folder.
    """
    if len(data) > MAX_BYTES:
        raise FormatError(f"{where} is {len(data)} bytes long, expected at most {MAX_BYTES}")
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"{where} is not UTF-8 text, expected what `sha256sum` writes") from error
    digests: dict[str, str] = {}
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise FormatError(f"{where}, line {number}: expected a SHA-256, two blanks and a path")
        path = match["path"]
        if not is_safe_path(path):
            raise FormatError(f"{where}, line {number}: {path[:80]!r} is no path inside the folder")
        if path.lower() in seen:  # on some file systems these are one file
            raise FormatError(f"{where}, line {number}: {path} is named twice")
        seen.add(path.lower())
        if len(digests) >= MAX_FILES:
            raise FormatError(f"{where} names more than {MAX_FILES} files")
        digests[path] = match["digest"]
    return digests


def write_manifest(digests: Mapping[str, str]) -> bytes:
    """Return the text of a manifest, sorted by path.

    Raises:
        FormatError: a path could lead out of the folder somewhere, or there is no file.
    """
    data = "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode()
    parse_manifest(data)
    return data


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of the rest of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def check_digest(path: str, found: str, expected: str) -> None:
    """Compare what a file is with what the manifest says of it.

    Raises:
        ChecksumError: they differ.
    """
    if not hmac.compare_digest(found, expected):
        raise ChecksumError(
            f"{path} has the SHA-256 {found[:16]}..., but {MANIFEST} says {expected[:16]}.... "
            "It was changed or damaged; get it again."
        )


def files_of(folder: Path) -> Iterator[str]:
    """Yield the paths in a folder that its manifest must name: all but its own and those in hidden folders.

    A link to a folder is one of them, which no manifest can name: what is behind it is not in the folder.
    """
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts[:-1])
        is_file = path.is_symlink() or not path.is_dir()
        if is_file and not hidden and relative.as_posix() not in (MANIFEST, SIGNATURE):
            yield relative.as_posix()
