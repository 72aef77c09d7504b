"""GGUF files made by hand, byte by byte, for tests that take them apart.

Nothing here uses the code under test. The packers of the ternary types are loops over the sentences of the
formats' descriptions, slow and plain; `container` writes whatever it is told, right or wrong.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
FORMATS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))


@dataclasses.dataclass
class Tensor:
    """One tensor of a file to be made; `dims` has the fastest dimension first, as a file has."""

    name: str | bytes
    dims: Sequence[int]
    type_id: int
    data: bytes
    offset: int | None = None
    """If it is not the right one."""


def string(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def scalar(value_type: int, value: Any) -> bytes:
    return string(value) if value_type == STRING else struct.pack("<" + FORMATS[value_type], value)


def array(element: int, values: Sequence[Any], length: int | None = None) -> bytes:
    """The content of an array value; `length` may lie."""
    front = struct.pack("<IQ", element, len(values) if length is None else length)
    return front + b"".join(scalar(element, value) for value in values)


def container(
    values: Sequence[tuple[str | bytes, int, bytes]] = (),
    tensors: Sequence[Tensor] = (),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    num_tensors: int | None = None,
    num_values: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A file of (key, type, content) values and tensors; counts may lie."""
    counts = (
        len(tensors) if num_tensors is None else num_tensors,
        len(values) if num_values is None else num_values,
    )
    front = magic + struct.pack("<I", version) + struct.pack("<QQ", *counts)
    for key, value_type, content in values:
        front += string(key) + struct.pack("<I", value_type) + content
    offset, body = 0, b""
    for tensor in tensors:
        front += string(tensor.name) + struct.pack(f"<I{len(tensor.dims)}Q", len(tensor.dims), *tensor.dims)
        front += struct.pack("<IQ", tensor.type_id, offset if tensor.offset is None else tensor.offset)
        body += tensor.data + bytes(-len(tensor.data) % alignment)
        offset += len(tensor.data) + -len(tensor.data) % alignment
    return front + bytes(-len(front) % alignment) + body


# Packers: codes -1, 0, +1 (int8 [rows, depth]) and a scale for each block or row -> bytes


def half(value: float) -> bytes:
    return np.float16(value).tobytes()


def base_three_byte(digits: Sequence[int]) -> int:
    """Five codes, most significant first, as a fraction of 256; fewer are filled up with zeros at the end."""
    number = 0
    for index in range(5):
        number = 3 * number + (digits[index] + 1 if index < len(digits) else 0)
    return -(-number * 256 // 243)


def tq1_0(
    codes: np.ndarray, scale: float, stages: Sequence[tuple[int, int]] = ((32, 5), (16, 5), (4, 4))
) -> bytes:
    made, start = b"", 0
    for num_bytes, num_digits in stages:
        for m in range(num_bytes):
            digits = [int(codes[start + num_bytes * n + m]) for n in range(num_digits)]
            made += bytes([base_three_byte(digits)])
        start += num_bytes * num_digits
    return made + half(scale)


def ptq1_0(codes: np.ndarray, scale: float) -> bytes:
    return tq1_0(codes, scale, ((16, 5), (8, 5), (2, 4)))


def tq2_0(codes: np.ndarray, scale: float) -> bytes:
    made = bytearray(64)
    for index, code in enumerate(codes):
        h, rest = divmod(index, 128)
        field, m = divmod(rest, 32)
        made[32 * h + m] |= (int(code) + 1) << 2 * field
    return bytes(made) + half(scale)


def q2_0(codes: np.ndarray, scale: float) -> bytes:
    made = bytearray(len(codes) // 4)
    for index, code in enumerate(codes):
        made[index // 4] |= (int(code) + 1) << 2 * (index % 4)
    return half(scale) + bytes(made)


def q1_0(codes: np.ndarray, scale: float) -> bytes:
    made = bytearray(16)
    for index, code in enumerate(codes):
        made[index // 8] |= (code > 0) << index % 8
    return half(scale) + bytes(made)


def blocks(pack: Callable[[np.ndarray, float], bytes], codes: np.ndarray, scales: np.ndarray) -> bytes:
    """A whole matrix, one scale for each block; scales has the shape [rows, blocks in a row]."""
    rows = [np.split(row, scales.shape[1]) for row in codes]
    return b"".join(
        pack(block, float(scale))
        for row, of_row in zip(rows, scales, strict=True)
        for block, scale in zip(row, of_row, strict=True)
    )


def iq2_bn(codes: np.ndarray, scales: np.ndarray) -> bytes:
    made = b""
    for row, scale in zip(codes, scales, strict=True):
        made += np.float32(scale).tobytes()
        for block in row.reshape(-1, 64):
            packed = [sum((int(block[j + 16 * k]) + 1) << 2 * k for k in range(4)) for j in range(16)]
            made += bytes(packed)
    return made


def iq2_bn_r4(codes: np.ndarray, scales: np.ndarray) -> bytes:
    made = b""
    for start in range(0, len(codes), 4):
        made += scales[start : start + 4].astype("<f4").tobytes()
        for block in range(codes.shape[1] // 64):
            for g in range(4):
                for r in range(4):
                    row = codes[start + r, 64 * block + 16 * g :]
                    made += bytes(sum((int(row[4 * k + i]) + 1) << 2 * k for k in range(4)) for i in range(4))
    return made


def iq1_bn(codes: np.ndarray, scales: np.ndarray) -> bytes:
    made = b""
    for row, scale in zip(codes, scales, strict=True):
        made += half(float(scale))
        for block in row.reshape(-1, 4, 16):
            for sixteen in block:
                for k in range(3):
                    made += bytes([base_three_byte([int(code) for code in sixteen[5 * k : 5 * k + 5][::-1]])])
            last = [0, *(int(sixteen[15]) + 1 for sixteen in block[::-1])]
            number = sum(digit * 3**place for place, digit in enumerate(last[::-1]))
            made += bytes([-(-number * 256 // 243)])
    return made


def i2_s(codes: np.ndarray, scale: float, layout: str = "canonical") -> bytes:
    rows, depth = codes.shape
    size = {"rows": depth, "canonical": 32, "arm": 16}[layout]  # how far apart the weights of a byte are
    block, j, q = np.ogrid[: rows * depth // (4 * size), :size, :4]
    fields = codes.reshape(-1)[4 * size * block + size * q + j].reshape(-1, 4).astype(np.uint8) + np.uint8(1)
    packed = fields[:, 0] << 6 | fields[:, 1] << 4 | fields[:, 2] << 2 | fields[:, 3]
    return packed.tobytes() + np.float32(scale).tobytes() + b"left over from before, 28 b."


def random_codes(rows: int, depth: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, (rows, depth)).astype(np.int8)


# A small model, and a file with every type

VOCABULARY = ["<unk>", "<s>", "</s>", "a", "b", "ab", "c", "é"]
HIDDEN, FFN, HEADS, KV_HEADS = 256, 512, 4, 2
SHAPES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (HIDDEN // 2, HIDDEN),
    "attn_v": (HIDDEN // 2, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (FFN, HIDDEN),
    "ffn_up": (FFN, HIDDEN),
    "ffn_down": (HIDDEN, FFN),
}


def metadata(
    architecture: str = "bitnet", changes: Mapping[str, tuple[int, bytes] | None] | None = None
) -> list[tuple[str, int, bytes]]:
    """The values of a small model; `changes` replaces, adds or (None) removes some of them."""
    own = {
        "context_length": (UINT32, 64),
        "embedding_length": (UINT32, HIDDEN),
        "block_count": (UINT32, 1),
        "feed_forward_length": (UINT32, FFN),
        "attention.head_count": (UINT32, HEADS),
        "attention.head_count_kv": (UINT32, KV_HEADS),
        "attention.layer_norm_rms_epsilon": (FLOAT32, 1e-5),
        "rope.freq_base": (FLOAT32, 10000.0),
        "rope.dimension_count": (UINT32, 64),
    }
    values = {
        "general.architecture": (STRING, string(architecture)),
        **{f"{architecture}.{key}": (kind, scalar(kind, value)) for key, (kind, value) in own.items()},
        "tokenizer.ggml.model": (STRING, string("llama")),
        "tokenizer.ggml.tokens": (ARRAY, array(STRING, VOCABULARY)),
        "tokenizer.ggml.scores": (ARRAY, array(FLOAT32, [0.0] * len(VOCABULARY))),
        "tokenizer.ggml.token_type": (ARRAY, array(INT32, [2, 3, 3, 1, 1, 1, 1, 1])),
        "tokenizer.ggml.bos_token_id": (UINT32, scalar(UINT32, 1)),
        "tokenizer.ggml.eos_token_id": (UINT32, scalar(UINT32, 2)),
        "tokenizer.ggml.add_bos_token": (BOOL, scalar(BOOL, True)),
        "tokenizer.chat_template": (STRING, string("{{ messages[0].content }}")),
    }
    for key, change in (changes or {}).items():
        if change is None:
            values.pop(key, None)
        else:
            values[key] = change
    return [(key, kind, content) for key, (kind, content) in values.items()]


def float_tensor(name: str, *shape: int, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).standard_normal(shape).astype("<f4")
    return Tensor(name, shape[::-1], 0, values.tobytes())


def model_tensors(
    projection: Callable[[str, tuple[int, int]], Tensor], *, sub_norms: bool = True
) -> list[Tensor]:
    """The tensors of the small model; `projection` makes each matrix from its name and shape."""
    tensors = [float_tensor("token_embd.weight", len(VOCABULARY), HIDDEN)]
    norms = {"attn_norm": HIDDEN, "ffn_norm": HIDDEN}
    norms |= {"attn_sub_norm": HIDDEN, "ffn_sub_norm": FFN} if sub_norms else {}
    tensors += [float_tensor(f"blk.0.{name}.weight", width) for name, width in norms.items()]
    tensors += [projection(f"blk.0.{name}.weight", shape) for name, shape in SHAPES.items()]
    return [*tensors, float_tensor("output_norm.weight", HIDDEN)]


def q2_0_projection(name: str, shape: tuple[int, int]) -> Tensor:
    """Q2_0 is the least work to pack of the types that every reader knows."""
    codes = random_codes(*shape, seed=len(name))
    fields = (codes + 1).astype(np.uint8).reshape(-1, 16, 4)
    packed = fields[..., 0] | fields[..., 1] << 2 | fields[..., 2] << 4 | fields[..., 3] << 6
    scales = np.full((len(packed), 1), 0.25, "<f2").view(np.uint8)
    return Tensor(name, shape[::-1], 42, np.concatenate([scales, packed], axis=1).tobytes())


def write_small_model(path: Path, architecture: str = "bitnet") -> Path:
    path.write_bytes(container(metadata(architecture), model_tensors(q2_0_projection)))
    return path


TYPES: dict[str, tuple[int, Callable[[np.ndarray, float], bytes]]] = {
    "TQ1_0": (
        34,
        lambda codes, scale: blocks(tq1_0, codes, np.full((len(codes), codes.shape[1] // 256), scale)),
    ),
    "TQ2_0": (
        35,
        lambda codes, scale: blocks(tq2_0, codes, np.full((len(codes), codes.shape[1] // 256), scale)),
    ),
    "I2_S": (36, lambda codes, scale: i2_s(codes, scale)),
    "Q2_0": (
        42,
        lambda codes, scale: blocks(q2_0, codes, np.full((len(codes), codes.shape[1] // 64), scale)),
    ),
    "PQ2_0": (
        142,
        lambda codes, scale: blocks(q2_0, codes, np.full((len(codes), codes.shape[1] // 128), scale)),
    ),
    "PTQ1_0": (
        143,
        lambda codes, scale: blocks(ptq1_0, codes, np.full((len(codes), codes.shape[1] // 128), scale)),
    ),
    "IQ1_BN": (134, lambda codes, scale: iq1_bn(codes, np.full(len(codes), scale))),
    "IQ2_BN": (135, lambda codes, scale: iq2_bn(codes, np.full(len(codes), scale, np.float32))),
    "IQ2_BN_R4": (335, lambda codes, scale: iq2_bn_r4(codes, np.full(len(codes), scale, np.float32))),
    "F32": (0, lambda codes, scale: (codes * np.float32(scale)).astype("<f4").tobytes()),
    "F16": (1, lambda codes, scale: (codes * np.float32(scale)).astype("<f2").tobytes()),
    "BF16": (
        30,
        lambda codes, scale: ((codes * np.float32(scale)).view(np.uint32) >> 16).astype("<u2").tobytes(),
    ),
}
"""Every type that holds ternary weights of one scale, by name: its number, and its packer."""
SCALE = 0.375
"""Exact in every float type."""


def write_every_type(path: Path) -> Path:
    """A small file with a ternary matrix of every type that can hold one, and real values in every other."""
    tensors = []
    for name, (number, pack) in TYPES.items():
        codes = random_codes(*((2, 32) if name in ("F32", "F16", "BF16") else (4, 256)), seed=5)
        tensors.append(Tensor(name, codes.shape[::-1], number, pack(codes, SCALE)))
    random = np.random.default_rng(6)
    for name, number, num_bytes in (
        ("Q4_0", 2, 18),
        ("Q4_1", 3, 20),
        ("Q5_0", 6, 22),
        ("Q5_1", 7, 24),
        ("Q8_0", 8, 34),
    ):
        block = bytearray(random.bytes(num_bytes))
        block[0:2] = half(0.5)
        block[2:4] = half(0.25)
        tensors.append(Tensor(name, (32,), number, bytes(block)))
    for name, number, num_bytes in (("Q4_K", 12, 144), ("Q5_K", 13, 176), ("Q6_K", 14, 210)):
        block = bytearray(random.bytes(num_bytes))
        block[0:4] = half(0.5) + half(0.25)
        block[-2:] = half(0.5)
        tensors.append(Tensor(name, (256,), number, bytes(block)))
    path.write_bytes(container(metadata(), tensors))
    return path
