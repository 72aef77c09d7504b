"""Files of random models in the cache folder, written in constant memory and deleted when nobody wants them.

A model is measured as users run it, from a file. Files have names that say what they hold, so that one
that was kept is found again; those that a benchmark wrote and was not told to keep are deleted at its end.
A model that the memory or the disk cannot take is refused before a byte is written, with the arithmetic.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tercet.bench.random_model import RandomModel
from tercet.engine.memory import total_memory_bytes
from tercet.environment import cache_directory
from tercet.errors import ParameterError, StorageError
from tercet.formats.floats import FLOAT_TYPES
from tercet.formats.tercet import FilePlan, TensorPlan, create_file
from tercet.kernels.isa import choose_isa
from tercet.models.config import ModelConfig
from tercet.models.loading import TOKENIZER_BLOB
from tercet.quantization.packings import PACKINGS
from tercet.quantization.planes import PLANES

__all__ = ["check_room", "fast_packing", "file_plan", "random_model_file", "write_random_model"]

BESIDES_BYTES = 1 << 30
"""What interpreter, caches and the rest of the machine need besides a model."""
_LOOKUP_ISAS = ("avx512_vbmi", "amx_int8")


def fast_packing(isa: str | None = None) -> str:
    """The packing that decodes fastest: five_per_byte where the hardware permutes bytes."""
    chosen, _ = choose_isa(isa)
    return "five_per_byte" if chosen in _LOOKUP_ISAS else "two_bit"


def file_plan(
    config: ModelConfig, packing: str, head_type: str, tokenizer_json: bytes | None = None
) -> FilePlan:
    """What a file of this shape holds, with a tokenizer if there is one.

    Raises:
        ParameterError: there is no such packing or type of head.
    """
    for name, kind, known in (
        ("packing", packing, (*PACKINGS, *FLOAT_TYPES)),
        ("head", head_type, (*PLANES, *FLOAT_TYPES)),
    ):
        if kind not in known:
            raise ParameterError(f"{name} must be one of {', '.join(known)}, not {kind!r}")
    model = RandomModel(config, packing, head_type)
    granularity = {**dict.fromkeys(PACKINGS, "tensor"), **dict.fromkeys(PLANES, "row")}
    kinds = {name: model.type_of(name) for name in model}
    plans = [
        TensorPlan(name, kind, *model.size_of(name), granularity.get(kind)) for name, kind in kinds.items()
    ]
    blobs = {} if tokenizer_json is None else {TOKENIZER_BLOB: tokenizer_json}
    return FilePlan(config.to_dict(), plans, blobs)


def check_room(what: str, file_bytes: int, besides: int, folder: Path, exists: bool) -> None:
    """Refuse a model that does not fit.

    Args:
        what: the model, as the message names it.
        file_bytes: its file.
        besides: bytes of KV cache and the like.
        folder: where the file will be.
        exists: whether it is there already.

    Raises:
        ParameterError: memory or disk are too small; the message has the sum.
    """
    memory = total_memory_bytes()
    needed = file_bytes + besides + BESIDES_BYTES
    if memory is not None and needed > memory:
        raise ParameterError(
            f"{what} does not fit: weights {_gigabytes(file_bytes)} + KV cache {_gigabytes(besides)} + "
            f"{_gigabytes(BESIDES_BYTES)} for all else = {_gigabytes(needed)}, and this machine has "
            f"{_gigabytes(memory)} of memory"
        )
    free = shutil.disk_usage(folder).free
    if not exists and file_bytes > free:
        raise ParameterError(
            f"{what} takes {_gigabytes(file_bytes)} on the disk, and {_gigabytes(free)} are free in the "
            "cache folder; TERCET_CACHE chooses another one"
        )


@contextlib.contextmanager
def random_model_file(
    name: str,
    config: ModelConfig,
    packing: str,
    head_type: str,
    keep: bool = False,
    besides: int = 0,
    progress: Callable[[str], None] = lambda state: None,
    tokenizer_json: bytes | None = None,
) -> Iterator[Path]:
    """Give the path of a file with random weights, written unless it is there already.

    Args:
        name: what the shape is called, a part of the file's name.
        config: the shape.
        packing: how the projections are stored.
        head_type: how embedding and head are stored.
        keep: whether a file that is written stays for the next time.
        besides: bytes that will be needed besides the weights.
        progress: is told how far it has come.
        tokenizer_json: a tokenizer that the file is to hold.

    Raises:
        ParameterError: there is no such packing, or the machine is too small.
        StorageError: the disk is full, or the folder cannot be written to.
    """
    plan = file_plan(config, packing, head_type, tokenizer_json)
    folder = cache_directory() / "bench"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create {folder}: {error.strerror}") from error
    suffix = "" if tokenizer_json is None else "-text"
    path = folder / f"{name}-{packing}-{head_type}{suffix}.tercet"
    exists = path.is_file() and path.stat().st_size == plan.file_bytes
    check_room(f"the shape {name}", plan.file_bytes, besides, folder, exists)
    if not exists:
        write_random_model(path, config, packing, head_type, progress, tokenizer_json)
    try:
        yield path
    finally:
        if not exists and not keep:
            path.unlink(missing_ok=True)


def write_random_model(
    path: Path,
    config: ModelConfig,
    packing: str = "two_bit",
    head_type: str = "f16",
    progress: Callable[[str], None] = lambda state: None,
    tokenizer_json: bytes | None = None,
) -> None:
    """Write a native file of a shape with random weights; see `tercet.bench.random_model`.

    Raises:
        ParameterError: there is no such packing or type of head.
        StorageError: the disk is full, or the folder cannot be written to.
    """
    plan = file_plan(config, packing, head_type, tokenizer_json)
    model = RandomModel(config, packing, head_type)
    written = 0
    with create_file(path, plan) as writer:
        for tensor in plan.tensors:
            progress(f"writing random weights, {written / 1e9:.1f} of {plan.file_bytes / 1e9:.1f} GB")
            scales = model.scales(tensor.name) if tensor.num_scales else None
            writer.write_tensor(tensor.name, model.pieces(tensor.name), scales)
            written += tensor.data_bytes


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
