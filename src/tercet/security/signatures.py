"""Signatures of manifests, as minisign makes them: who vouches for the files of a model.

    minisign -G                                     makes a pair of keys: minisign.pub and a secret one
    minisign -S -m manifest.sha256                  signs: manifest.sha256.minisig appears beside it
    TERCET_MODEL_KEYS=minisign.pub tercet serve     opens models whose manifest one of these keys has signed

A signature is four lines:

    untrusted comment: anything
    base64 of  "ED" | key id, 8 bytes | Ed25519 of the BLAKE2b-512 of the file, 64 bytes
               ("Ed" in older ones: Ed25519 of the file itself)
    trusted comment: timestamp:1790000000 file:manifest.sha256
    base64 of  Ed25519 of the 64 bytes above and the trusted comment

and a public key two: a comment, and base64 of "Ed" | key id | the key, 32 bytes. Curve arithmetic is done by
the package `cryptography` (extra `security`); without it a signed model is refused, never waved through. We
only verify: secret keys stay with minisign.

Source: https://jedisct1.github.io/minisign/, section "Signature format".
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
from collections.abc import Iterable

from tercet.environment import optional_import
from tercet.errors import FormatError, UntrustedModelError

__all__ = ["PublicKey", "read_public_key", "verify_signature"]

MAX_BYTES = 8192
_COMMENT, _TRUSTED = "untrusted comment: ", "trusted comment: "


@dataclasses.dataclass(frozen=True)
class PublicKey:
    """A key of minisign."""

    key_id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The id as minisign prints it."""
        return self.key_id[::-1].hex().upper()


def read_public_key(text: str, where: str = "the public key") -> PublicKey:
    """Return the key in a file of minisign's, or in the one line of it that is no comment.

    Raises:
        FormatError: it is none.
    """
    lines = text.strip().splitlines()
    if len(lines) == 2 and lines[0].startswith(_COMMENT):
        lines = lines[1:]
    data = _decoded(lines[0], 42, where) if len(lines) == 1 else b""
    if data[:2] != b"Ed":
        raise FormatError(f"{where} is no public key of minisign: one line, or a comment and a line")
    return PublicKey(data[2:10], data[10:])


def verify_signature(data: bytes, signature: str, keys: Iterable[PublicKey], where: str) -> str:
    """Check that one of `keys` signed `data`, and return the trusted comment.

    Raises:
        FormatError: it is no signature.
        UntrustedModelError: it is by another key, or of other bytes.
        MissingExtraError: the package that verifies is not installed.
    """
    lines = signature.removesuffix("\n").replace("\r\n", "\n").split("\n")
    if (
        len(signature) > MAX_BYTES
        or len(lines) != 4
        or not lines[0].startswith(_COMMENT)
        or not lines[2].startswith(_TRUSTED)
    ):
        raise FormatError(f"{where} is no signature of minisign: expected four lines, two of them comments")
    signed, whole = _decoded(lines[1], 74, where), _decoded(lines[3], 64, where)
    if (algorithm := signed[:2]) not in (b"ED", b"Ed"):
        raise FormatError(f"{where} has the algorithm {algorithm!r}, expected b'ED' or b'Ed'")
    known = {key.key_id: key for key in keys}
    key = known.get(signed[2:10])
    if key is None:
        by = PublicKey(signed[2:10], b"").name
        names = ", ".join(sorted(key.name for key in known.values())) or "none"
        raise UntrustedModelError(f"{where} is by the key {by}; the trusted keys are: {names}")
    comment = lines[2].removeprefix(_TRUSTED)
    message = hashlib.blake2b(data).digest() if algorithm == b"ED" else data
    if not (_is_valid(key, signed[10:], message) and _is_valid(key, whole, signed[10:] + comment.encode())):
        raise UntrustedModelError(
            f"{where} does not fit the bytes that it is said to sign: they were changed"
        )
    return comment


def _decoded(line: str, num_bytes: int, where: str) -> bytes:
    try:
        data = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"{where}: {line[:20]!r} is not base64") from error
    if len(data) != num_bytes:
        raise FormatError(f"{where}: {len(data)} bytes of base64, expected {num_bytes}")
    return data


def _is_valid(key: PublicKey, signature: bytes, message: bytes) -> bool:
    ed25519 = optional_import("cryptography.hazmat.primitives.asymmetric.ed25519", "security")
    exceptions = optional_import("cryptography.exceptions", "security")
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except (exceptions.InvalidSignature, ValueError):
        return False
    return True
