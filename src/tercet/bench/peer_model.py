"""A GGUF file with random weights, so that a peer measures the same shape in its own format.

Architecture, tensors and metadata are those of a real model of the shape; the vocabulary is one that every
loader accepts: bytes, and words without a meaning. Rows are drawn, packed as the peer's type wants them and
repeated, as in `tercet.bench.random_model`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.bench.random_model import SHARE_OF_ZEROS, repeated
from tercet.errors import ParameterError
from tercet.formats.gguf.model_writer import model_metadata
from tercet.formats.gguf.tensor_names import to_gguf
from tercet.formats.gguf.tensor_types import CANDIDATES, WRITABLE_FLOATS, WRITABLE_TERNARY, TensorType
from tercet.formats.gguf.values import uint32
from tercet.formats.gguf.vocabulary import GgufVocabulary, TokenType
from tercet.formats.gguf.writer import GgufPlan, GgufTensorPlan, create_gguf
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import is_ternary, tensor_shapes

__all__ = ["HEAD_TYPES", "PEER_TYPES", "peer_plan", "write_peer_model"]

PEER_TYPES = ("IQ2_BN", "TQ2_0", "TQ1_0", "I2_S", "F16", "BF16")
HEAD_TYPES = ("F16", "Q6_K", "Q4_0", "Q8_0", "BF16")
POOL_ROWS = 2048
_FILE_TYPES = {"IQ2_BN": 136, "TQ2_0": 37, "TQ1_0": 36, "I2_S": 40, "F16": 1, "BF16": 32}
_KINDS: dict[str, TensorType] = {kind.name: kind for kinds in CANDIDATES.values() for kind in kinds}
_I2_S_TAIL = 32

Bytes = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class _DrawnTensor(GgufTensorPlan):
    """A tensor of any type that has a size: its bytes are drawn, not encoded."""

    def __post_init__(self) -> None:
        if not self.num_bytes:
            raise ParameterError(f"{self.name} of shape {list(self.shape)} cannot be of type {self.type}")

    @property
    def tensor_type(self) -> TensorType:
        """The type as the reader knows it."""
        return _KINDS[self.type]


def peer_plan(config: ModelConfig, type_name: str, head_type: str) -> GgufPlan:
    """What the file of a shape holds.

    Raises:
        ParameterError: there is no such type, it cannot hold the shape, or no peer runs such a model.
    """
    for kind, known in ((type_name, PEER_TYPES), (head_type, HEAD_TYPES)):
        if kind not in known:
            raise ParameterError(f"a peer's model is written with one of {', '.join(known)}, not {kind!r}")
    metadata = model_metadata(config.to_dict(), "F16", vocabulary=_vocabulary(config), name="random")
    metadata["general.file_type"] = uint32(_FILE_TYPES[type_name])
    tensors = []
    for name, shape in tensor_shapes(config).items():
        kind = "F32" if len(shape) == 1 else type_name if is_ternary(name) else head_type
        tensors.append(_DrawnTensor(to_gguf(name) or name, kind, shape))
    return GgufPlan(metadata, tensors)


def write_peer_model(path: Path, plan: GgufPlan, seed: int = 0) -> None:
    """Write the file.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    random = np.random.Generator(np.random.SFC64(seed))
    pools: dict[tuple[str, int], Bytes] = {}
    with create_gguf(path, plan) as writer:
        for tensor in plan.tensors:
            depth = tensor.shape[-1]
            key = (tensor.type, depth)
            if key not in pools:
                pools[key] = _rows(tensor.type, depth, random)
            writer.write_tensor(tensor.name, _pieces(tensor, pools[key]))


def _pieces(tensor: GgufTensorPlan, pool: Bytes) -> Iterator[Bytes]:
    yield from repeated(pool, math.prod(tensor.shape[:-1]))
    if tensor.type == "I2_S":
        tail = np.zeros(_I2_S_TAIL, np.uint8)
        tail[:4] = np.array([_spread(tensor.shape[-1])], "<f4").view(np.uint8)
        yield tail


def _rows(kind: str, depth: int, random: np.random.Generator) -> Bytes:
    """POOL_ROWS rows as they are stored, uint8 [rows, bytes of a row]."""
    if kind == "F32":
        return np.ones((1, depth), "<f4").view(np.uint8)
    if kind == "Q6_K":
        return _q6_k(depth, random)
    if kind in WRITABLE_FLOATS:
        values = random.standard_normal((POOL_ROWS, depth), np.float32) / np.float32(math.sqrt(depth))
        form = WRITABLE_FLOATS[kind]
        if form.pack is None:
            raise ParameterError(f"{kind} cannot be written")
        return form.pack(values.reshape(-1, form.block_weights)).reshape(POOL_ROWS, -1)
    drawn = random.random((POOL_ROWS, depth), np.float32)
    half = (1 - SHARE_OF_ZEROS) / 2
    codes = (drawn > 1 - half).astype(np.int8) - (drawn < half).astype(np.int8)
    if kind in WRITABLE_TERNARY:
        blocks = codes.reshape(-1, WRITABLE_TERNARY[kind].block_weights)
        pack = WRITABLE_TERNARY[kind].pack
        if pack is None:
            raise ParameterError(f"{kind} cannot be written")
        factors = np.full(len(blocks), _spread(depth), np.float32)
        ternary: Bytes = pack(blocks, factors).reshape(POOL_ROWS, -1)
        return ternary
    # Two bits a weight, four weights with a distance in a byte; see tensor_types for the layouts.
    apart, first_highest = {"IQ2_BN": (16, False), "I2_S": (32, True)}[kind]
    shifts = np.array([6, 4, 2, 0] if first_highest else [0, 2, 4, 6], np.uint8)
    fields = (codes + np.int8(1)).view(np.uint8).reshape(POOL_ROWS, -1, 4, apart) << shifts[:, None]
    packed: Bytes = np.bitwise_or.reduce(fields, axis=2).reshape(POOL_ROWS, -1)
    if kind == "I2_S":
        return packed
    scales = np.full((POOL_ROWS, 1), _spread(depth), "<f4").view(np.uint8)
    return np.concatenate([scales, packed], axis=1)


def _q6_k(depth: int, random: np.random.Generator) -> Bytes:
    """Blocks whose numbers and scales are drawn, so that values are about as large as real ones."""
    blocks = random.integers(0, 256, (POOL_ROWS * depth // 256, 210), np.uint8)
    blocks[:, 192:208] = random.integers(8, 32, (len(blocks), 16), np.uint8)
    largest = np.array([1 / (18.5 * 20 * math.sqrt(depth))], "<f2")  # 18.5, 20: usual number and scale
    blocks[:, 208:] = largest.view(np.uint8)
    return blocks.reshape(POOL_ROWS, -1)


def _spread(depth: int) -> float:
    return 1 / math.sqrt(depth * (1 - SHARE_OF_ZEROS))


def _vocabulary(config: ModelConfig) -> GgufVocabulary:
    """A vocabulary in the manner of SentencePiece, for models that will never see a text."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL] + [TokenType.BYTE] * 256
    rest = config.vocab_size - len(names)
    if rest < 0:
        raise ParameterError(f"a peer's vocabulary has at least {len(names)} tokens, not {config.vocab_size}")
    names += [f"\u2581w{index}" for index in range(rest)]
    types: list[Any] = [*kinds, *[TokenType.NORMAL] * rest]
    return GgufVocabulary(
        model="llama",
        pre="default",
        tokens=tuple(names),
        scores=-np.arange(len(names), dtype=np.float32),
        types=np.array(types, np.int64),
        merges=None,
        special_ids={"bos": 1, "eos": 2, "unknown": 0},
        flags={"add_bos_token": True, "add_eos_token": False},
        precompiled_charsmap=None,
        chat_templates={},
    )
