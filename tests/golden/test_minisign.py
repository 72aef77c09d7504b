"""Signatures that minisign 0.11 itself made: today's code must still accept them, and nothing near them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tercet.errors import FormatError, UntrustedModelError
from tercet.security.signatures import PublicKey, read_public_key, verify_signature

FILES = Path(__file__).parent / "minisign"
DATA = (FILES / "manifest.sha256").read_bytes()
KEY = read_public_key((FILES / "minisign.pub").read_text())
KINDS = ["prehashed", "legacy"]


def signature(kind: str) -> str:
    return (FILES / f"{kind}.minisig").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_what_minisign_signed_is_accepted(kind: str) -> None:
    assert verify_signature(DATA, signature(kind), [KEY], "it") == "made for a test"
    assert KEY.name == "34275D7F9B168FF7"
    assert read_public_key((FILES / "minisign.pub").read_text().splitlines()[1]) == KEY


@pytest.mark.parametrize("kind", KINDS)
def test_other_bytes_keys_and_comments_are_refused(kind: str) -> None:
    whole = signature(kind)
    for data, text, keys in (
        (DATA + b"\n", whole, [KEY]),
        (DATA[:-1], whole, [KEY]),
        (DATA, whole.replace("for a test", "for a joke"), [KEY]),
        (DATA, whole, []),
        (DATA, whole, [PublicKey(bytes(8), KEY.key)]),
        (DATA, whole, [PublicKey(KEY.key_id, bytes(32))]),
        (DATA, whole, [PublicKey(KEY.key_id, KEY.key[::-1])]),
    ):
        with pytest.raises(UntrustedModelError):
            verify_signature(data, text, keys, "it")


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_of_a_signature_is_noticed(kind: str) -> None:
    lines = signature(kind).splitlines()
    for line, step in ((1, 13), (3, 11)):
        raw = bytearray(base64.b64decode(lines[line]))
        for bit in range(0, 8 * len(raw), step):
            raw[bit // 8] ^= 1 << bit % 8
            damaged = [*lines]
            damaged[line] = base64.b64encode(raw).decode()
            with pytest.raises((UntrustedModelError, FormatError)):
                verify_signature(DATA, "\n".join(damaged), [KEY], "it")
            raw[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("text", ["", "x", "\n\n\n", "untrusted comment: x\n" * 4, "a\u00e9\nb\nc\nd"])
def test_what_is_no_signature_or_key_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        verify_signature(DATA, text, [KEY], "it")
    with pytest.raises(FormatError):
        read_public_key(text)


def test_minisign_itself_is_told_from_a_key_of_another_kind() -> None:
    with pytest.raises(FormatError, match="no public key"):
        read_public_key(base64.b64encode(b"RS" + bytes(40)).decode())
