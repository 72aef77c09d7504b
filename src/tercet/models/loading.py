"""Opening a model, whatever it is stored as: the meeting point of formats, config and tokenizer.

    native file (.tercet)       mapped; matrices are views into the file
    Hugging Face folder         mapped; what is stored in other ways becomes ours as it is looked up
    GGUF file                   the same; `gguf_source` has what its parts mean

Here the parts are checked against each other: every tensor that the config calls for is there, in its shape
and in a type that it may have, and no other. What passes can be given to the decoder.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, ModelNotFoundError, ParameterError, UnsupportedFormatError
from tercet.formats.floats import FLOAT_TYPES
from tercet.formats.gguf import GgufFile, KernelConfig
from tercet.formats.gguf.tensor_types import LAYOUTS, I2SLayout
from tercet.formats.huggingface import HuggingFaceFolder
from tercet.formats.mapped_file import MappedFile
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.formats.stored_model import StoredModel
from tercet.formats.tercet import TercetFile
from tercet.formats.tercet.layout import VERSION
from tercet.formats.weights_memory import chosen_memory
from tercet.models.config import ModelConfig
from tercet.models.gguf_source import read_gguf_model
from tercet.models.provenance import check_provenance
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.packings import packing as packing_of
from tercet.quantization.planes import PLANES
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.tokenization import Tokenizer
from tercet.tokenization.model_file import read_tokenizer_model_file

__all__ = ["LoadedModel", "TensorInfo", "load_model", "may_be_planes", "may_be_ternary"]

TOKENIZER_BLOB = "tokenizer.json"
TOKENIZER_MODEL = "tokenizer.model"
SAFETENSORS = ".safetensors"
Matrix = PackedMatrix | PlaneMatrix | FloatMatrix
ReferenceWeight = TernaryTensor | npt.NDArray[np.float32]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """How a tensor is stored, and what the decoder gets."""

    type: str
    """A packing, planes or a float type, as stored."""
    shape: tuple[int, ...]
    num_bytes: int
    """Bytes in the file, scales included."""
    granularity: str | None = None
    """How far a scale reaches in a matrix that is ternary, or becomes so on loading; None for others."""
    group_size: int | None = None
    stored_name: str | None = None
    """What the file calls it, where that is not our name."""
    is_master: bool = False
    """Whether real-valued weights are stored that are rounded to ternary on loading."""


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model as it was found. Nothing is held in memory that a mapped file can provide."""

    path: Path
    kind: str
    """What it is, for people."""
    config: ModelConfig
    tensors: Mapping[str, TensorInfo]
    """Canonical name -> how the tensor is stored, known without reading it."""
    weights: Mapping[str, Matrix]
    """Canonical name -> matrix for the decoder. Made when it is looked up, so look each up once."""
    reference_weights: Mapping[str, ReferenceWeight]
    """The same as `tercet.reference` takes them, made when looked up."""
    tokenizer_json: bytes | None = None
    chat_template: str | None = None
    generation_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Sampling settings that the model came with, under the names of `SamplingParams`."""
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    masters: Mapping[str, FloatMatrix] = dataclasses.field(default_factory=dict)
    """Canonical name -> the real-valued weights behind a ternary matrix, where the source has them."""
    in_stored_order: Mapping[str, TernaryTensor] = dataclasses.field(default_factory=dict)
    """Canonical name -> a ternary matrix whose rows are in another order in the file, in that order."""
    remarks: tuple[str, ...] = ()
    """Oddities of the source that a person should know of."""
    weights_memory: str = "mapped"
    """Where the weights of a native file lie: `mapped` or `huge`."""
    release: Callable[[], None] = lambda: None
    """Gives the memory back that reading the mapped source has filled."""
    files: tuple[MappedFile, ...] = ()
    """The files that its weights are read from, where these are guarded (`guarded_files`)."""

    @property
    def plain_weights(self) -> Mapping[str, PackedMatrix | FloatMatrix]:
        """The same as `weights`, with matrices in planes as floats: for formats that have no planes."""

        def plain(name: str) -> PackedMatrix | FloatMatrix:
            matrix = self.weights[name]
            return matrix.floats() if isinstance(matrix, PlaneMatrix) else matrix

        return _MadeOnLookup(self.weights, plain)

    def tokenizer(self) -> Tokenizer:
        """Make the model's tokenizer.

        Raises:
            FormatError: the model has none, or it makes ids that are not in the model's vocabulary.
        """
        if self.tokenizer_json is None:
            raise FormatError(f"{self.path} holds no tokenizer, so it can take token ids but no text")
        tokenizer = Tokenizer(self.tokenizer_json)
        if tokenizer.vocab_size > self.config.vocab_size:
            raise FormatError(
                f"{self.path}: the tokenizer has {tokenizer.vocab_size} tokens, "
                f"expected at most the {self.config.vocab_size} of the model. They do not belong together."
            )
        return tokenizer


def load_model(
    path: str | os.PathLike[str],
    verify: bool | None = None,
    packing: str = "two_bit",
    *,
    layout: str | None = None,
    kernels: KernelConfig | None = None,
    weights_memory: str = "mapped",
) -> LoadedModel:
    """Open the model at `path`.

    Args:
        path: a native file, a GGUF file, a model folder, or a safetensors file in one;
            `tercet.models.registry.resolve` turns names into paths.
        verify: whether to check a native file's content against its checksums; by default files up to
            4 GiB are checked when they are opened first.
        packing: how masters that become ternary are packed; a native file keeps its own.
        layout: how the I2_S tensors of a GGUF file lie, `canonical`, `rows` or `arm`, where that cannot be
            found out.
        kernels: for TL1 and TL2 in a GGUF file, the kernel config of the build that made it.
        weights_memory: where a native file's weights lie, `mapped`, `huge` or `auto`; see
            `tercet.formats.weights_memory`. What is converted on loading lies in our own memory anyway.

    Raises:
        ParameterError: there is no such layout, or no such memory.
        UntrustedModelError: it lacks the manifest or signature that the settings demand.
        FormatError: it is damaged, not as its manifest says, or its parts do not fit together.
        UnsupportedFormatError: it is a file of another kind.
        UnsupportedModelError: it holds a model that this release does not run.
        ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """
    found = Path(path)
    chosen_memory(weights_memory, 0)  # refuses what there is not, whatever the file
    check_provenance(found)
    if found.is_dir():
        return _load_stored(_with_tokenizer(HuggingFaceFolder(found).stored_model()), packing)
    if TercetFile.recognizes(found):
        return _load_native(TercetFile(found, verify, weights_memory))
    if GgufFile.recognizes(found):
        return _load_stored(read_gguf_model(found, _checked_layout(layout), kernels), packing)
    if found.suffix == SAFETENSORS and (found.parent / "config.json").is_file():
        return _load_stored(_with_tokenizer(_folder_of(found).stored_model()), packing)
    raise _unknown_file(found)


def _checked_layout(layout: str | None) -> I2SLayout | None:
    for known in LAYOUTS:
        if layout == known:
            return known
    if layout is not None:
        raise ParameterError(f"there is no layout {layout!r}; I2_S has {', '.join(LAYOUTS)}")
    return None


def _folder_of(file: Path) -> HuggingFaceFolder:
    """Open the folder that a safetensors file is in, if it is the weights of that folder."""
    folder = HuggingFaceFolder(file.parent)
    if file.name not in (names := folder.weight_files):
        raise UnsupportedFormatError(
            f"{file} is not among the weights of its folder, which are {', '.join(names[:3])}. "
            "Give the folder to open those; this file may be an adapter, or a part of another model."
        )
    return folder


def _load_native(file: TercetFile) -> LoadedModel:
    header = file.header
    config = _config(header.config, file.path)
    shapes = tensor_shapes(config)
    _check_names(file.path, header.tensors, shapes)
    for name, shape in shapes.items():
        entry = header.tensors[name]
        _check_shape(file.path, name, (entry.rows, entry.depth), shape if len(shape) == 2 else (1, *shape))
        allowed = ("f32",) if len(shape) == 1 else tuple(FLOAT_TYPES)
        if may_be_planes(name):
            allowed = (*allowed, *PLANES)
        if entry.type not in allowed and (entry.type in PLANES or not may_be_ternary(name)):
            raise UnsupportedFormatError(
                f"{file.path}: tensor {name} is stored as {entry.type}, expected {' or '.join(allowed)}"
            )

    def reference(name: str) -> ReferenceWeight:
        matrix = file.tensor(name)
        if isinstance(matrix, PackedMatrix):
            return matrix.unpack()
        return matrix.float32().reshape(shapes[name])

    def info(name: str) -> TensorInfo:
        entry = header.tensors[name]
        num_bytes = sum(piece.num_bytes for piece in entry.pieces)
        if entry.scales is None or entry.type in PLANES:
            return TensorInfo(entry.type, shapes[name], num_bytes)
        return TensorInfo(
            entry.type, shapes[name], num_bytes, entry.scales.granularity, entry.scales.group_size
        )

    return LoadedModel(
        path=file.path,
        kind=f"tercet file, version {VERSION}",
        config=config,
        tensors={name: info(name) for name in shapes},
        weights=_MadeOnLookup(shapes, file.tensor),
        reference_weights=_MadeOnLookup(shapes, reference),
        tokenizer_json=file.blob(TOKENIZER_BLOB) if TOKENIZER_BLOB in header.blobs else None,
        chat_template=header.chat_template,
        generation_config=header.generation,
        metadata=header.metadata,
        weights_memory=file.memory,
        release=file.release,
    )


def _with_tokenizer(stored: StoredModel) -> StoredModel:
    """Make a tokenizer of `tokenizer.model` where a folder has no `tokenizer.json`."""
    file = stored.path / TOKENIZER_MODEL
    if stored.tokenizer_json is not None or not file.exists():
        return stored
    try:
        vocabulary = read_tokenizer_model_file(file)
    except UnsupportedFormatError as error:
        return dataclasses.replace(stored, remarks=(*stored.remarks, f"no tokenizer: {error}"))
    fields = dict(stored.model_fields)
    known, size = fields["eos_token_ids"], fields["vocab_size"]
    ends = (end for end in vocabulary.eos_token_ids if end not in known and end < size)
    fields["eos_token_ids"] = (*known, *ends)
    fields["add_bos"] = vocabulary.add_bos
    return dataclasses.replace(
        stored,
        model_fields=fields,
        tokenizer_json=vocabulary.tokenizer_json,
        chat_template=stored.chat_template or vocabulary.chat_template,
        remarks=(*stored.remarks, *vocabulary.remarks),
    )


def _load_stored(stored: StoredModel, packing: str) -> LoadedModel:
    config = _config(stored.model_fields, stored.path)
    shapes = tensor_shapes(config)
    _check_names(stored.path, stored.weights, shapes, {name: w.name for name, w in stored.weights.items()})
    for name, shape in shapes.items():
        weight = stored.weights[name]
        _check_shape(stored.path, weight.name, weight.shape, shape)
        if weight.granularity is not None and not may_be_ternary(name):
            raise FormatError(f"{stored.path}: tensor {weight.name} is ternary, expected floats")

    def reference(name: str) -> ReferenceWeight:
        weight = stored.weights[name].read()
        return weight if isinstance(weight, TernaryTensor) else weight.float32().reshape(shapes[name])

    def matrix(name: str) -> Matrix:
        weight = stored.weights[name].read()
        if isinstance(weight, FloatMatrix):
            return weight
        rows, depth = weight.shape
        packed = packing_of(packing).pack(weight.codes)
        return PackedMatrix(packing, rows, depth, packed, weight.scales.reshape(-1))

    def info(name: str) -> TensorInfo:
        weight = stored.weights[name]
        return TensorInfo(
            weight.type,
            weight.shape,
            weight.num_bytes,
            weight.granularity,
            weight.group_size if weight.granularity == "group" else None,
            weight.name,
            is_master=weight.masters is not None,
        )

    masters = {name: weight.masters for name, weight in stored.weights.items() if weight.masters is not None}
    orders = {
        name: weight.read_in_stored_order
        for name, weight in stored.weights.items()
        if weight.read_in_stored_order is not None
    }
    return LoadedModel(
        path=stored.path,
        kind=stored.kind,
        config=config,
        tensors={name: info(name) for name in shapes},
        weights=_MadeOnLookup(shapes, matrix),
        reference_weights=_MadeOnLookup(shapes, reference),
        masters=_MadeOnLookup(masters, lambda name: masters[name]()),
        in_stored_order=_MadeOnLookup(orders, lambda name: orders[name]()),
        tokenizer_json=stored.tokenizer_json,
        chat_template=stored.chat_template,
        generation_config=stored.generation,
        remarks=stored.remarks,
        release=stored.release,
    )


class _MadeOnLookup(Mapping[str, T]):
    """A mapping that makes its values anew each time: a large model never is in memory as a whole."""

    def __init__(self, names: Iterable[str], make: Callable[[str], T]) -> None:
        self._names = dict.fromkeys(names)
        self._make = make

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _config(fields: Mapping[str, Any], path: Path) -> ModelConfig:
    try:
        return ModelConfig.from_dict(fields)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def may_be_ternary(name: str) -> bool:
    """Say whether the tensor of this canonical name is a matrix that can be stored as codes and scales: the
    seven of a layer, and embedding and output head, which most models keep as floats."""
    return is_ternary(name) or name in ("embedding", "output_head")


def may_be_planes(name: str) -> bool:
    """Say whether the tensor of this canonical name can be stored in planes: embedding and output head."""
    return name in ("embedding", "output_head")


def _check_names(
    path: Path, found: Iterable[str], expected: Iterable[str], stored_names: Mapping[str, str] | None = None
) -> None:
    """What is missing is told by our names, what is unknown by those of the file."""
    there, called_for = dict.fromkeys(found), dict.fromkeys(expected)
    missing = [name for name in called_for if name not in there]
    unknown = [(stored_names or {}).get(name, name) for name in there if name not in called_for]
    for problem, names in (("lacks", missing), ("holds unknown", unknown)):
        if names:
            others = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise FormatError(
                f"{path} {problem} tensors: {', '.join(names[:3])}{others}. "
                "It is incomplete, or its config is that of another model."
            )


def _check_shape(file: Path, name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise FormatError(f"{file}: tensor {name} has the shape {list(found)}, expected {list(expected)}")


def _unknown_file(path: Path) -> FormatError:
    """Make the error for a file that we do not open, saying what it is if that can be seen."""
    if not path.exists():
        raise ModelNotFoundError(f"no file or folder is at {path}")
    file = MappedFile(path)
    first = file.view(0, min(16, file.num_bytes), "the first bytes").tobytes()
    kinds = {
        b"PK\x03\x04": "a zip archive (a PyTorch checkpoint?); pickles run code, so we never read one",
        b"\x80": "a pickle; pickles run code, so we never read one",
        **dict.fromkeys((b"ggml", b"lmgg", b"tjgg"), "a file older than GGUF; convert its original again"),
    }
    kind = next((kind for magic, kind in kinds.items() if first.startswith(magic)), None)
    if kind is None and first[8:9] == b"{":
        kind = (
            "a single safetensors file without config.json beside it, which says what model it is; "
            "get the whole folder"
        )
    if kind is None:
        kind = f"not a model file: it begins with {first[:8]!r}"
    return UnsupportedFormatError(f"{path} is {kind}. Give a .tercet file, a GGUF file or a model folder.")
