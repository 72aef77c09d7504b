"""A folder that transformers loads: masters, packed codes, or plain floats."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tercet.conversion.outputs.output import LOGIT_ERRORS, ROUNDING, Change, Exactness, Matrix, Output, Sink
from tercet.formats.huggingface import FolderPlan
from tercet.formats.huggingface.config_writer import family_of_model
from tercet.formats.huggingface.folder_writer import WEIGHTS, write_small_files
from tercet.formats.huggingface.quantization import OWN_CLASS
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.formats.safetensors import SafetensorsWriter
from tercet.models.loading import LoadedModel
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["HuggingFaceOutput"]

CHANGED_CODES = 1e-3
"""Rounding a master to bfloat16 moves it by at most 2**-9 of itself: one in a few thousand crosses a
threshold."""
CHANGED_LOGITS = 0.1
"""What so many codes more or less do to the logits."""
MADE_SCALE_ERROR = 1e-4
"""See `tercet.formats.huggingface.masters`; reached where a matrix has a hundred weights."""


class HuggingFaceOutput(Output):
    """A folder to be.

    Args:
        source: the model.
        packed: whether ternary matrices are stored as packed codes, ready to run, or as masters.
        float_type: how everything else is stored.

    Raises:
        ParameterError: no class of transformers is like the model, or there is no such float type.
    """

    inner_file = WEIGHTS

    def __init__(self, source: LoadedModel, packed: bool, float_type: str) -> None:
        self.format = "huggingface-packed" if packed else "huggingface"
        config = source.config.to_dict()
        is_ternary = source.config.quantize_activations
        self._source = source
        self.plan = FolderPlan(
            config,
            {name: info.shape for name, info in source.tensors.items()},
            {name: info.granularity for name, info in source.tensors.items() if info.granularity is not None},
            "packed" if packed else "online" if is_ternary else "floats",
            float_type,
            tokenizer_json=source.tokenizer_json,
            chat_template=source.chat_template,
            generation=source.generation_config,
        )
        self._small_files = self.plan.small_files()
        self.file_bytes = self.plan.safetensors().file_bytes + sum(map(len, self._small_files.values()))
        self.changes = [self._change(name) for name in self.plan.shapes]
        self.exactness = self._exactness()

    def fingerprint(self) -> str:
        """Return a digest of everything about the result but its tensors."""
        return hashlib.sha256(repr((self.plan, self._small_files)).encode()).hexdigest()

    def prepare(self, path: Path) -> None:
        """Write config, tokenizer and their like."""
        write_small_files(path, self.plan)

    def sink(self, file: BinaryIO) -> Sink:
        """Begin to write tensors into a file that is open at its beginning."""
        return _FolderSink(file, self.plan, self._source)

    def notes(self) -> Iterator[tuple[str, str]]:
        """Yield further lines of the plan."""
        class_name = family_of_model(self.plan.model_fields).class_name
        yield "class", f"{class_name} of transformers, {self._storage()}"
        if self.plan.storage == "online" and self.exactness.changed_codes:
            yield "note", f"masters are rounded to {self.plan.float_type}: a few codes may change"
        if self.plan.storage == "online" and not self._source.masters:
            yield "note", "the source has no masters: they are made of codes and scales, and give these back"

        if self._linear_class() == OWN_CLASS:
            yield "note", "transformers has no such linear layers: the folder is for training with Tercet"

    def _storage(self) -> str:
        return {
            "packed": f"packed codes ({self._linear_class()}, offline: weight = code * weight_scale)",
            "online": f"masters that become ternary on loading ({self._linear_class()}, online)",
            "floats": "plain floats",
        }[self.plan.storage]

    def _linear_class(self) -> str | None:
        return self.plan.config().get("quantization_config", {}).get("linear_class")  # type: ignore[no-any-return]

    def _change(self, name: str) -> Change:
        size = sum(spec.num_bytes for spec in self.plan.specs(name))
        granularity = self.plan.ternary.get(name)
        if granularity is None or self.plan.storage == "floats":
            return Change(name, self.plan.float_type, size, granularity)
        kind = "packed" if self.plan.storage == "packed" else f"{self.plan.float_type} masters"
        return Change(name, kind, size, granularity)

    def _exactness(self) -> Exactness:
        float_type, storage = self.plan.float_type, self.plan.storage
        error = LOGIT_ERRORS[float_type]
        if storage == "packed":
            return Exactness(ROUNDING[float_type] if float_type != "f32" else 0.0, error)
        if storage == "floats":
            return Exactness(ROUNDING[float_type], error)
        types = {self._source.tensors[name].type for name in self._source.masters}
        if types - {float_type} and float_type != "f32":
            return Exactness(ROUNDING["bf16"], CHANGED_LOGITS, CHANGED_CODES)
        # Masters made of codes have the scale for their mean as well as numbers of the type can add up to it.
        return Exactness(MADE_SCALE_ERROR, max(error, 10 * MADE_SCALE_ERROR))


class _FolderSink(Sink):
    def __init__(self, file: BinaryIO, plan: FolderPlan, source: LoadedModel) -> None:
        self._writer = SafetensorsWriter(file, plan.safetensors())
        self._plan = plan
        self._source = source

    def write(self, name: str, matrix: Matrix) -> str:
        if isinstance(matrix, PlaneMatrix):
            matrix = matrix.floats()
        weight: TernaryTensor | FloatMatrix
        if self._plan.storage == "online" and name in self._source.masters:
            weight = self._source.masters[name]
        else:
            weight = matrix.unpack() if isinstance(matrix, PackedMatrix) else matrix
        for spec, blocks in zip(self._plan.specs(name), self._plan.blocks(name, weight), strict=True):
            self._writer.write_tensor(spec.name, blocks)
        return ""

    def skip(self, name: str, digest: str) -> None:
        for spec in self._plan.specs(name):
            self._writer.skip_tensor(spec.name)

    def finish(self) -> None:
        self._writer.finish()
