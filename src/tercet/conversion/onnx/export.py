"""Writing a model as a folder with an ONNX graph: it appears complete and compared, or not at all.

model.onnx          the graph
model.onnx.data     the weights, which the graph points into
config.json, tokenizer.json, ...       as other programs look for them
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tercet.conversion.staging import staging
from tercet.environment import atomic_write, optional_import
from tercet.errors import FormatError, ParameterError
from tercet.formats.huggingface import FolderPlan
from tercet.formats.huggingface.folder_writer import check_folder_target, move_folder
from tercet.models.loading import LoadedModel

__all__ = ["MATMULS", "OnnxExport", "export_onnx"]

MATMULS = ("two_bit", "int8")
GRAPH = "model.onnx"
WEIGHTS = "model.onnx.data"
EXTRA = "onnx"


@dataclasses.dataclass(frozen=True)
class OnnxExport:
    """What was written."""

    path: Path
    """The folder."""
    file_bytes: int
    """Bytes of graph and weights."""
    seconds: float
    relative_rms_error: float | None
    """How much the logits of onnxruntime differ from the reference's; None where it was not asked for."""


def export_onnx(
    source: LoadedModel,
    destination: str | os.PathLike[str],
    *,
    matmul: str = "two_bit",
    overwrite: bool = False,
    verify: bool = True,
    progress: Callable[[str], None] | None = None,
) -> OnnxExport:
    """Write a model as a folder that onnxruntime runs.

    Args:
        source: the model, as `tercet.models.loading.load_model` opens it.
        destination: the folder to make.
        matmul: how codes are stored and multiplied: `two_bit` (MatMulNBits, which onnxruntime has for CPUs),
            or `int8` (operators of ONNX itself, for every runtime).
        overwrite: whether a model folder of this name may be replaced.
        verify: whether to run the result and compare its logits with the reference's, before it gets its
            name.
        progress: called with the name of what is being written.

    Raises:
        MissingExtraError: the package onnx (or, to verify, onnxruntime) is not installed.
        ParameterError: there is no such matmul, or the activations are not rounded to int8.
        StorageError: the folder exists or cannot be written, or the disk is full.
        FormatError: the result computes something else.
    """
    started = time.monotonic()
    optional_import("onnx", EXTRA)
    if verify:
        optional_import("onnxruntime", EXTRA)
    if matmul not in MATMULS:
        raise ParameterError(f"there is no matmul {matmul!r}; there are {', '.join(MATMULS)}")
    if source.config.quantize_activations and source.config.activation_rule != "int8":
        raise ParameterError(
            f"{source.path} rounds activations by the rule {source.config.activation_rule}, and a graph is "
            "written for int8 alone. Run the model with Tercet."
        )
    target = Path(destination).absolute()
    if not (overwrite and (target / GRAPH).exists()):
        check_folder_target(target, overwrite)
    fingerprint = hashlib.sha256(f"onnx {source.path} {os.getpid()} {started}".encode()).hexdigest()
    with staging(target, fingerprint, inner_file=WEIGHTS) as place:
        for name, content in _small_files(source).items():
            (place.path / name).parent.mkdir(exist_ok=True)
            with atomic_write(place.path / name) as file:
                file.write(content)
        with atomic_write(place.path / GRAPH) as file:
            file.write(_written(source, place.file, matmul, progress))
        place.finish()
        error = _verified(source, place.path, progress) if verify else None
        num_bytes = sum((place.path / name).stat().st_size for name in (GRAPH, WEIGHTS))
        move_folder(place.path, target)
    return OnnxExport(Path(destination), num_bytes, time.monotonic() - started, error)


def _written(
    source: LoadedModel, file: BinaryIO, matmul: str, progress: Callable[[str], None] | None
) -> bytes:
    """Write the weights, and return the graph."""
    from tercet.conversion.onnx.decoder import DecoderGraph
    from tercet.conversion.onnx.graph import Graph
    from tercet.conversion.onnx.int8 import Int8
    from tercet.conversion.onnx.products import Products
    from tercet.conversion.onnx.two_bit import TwoBit

    graph = Graph(file, WEIGHTS)
    products = Products(graph, TwoBit(graph) if matmul == "two_bit" else Int8(graph))
    DecoderGraph(graph, products, source.config, source.plain_weights, source.release, progress).build()
    config = source.config
    metadata = {
        "architecture": config.architecture,
        "max_context": str(config.max_context),
        "eos_token_ids": " ".join(map(str, config.eos_token_ids)),
        "activations": "int8 per token" if config.quantize_activations else "float32",
    }
    written: bytes = graph.model(config.architecture, metadata).SerializeToString()
    return written


def _small_files(source: LoadedModel) -> dict[str, bytes]:
    """Return what stands beside a graph for other programs: config and tokenizer."""
    try:
        plan = FolderPlan(
            source.config.to_dict(),
            {name: info.shape for name, info in source.tensors.items()},
            {name: "tensor" for name, info in source.tensors.items() if info.granularity is not None},
            "online" if source.config.quantize_activations else "floats",
            "f32",
            tokenizer_json=source.tokenizer_json,
            chat_template=source.chat_template,
            generation=source.generation_config,
        )
        return plan.small_files()
    except ParameterError:  # transformers has no such architecture, so there is no config.json to write
        return {} if source.tokenizer_json is None else {"tokenizer.json": source.tokenizer_json}


def _verified(source: LoadedModel, folder: Path, progress: Callable[[str], None] | None) -> float:
    from tercet.conversion.onnx.session import compare

    if progress is not None:
        progress("comparing")
    error, tolerance = compare(source, folder / GRAPH)
    source.release()
    if not error <= tolerance:
        raise FormatError(
            f"the ONNX graph of {source.path} was not kept, because onnxruntime computes something else with "
            f"it: logits differ by {error:.2e} (relative RMS, {tolerance:.0e} allowed)"
        )
    return error
