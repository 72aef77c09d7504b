"""Whatever bytes the GGUF reader gets, it returns or raises `FormatError`, in memory that they account for.

The short form runs everywhere; `-m long` runs the same code on 200,000 damaged files, those of the
native format and of safetensors among them.
"""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gguf_files as g
from gguf_files import Tensor, container, metadata, random_codes, write_every_type
from small_files import write_small_file
from tercet.errors import FormatError, UnsupportedModelError
from tercet.formats.gguf import GgufFile, GgufModel, parse_kernel_config
from tercet.formats.gguf.i2_s_layout import find_i2_s_layout
from tercet.formats.safetensors import SafetensorsFile, write_safetensors
from tercet.formats.tercet import TercetFile

REFUSALS = (FormatError, UnsupportedModelError)
SHORT, LONG = 150, 40_000
KERNELS = parse_kernel_config("[a]\nm = 32\nk = 288\nbm = 32\nbk = 96\nbmm = 32\n")


def read_gguf(path: Path) -> None:
    """Open a file and look at everything in it. A refusal of one tensor must not keep us from the others."""
    file = GgufFile(path, KERNELS)
    for value in file.metadata.values():
        repr(value.value)
    for name in file.tensors:
        for call in (file.float32, file.ternary):
            with contextlib.suppress(FormatError):
                call(name)
    model = GgufModel(file)
    assert model.fields
    find_i2_s_layout(file)


def read_native(path: Path) -> None:
    file = TercetFile(path)
    for name in file.header.tensors:
        file.tensor(name)


def read_safetensors(path: Path) -> None:
    for tensor in SafetensorsFile(path).tensors.values():
        if tensor.float_type is not None:
            tensor.float32()


def write_gguf(path: Path) -> Path:
    return write_every_type(path)


def write_gguf_model(path: Path) -> Path:
    """A model so small that damage often strikes what gives it a meaning."""

    def projection(name: str, shape: tuple[int, int]) -> Tensor:
        return Tensor(name, shape[::-1], 36, g.i2_s(random_codes(*shape), 0.5))

    widths = {"embedding_length": 32, "feed_forward_length": 32, "attention.head_count": 2}
    widths |= {"attention.head_count_kv": 1, "rope.dimension_count": 16}
    changes = {f"llama.{key}": (g.UINT32, g.scalar(g.UINT32, value)) for key, value in widths.items()}
    shapes = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
    shapes |= {"ffn_gate": (32, 32), "ffn_up": (32, 32), "ffn_down": (32, 32)}
    tensors = [g.float_tensor("token_embd.weight", 8, 32), g.float_tensor("output_norm.weight", 32)]
    tensors += [g.float_tensor(f"blk.0.{name}.weight", 32) for name in ("attn_norm", "ffn_norm")]
    tensors += [projection(f"blk.0.{name}.weight", shape) for name, shape in shapes.items()]
    rotated = {
        "version": (g.UINT32, g.scalar(g.UINT32, 1)),
        "block_size": (g.UINT32, g.scalar(g.UINT32, 32)),
        "transform": (g.STRING, g.string("normalized-sylvester-walsh-hadamard")),
        "axis": (g.STRING, g.string("input-last-dimension")),
        "sign_mode": (g.STRING, g.string("explicit")),
        "sign_widths": (g.ARRAY, g.array(g.INT32, [32])),
        "sign_values": (g.ARRAY, g.array(g.INT8, [1, -1] * 16)),
        "weight_names": (g.ARRAY, g.array(g.STRING, ["blk.0.attn_q.weight"])),
    }
    changes |= {f"prism.hadamard.{key}": change for key, change in rotated.items()}
    path.write_bytes(container(metadata("llama", changes), tensors))
    return path


def write_tables(path: Path) -> Path:
    """TL1 and TL2, which are read by a plan from outside."""
    codes = random_codes(32, 288).astype(np.int64)
    pairs = (3 * codes[:, 0::2] + codes[:, 1::2] + 4).astype(np.uint8).reshape(-1, 2)
    tl1 = (pairs[:, 0] << 4 | pairs[:, 1]).tobytes()
    tl2 = bytes((288 - 256) * 32 // 3 * 5 // 8 + 256 * 32 // 2 * 4 // 8)
    scales = [Tensor(f"{name}_scale", (), 0, np.float32(0.5).tobytes()) for name in "ab"]
    path.write_bytes(
        container([], [Tensor("a", (288, 32), 38, tl1), Tensor("b", (288, 32), 39, tl2), *scales])
    )
    return path


def write_tensors(path: Path) -> Path:
    values = {"a": np.ones((3, 5), np.float32), "b": np.ones(7, np.float32)}
    write_safetensors(path, {name: value.shape for name, value in values.items()}, values.items(), "f16")
    return path


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], None]]] = {
    "gguf": (write_gguf, read_gguf),
    "gguf model": (write_gguf_model, read_gguf),
    "gguf tables": (write_tables, read_gguf),
    "native": (write_small_file, read_native),
    "safetensors": (write_tensors, read_safetensors),
}


class Reader:
    """One of `READERS`, with a whole file and a place for damaged ones."""

    def __init__(self, name: str, folder: Path) -> None:
        write, self._read = READERS[name]
        self._name = name
        self._path = folder / "damaged"
        self.whole = write(folder / "whole").read_bytes()

    def __repr__(self) -> str:
        return self._name

    def refuses(self, data: bytes) -> bool:
        """Whether a file of these bytes is refused; anything but a refusal is a failure."""
        self._path.unlink(missing_ok=True)  # the old one may still be mapped: never change it in place
        self._path.write_bytes(data)
        try:
            self._read(self._path)
        except REFUSALS:
            return True
        return False


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    return Reader(request.param, tmp_path)


INTERESTING = [
    *(0, 1, 2, 7, 8, 31, 32, 63, 64, 127, 128, 255, 256, 2**15, 2**16),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1),
]


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """Change a few bytes, put in a suspicious number, cut or double a piece; most often in the front."""
    data = bytearray(whole)
    for _ in range(random.integers(1, 4)):
        front = min(len(data), 4096) if random.random() < 0.7 else len(data)
        at = int(random.integers(0, max(1, front)))
        kind = random.integers(0, 6)
        if kind <= 1:
            for position in range(at, min(len(data), at + int(random.integers(1, 4)))):
                data[position] = int(random.integers(0, 256))
        elif kind == 2:
            number = INTERESTING[random.integers(0, len(INTERESTING))]
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


def try_damaged(reader: Reader, seed: int) -> None:
    reader.refuses(damaged(reader.whole, np.random.default_rng(seed)))


@given(seed=st.integers(0, 2**64 - 1))
@settings(max_examples=SHORT)
def test_damaged_files_are_refused_or_read(reader: Reader, seed: int) -> None:
    try_damaged(reader, seed)


@pytest.mark.long
@pytest.mark.timeout(7200)
@given(seed=st.integers(0, 2**64 - 1))
@settings(max_examples=LONG)
def test_very_many_damaged_files_are_refused_or_read(reader: Reader, seed: int) -> None:
    try_damaged(reader, seed)


def test_the_whole_files_are_read(reader: Reader) -> None:
    """Or else damage would prove nothing. The file of every type is no model, and says so last."""
    model = b"token_embd" in reader.whole or b"GGUF" not in reader.whole
    assert reader.refuses(reader.whole) is not model


def test_truncation_at_every_byte(tmp_path: Path) -> None:
    whole = write_every_type(tmp_path / "whole").read_bytes()
    path = tmp_path / "truncated"
    padding = -210 % 32  # behind the last tensor, a block of Q6_K
    for length in range(len(whole)):
        path.unlink(missing_ok=True)
        path.write_bytes(whole[:length])
        if length < len(whole) - padding:
            with pytest.raises(FormatError):
                GgufFile(path)
        else:
            assert GgufFile(path).tensors


@given(data=st.binary(max_size=400))
@settings(max_examples=SHORT)
def test_any_bytes_behind_the_magic(reader: Reader, data: bytes) -> None:
    reader.refuses(data)
    reader.refuses(b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0" + data)


def test_memory_stays_in_proportion_to_the_file(
    reader: Reader,
) -> None:
    """Decoding widens bits to floats; nothing else may grow. Claims about sizes cost nothing."""
    reader.refuses(reader.whole)
    for seed in range(60):
        data = damaged(reader.whole, np.random.default_rng(seed))
        tracemalloc.start()
        reader.refuses(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (1 << 20) + 400 * len(data)
