"""Damage to files, made so that it strikes what readers rely on: lengths, offsets, types, names, structure.

Every function takes a sound file and a random generator, so that a number, the seed, stands for the damage.
"""

from __future__ import annotations

import base64
import copy
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["Damage", "damaged_bytes", "damaged_json", "damaged_ranks", "damaged_text"]

Random = np.random.Generator
Damage = Callable[[bytes, Random], bytes]

NUMBERS = [
    *(0, 1, 2, 7, 8, 31, 32, 63, 64, 127, 128, 255, 256, 2**15, 2**16),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1),
]
"""Where arithmetic changes its mind."""
FRONT_BYTES = 4096
"""Headers are in front; a flip among weights teaches little."""


def damaged_bytes(whole: bytes, random: Random) -> bytes:
    """Change a few bytes, put in a suspicious number, cut or double a piece; most often in the front."""
    data = bytearray(whole)
    for _ in range(random.integers(1, 4)):
        front = min(len(data), FRONT_BYTES) if random.random() < 0.7 else len(data)
        at = int(random.integers(0, max(1, front)))
        kind = random.integers(0, 6)
        if kind <= 1:
            for position in range(at, min(len(data), at + int(random.integers(1, 4)))):
                data[position] = int(random.integers(0, 256))
        elif kind == 2:
            number = NUMBERS[random.integers(0, len(NUMBERS))]
            packed = struct.pack("<Q", number)[: int(random.choice([1, 2, 4, 8]))]
            data[at : at + len(packed)] = packed
        elif kind == 3:
            del data[at : at + int(random.integers(1, 64))]
        elif kind == 4:
            data[at:at] = data[at : at + int(random.integers(1, 64))]
        elif random.random() < 0.3:
            del data[at:]
        else:
            piece = random.bytes(int(random.integers(1, 32)))
            data[at : at + len(piece)] = piece
    return bytes(data)


# JSON ---------------------------------------------------------------------------------------------

_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31 - 1, 2**31, 2**63 - 1, 2**64, 10**30),
    *(
        0.5,
        -0.0,
        1e-45,
        1e38,
        1e308,
        "",
        " ",
        "x",
        "\0",
        "../x",
        "/etc/passwd",
        "é",
        "\U000f0000",
        "a" * 3000,
    ),
    *([], {}, [[]], [{}], {"": None}, [1, 2], ["x"], [None]),
]
_SPELLINGS = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b'"\\ud800"',
    b"1" * 5000,
    b"[" * 3000,
    b'{"a":' * 3000,
]
"""What only the text of a JSON file can say."""


def damaged_json(whole: bytes, random: Random) -> bytes:
    """Change values, types, keys and order of a JSON document; now and then its bytes as well."""
    value = json.loads(whole)
    for _ in range(random.integers(1, 4)):
        value = _edited(value, random)
    text = json.dumps(value, separators=(",", ":")).encode()
    what = random.random()
    if what < 0.1:
        at = int(random.integers(0, len(text) + 1))
        spelling = _SPELLINGS[random.integers(0, len(_SPELLINGS))]
        return text[:at] + spelling + text[at:]
    return damaged_bytes(text, random) if what < 0.3 else text


def _edited(root: Any, random: Random) -> Any:
    """Walk down to some place, the deeper the rarer, and change what is there."""
    path: list[tuple[Any, Any]] = []
    value = root
    while isinstance(value, dict | list) and value and random.random() < 0.9:
        keys: Sequence[Any] = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[random.integers(0, len(keys))]
        path.append((value, key))
        value = value[key]
    if not path:
        return _other(value, random)
    holder, key = path[-1]
    kind = random.integers(0, 8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(_other(key, random))[:100]] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder.insert(key, json.loads(json.dumps(value)))
    elif kind == 3:
        holder[key] = [value]
    elif kind == 4:
        holder[key] = {"x": value}
    else:
        holder[key] = _other(value, random)
    return root


def _other(value: Any, random: Random) -> Any:
    """Return something else, often of the same type."""
    if random.random() < 0.5:
        if type(value) is int:
            return int(random.choice([value - 1, value + 1, -value, 2 * value, value * 1000, 0, 1]))
        if type(value) is float:
            return float(random.choice([-value, value * 2, value / 1e6, value * 1e6, 0.0]))
        if isinstance(value, str) and value:
            at = int(random.integers(0, len(value)))
            return random.choice(
                [value[:at], value[at:], value + value, value[:at] + "�" + value[at:], value.upper()]
            ).item()
        if isinstance(value, bool):
            return not value
    return copy.deepcopy(_VALUES[random.integers(0, len(_VALUES))])


# Text with a grammar ------------------------------------------------------------------------------


def damaged_text(pieces: Sequence[str]) -> Damage:
    """Return damage that also puts in, doubles and swaps pieces of the grammar of a text."""

    def damage(whole: bytes, random: Random) -> bytes:
        text = whole.decode()
        for _ in range(random.integers(1, 5)):
            at, end = sorted(random.integers(0, len(text) + 1, 2).tolist())
            kind = random.integers(0, 4)
            if kind == 0:
                text = text[:at] + text[min(end, at + 20) :]
            elif kind == 1:
                text = text[:end] + text[at : min(end, at + 200)] + text[end:]
            else:
                text = text[:at] + pieces[random.integers(0, len(pieces))] + text[at:]
        data = text.encode()
        return damaged_bytes(data, random) if random.random() < 0.2 else data

    return damage


# Lines with numbers -------------------------------------------------------------------------------


def damaged_ranks(whole: bytes, random: Random) -> bytes:
    """Change, swap, double or drop tokens of a file of tiktoken; mostly its ranks are then in order again."""
    lines = [line.partition(b" ") for line in whole.splitlines()]
    tokens, ranks = [line[0] for line in lines], [line[2] for line in lines]
    for _ in range(random.integers(1, 4)):
        at, other = (int(number) for number in random.integers(0, len(tokens), 2))
        kind = random.integers(0, 4)
        if kind == 0:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        elif kind == 1:
            tokens[at] = base64.b64encode(random.bytes(int(random.choice([0, 1, 2, 3, 60, 2000]))))
        elif kind == 2:
            tokens.insert(
                at, base64.b64encode(base64.b64decode(tokens[at]) + base64.b64decode(tokens[other]))
            )
        else:
            del tokens[at]
    if random.random() < 0.9:
        ranks = [b"%d" % rank for rank in range(len(tokens))]
    data = b"".join(token + b" " + rank + b"\n" for token, rank in zip(tokens, ranks, strict=False))
    return damaged_bytes(data, random) if random.random() < 0.2 else data
