"""Signatures as minisign makes them, for tests: its format written a second time, from its documentation."""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_ID = b"tercet\0\1"


def public_key(secret: Ed25519PrivateKey) -> str:
    raw = b"Ed" + KEY_ID + secret.public_key().public_bytes_raw()
    return f"untrusted comment: a key for tests\n{base64.b64encode(raw).decode()}\n"


def signature(secret: Ed25519PrivateKey, data: bytes, comment: str = "for tests") -> str:
    first = secret.sign(hashlib.blake2b(data).digest())
    whole = secret.sign(first + comment.encode())
    lines = (
        "untrusted comment: of a test",
        base64.b64encode(b"ED" + KEY_ID + first).decode(),
        f"trusted comment: {comment}",
        base64.b64encode(whole).decode(),
    )
    return "".join(f"{line}\n" for line in lines)
