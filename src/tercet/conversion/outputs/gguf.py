"""A GGUF file that llama.cpp and its relatives open."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tercet.conversion.outputs.output import LOGIT_ERRORS, ROUNDING, Change, Exactness, Matrix, Output, Sink
from tercet.errors import ParameterError, UnsupportedFormatError
from tercet.formats.floats import to_float32
from tercet.formats.gguf.encoding import encode_floats
from tercet.formats.gguf.model import is_paired
from tercet.formats.gguf.model_writer import FILE_TYPES, gguf_plan, model_metadata, tensor_pieces
from tercet.formats.gguf.tensor_names import to_gguf
from tercet.formats.gguf.tensor_types import WRITABLE_FLOATS, WRITABLE_TERNARY
from tercet.formats.gguf.vocabulary import GgufVocabulary
from tercet.formats.gguf.writer import GgufWriter
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel
from tercet.reference.rotary import inverse_frequencies
from tercet.tokenization.gguf_export import to_gguf_vocabulary

__all__ = ["GgufOutput", "fitting_types", "usual_type"]

FLOATS_OF_GGUF = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
EXACT_TYPES = ("I2_S", "F32")
QUANTIZED_LOGIT_ERROR = 0.1
"""An embedding of four bits changes the logits by some percent."""
ROPE_FACTORS = "rope_factors"
CHUNK_ELEMENTS = 1 << 21

Pieces = Iterator[npt.NDArray[np.uint8]]


class GgufOutput(Output):
    """A GGUF file to be.

    Args:
        source: the model.
        ternary_type: how ternary matrices are stored, `TQ2_0` for example; None for what is usual.
        embedding_type: how other matrices are stored, `F16` for example.
        name: what the file calls the model.

    Raises:
        ParameterError: there is no such type, no program that reads GGUF runs such a model, or a matrix does
            not fit its type.
    """

    format = "gguf"

    def __init__(
        self, source: LoadedModel, ternary_type: str | None, embedding_type: str, name: str | None = None
    ) -> None:
        kind = (ternary_type or usual_type(source)).upper()
        if kind not in FILE_TYPES:
            raise ParameterError(
                f"there is no GGUF type {ternary_type!r} to write; the types are "
                f"{', '.join(FILE_TYPES).lower()}"
            )
        if (float_type := embedding_type.upper()) not in WRITABLE_FLOATS:
            raise ParameterError(
                f"embeddings are written as {', '.join(WRITABLE_FLOATS).lower()}, not {embedding_type!r}"
            )
        self.format = f"gguf-{kind.lower()}"
        self._source = source
        self._fields = source.config.to_dict()
        self._factors = _rope_factors(source.config)
        self._vocabulary, self._vocabulary_note = _vocabulary(source)
        metadata = model_metadata(
            self._fields, kind, vocabulary=self._vocabulary, generation=source.generation_config, name=name
        )
        shapes = {name: info.shape for name, info in source.tensors.items()}
        if kind not in (fitting := fitting_types(source)):
            raise ParameterError(
                f"{source.path} cannot be written as {kind}, whose blocks do not fit the rows of its "
                f"matrices or its scales. These types do: {', '.join(fitting).lower()}"
            )
        kinds = {
            name: float_type if info.granularity is None else kind
            for name, info in source.tensors.items()
            if len(info.shape) == 2
        }
        if self._factors is not None:
            shapes[ROPE_FACTORS] = self._factors.shape
        self.plan = gguf_plan(metadata, shapes, kinds)
        self.file_bytes = self.plan.file_bytes
        self.changes = [
            Change(name, tensor.type, tensor.num_bytes, source.tensors[name].granularity)
            for name, tensor in zip(shapes, self.plan.tensors, strict=True)
            if name != ROPE_FACTORS
        ]
        self._kinds = {change.name: change.type for change in self.changes}
        self.exactness = _exactness({tensor.type for tensor in self.plan.tensors}, kind)

    def fingerprint(self) -> str:
        """Return a digest of everything about the result but its tensors."""
        return hashlib.sha256(self.plan.header()).hexdigest()

    def sink(self, file: BinaryIO) -> Sink:
        """Begin to write tensors into a file that is open at its beginning."""
        return _GgufSink(file, self)

    def reading_options(self) -> dict[str, Any]:
        """Return what `load_model` must be told: the layout of I2_S is in no file."""
        return {"layout": "canonical"}

    def notes(self) -> Iterator[tuple[str, str]]:
        """Yield further lines of the plan."""
        yield "architecture", str(self.plan.metadata["general.architecture"].value)
        if self._vocabulary_note is not None:
            yield "note", self._vocabulary_note
        if self.exactness.scale_error:
            yield "note", "scales are rounded to float16, as this type has them"
        granularities = {info.granularity for info in self._source.tensors.values()}
        if "tensor" in granularities and not self._source.config.quantize_activations:
            yield (
                "note",
                "no GGUF file can say that activations are not rounded: other programs will round them",
            )

    def pieces(self, name: str, matrix: Matrix) -> tuple[str, Pieces]:
        """Return a tensor's name in the file and its bytes there."""
        kind, shape = self._kinds[name], self._source.tensors[name].shape
        if isinstance(matrix, FloatMatrix) and not is_paired(name):
            return str(to_gguf(name)), _float_pieces(matrix, kind)
        weights = matrix.unpack() if isinstance(matrix, PackedMatrix) else matrix.float32().reshape(shape)
        stored, pieces = tensor_pieces(name, weights, self._fields, shape, kind)
        return stored, iter(pieces)

    def last_pieces(self) -> Iterator[tuple[str, Pieces]]:
        """Yield what the file has besides the tensors of the source."""
        if self._factors is not None:
            yield str(to_gguf(ROPE_FACTORS)), encode_floats(self._factors, "F32")


class _GgufSink(Sink):
    def __init__(self, file: BinaryIO, output: GgufOutput) -> None:
        self._writer = GgufWriter(file, output.plan)
        self._output = output

    def write(self, name: str, matrix: Matrix) -> str:
        self._writer.write_tensor(*self._output.pieces(name, matrix))
        return ""

    def skip(self, name: str, digest: str) -> None:
        self._writer.skip_tensor(str(to_gguf(name)))

    def finish(self) -> None:
        for name, pieces in self._output.last_pieces():
            self._writer.write_tensor(name, pieces)
        self._writer.finish()


def usual_type(source: LoadedModel) -> str:
    """Return the ternary type that fits a model and that most programs read."""
    fitting = fitting_types(source)
    if not any(info.granularity is not None for info in source.tensors.values()):
        return "F16"
    return next(kind for kind in ("TQ2_0", "I2_S", "Q2_0", "F16") if kind in fitting)


def fitting_types(source: LoadedModel) -> tuple[str, ...]:
    """Return the types that all ternary matrices of a model can be written in."""
    matrices = [info for info in source.tensors.values() if info.granularity is not None]
    # A block has one scale, so it must lie within a row, and within a group of columns.
    depth = math.gcd(*(info.group_size or info.shape[1] for info in matrices))
    blocks = {name: kind.block_weights for name, kind in WRITABLE_TERNARY.items()} | {"I2_S": 128}
    if any(info.granularity != "tensor" for info in matrices):
        del blocks["I2_S"]
    return tuple(kind for kind in FILE_TYPES if depth % blocks.get(kind, 1) == 0)


def _float_pieces(matrix: FloatMatrix, kind: str) -> Pieces:
    step = max(1, CHUNK_ELEMENTS // matrix.depth)
    for start in range(0, matrix.rows, step):
        stored = matrix.data[start * matrix.depth : (start + step) * matrix.depth]
        yield from encode_floats(to_float32(stored, matrix.type).reshape(-1, matrix.depth), kind)


def _rope_factors(config: ModelConfig) -> npt.NDArray[np.float32] | None:
    """Return what divides each frequency, where that is how such files say it."""
    if config.rope_scaling is None or config.rope_scaling.kind not in ("llama3", "factors"):
        return None
    if config.rope_scaling.factors is not None:
        return np.array(config.rope_scaling.factors, np.float32)
    plain = inverse_frequencies(config.rope_theta, config.head_dim).astype(np.float64)
    return (plain / config.inverse_frequencies).astype(np.float32)


def _vocabulary(source: LoadedModel) -> tuple[GgufVocabulary | None, str | None]:
    """Return what the file says of the tokenizer, or None and why it says nothing."""
    if source.tokenizer_json is None:
        return None, None
    config = source.config
    try:
        vocabulary = to_gguf_vocabulary(
            source.tokenizer_json,
            config.vocab_size,
            config.bos_token_id,
            config.eos_token_ids,
            config.pad_token_id,
            source.chat_template,
        )
    except UnsupportedFormatError as error:
        return None, f"the tokenizer is left out, other programs will take token ids only: {error}"
    add_bos = config.add_bos and config.bos_token_id is not None
    flags = {**vocabulary.flags, "add_bos_token": add_bos}
    return dataclasses.replace(vocabulary, flags=flags), None


def _exactness(types: set[str], ternary_type: str) -> Exactness:
    floats = {FLOATS_OF_GGUF[name] for name in types if name in FLOATS_OF_GGUF}
    logit_error = max((LOGIT_ERRORS[name] for name in floats), default=1e-5)
    if types - set(FLOATS_OF_GGUF) - {ternary_type}:
        logit_error = QUANTIZED_LOGIT_ERROR
    if ternary_type in EXACT_TYPES:
        return Exactness(0.0, logit_error)
    rounding = ROUNDING[FLOATS_OF_GGUF.get(ternary_type, "f16")]
    return Exactness(rounding, max(logit_error, LOGIT_ERRORS["f16"]))
