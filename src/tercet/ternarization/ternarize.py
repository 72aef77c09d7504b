"""A full-precision model in, a ternary file and a report out.

The file is written as the matrices are found, under a temporary name, and appears whole or not at all. What
is not a matrix of a layer (embedding, output head, norms) is kept. The file says of itself that it is lossy,
how it was made and from what; `tercet inspect` shows it. Then source and result are compared on a held-out
text, and the figures are written beside the result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tercet.conversion.outputs.output import float_chunks
from tercet.errors import ParameterError, StorageError
from tercet.formats.matrices import FloatMatrix, PlaneMatrix
from tercet.formats.tercet import FilePlan, FileWriter, TensorPlan
from tercet.formats.tercet.writer import create_file
from tercet.models.loading import LoadedModel, load_model
from tercet.models.tensor_names import is_ternary
from tercet.quantization.packings import packing
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.ternarization.layerwise import ternary_matrices
from tercet.ternarization.methods import Method
from tercet.ternarization.quality import measure_quality
from tercet.ternarization.report import Report, report_paths, write_report
from tercet.ternarization.texts import Text, built_in_text, read_text

__all__ = ["Ternarization", "ternarize"]

PACKING = "two_bit"
EMBEDDING_TYPE = "f16"


@dataclasses.dataclass(frozen=True)
class Ternarization:
    """What was done."""

    destination: Path
    report: Report
    report_files: tuple[Path, Path]
    """The report as JSON and as Markdown."""


def ternarize(
    source: str | os.PathLike[str] | LoadedModel,
    destination: str | os.PathLike[str],
    method: Method | str = "calibrated",
    *,
    calibration: str | os.PathLike[str] | None = None,
    held_out: str | os.PathLike[str] | None = None,
    held_out_tokens: int = 2048,
    quantize_activations: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda what: None,
) -> Ternarization:
    """Make a full-precision model ternary without training, and measure what that costs. It costs much.

    Args:
        source: a model whose matrices are floats, or block-quantized floats as in GGUF files.
        destination: the .tercet file to write; the report's files get its name and .quality.json, .md.
        method: what to do, or its name.
        calibration: a text like what the model will read, for the method that looks at one; None is a
            built-in text.
        held_out: another text, to measure with; None is a built-in one.
        held_out_tokens: how much of it is read.
        quantize_activations: whether the result is to round its activations to int8 as well, which costs more
            quality and runs faster.
        overwrite: whether an existing file may be replaced.
        progress: called with a word on what was just done.

    Raises:
        ParameterError: an option is not possible, or a matrix of the source is ternary already.
        StorageError: the destination exists, or cannot be written.
        FormatError, UnsupportedModelError, ModelNotFoundError: the source or a text cannot be read.
    """
    chosen = Method(method) if isinstance(method, str) else method
    target = Path(destination)
    _check_target(target, overwrite)
    model = source if isinstance(source, LoadedModel) else load_model(source)
    _check_source(model)
    calibration_text = built_in_text("calibration") if calibration is None else read_text(Path(calibration))
    held_out_text = built_in_text("held_out") if held_out is None else read_text(Path(held_out))
    measured = _sequences(model, held_out_text, held_out_tokens, chosen.window)
    sequences = np.empty((0, 0), np.int64)
    if chosen.name == "calibrated":
        sequences = _sequences(model, calibration_text, chosen.num_tokens, chosen.window)

    started = time.monotonic()
    facts = _facts(model, chosen, calibration_text, sequences.size)
    plan = _plan(model, chosen, quantize_activations, facts)
    with create_file(target, plan) as writer:
        _write(model, plan, writer, chosen, sequences, progress)
    seconds = time.monotonic() - started
    quality = measure_quality(model, load_model(target), measured, progress)
    report = Report(
        source=model.path.name,
        result=target.name,
        method=dataclasses.asdict(chosen),
        facts=facts,
        held_out=f"{held_out_text.name}, {measured.size} tokens, SHA-256 {held_out_text.sha256}",
        source_bytes=sum(info.num_bytes for info in model.tensors.values()),
        result_bytes=target.stat().st_size,
        source_matrix_bytes=sum(i.num_bytes for name, i in model.tensors.items() if is_ternary(name)),
        result_matrix_bytes=sum(t.data_bytes + 4 * t.num_scales for t in plan.tensors if is_ternary(t.name)),
        quantize_activations=quantize_activations,
        seconds=seconds,
        quality=quality,
    )
    return Ternarization(target, report, write_report(target, report))


def _check_target(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise StorageError(f"{target} is a folder. Name the .tercet file to write.")
    for path in (target, *report_paths(target)):
        if path.exists() and not overwrite:
            raise StorageError(f"{path} exists already. Choose another name, or ask to overwrite it.")


def _check_source(model: LoadedModel) -> None:
    for name, info in model.tensors.items():
        if is_ternary(name) and info.granularity is not None and not info.is_master:
            raise ParameterError(
                f"{model.path} is ternary already ({name} is stored as {info.type}). Take a full-precision "
                "model, or `tercet convert` to store this one in another way."
            )


def _sequences(model: LoadedModel, text: Text, num_tokens: int, window: int) -> NDArray[np.int64]:
    length = min(window, model.config.max_context)
    return text.sequences(model.tokenizer(), model.config.first_token_id, num_tokens, length)


def _facts(model: LoadedModel, method: Method, text: Text, num_tokens: int) -> dict[str, str]:
    """What the file says of itself."""
    facts = {
        "ternarized": f"after training and without any ({method.name}, one scale per {method.granularity}): "
        "lossy, far from its source",
        "ternarized_from": model.path.name,
        "ternarized_from_sha256": _digest(model.path),
    }
    if method.name == "calibrated":
        facts["ternarized_with"] = f"{text.name}, {num_tokens} tokens, SHA-256 {text.sha256}"
    return facts


def _digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of the names and digests of its files."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
        listing = "".join(f"{_digest(file)}  {file.name}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _plan(model: LoadedModel, method: Method, quantize_activations: bool, facts: dict[str, str]) -> FilePlan:
    def tensor(name: str, shape: tuple[int, ...]) -> TensorPlan:
        if len(shape) == 1:
            return TensorPlan(name, "f32", 1, shape[0])
        rows, depth = shape
        if not is_ternary(name):
            return TensorPlan(name, EMBEDDING_TYPE, rows, depth)
        group = method.group_of(depth) if method.granularity == "group" else None
        return TensorPlan(name, PACKING, rows, depth, method.granularity, group)

    config = dataclasses.replace(model.config, quantize_activations=quantize_activations)
    return FilePlan(
        config=config.to_dict(),
        tensors=[tensor(name, info.shape) for name, info in model.tensors.items()],
        blobs={} if model.tokenizer_json is None else {"tokenizer.json": model.tokenizer_json},
        generation=model.generation_config,
        chat_template=model.chat_template,
        metadata={**model.metadata, **facts},
    )


def _write(
    model: LoadedModel,
    plan: FilePlan,
    writer: FileWriter,
    method: Method,
    sequences: NDArray[np.int64],
    progress: Callable[[str], None],
) -> None:
    config = plan.config
    matrices = ternary_matrices(model, method, sequences, config["quantize_activations"], progress)
    for tensor in plan.tensors:
        if tensor.granularity is not None:
            name, matrix = next(matrices)
            _write_matrix(writer, name, matrix)
            continue
        floats = model.weights[tensor.name]
        if isinstance(floats, PlaneMatrix):
            floats = floats.floats()
        elif not isinstance(floats, FloatMatrix):
            floats = FloatMatrix("f32", tensor.rows, tensor.depth, floats.unpack().dequantize().reshape(-1))
        writer.write_tensor(tensor.name, float_chunks(tensor.name, floats, tensor.type))
        model.release()


def _write_matrix(writer: FileWriter, name: str, matrix: TernaryTensor) -> None:
    writer.write_tensor(name, [packing(PACKING).pack(matrix.codes)], matrix.scales.reshape(-1))
