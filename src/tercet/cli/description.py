"""What is inside a model, as data: the one source of both the tables and the JSON of `tercet inspect`.

Every kind of file comes through `load_model`, so what is said here is what would run. A file that is whole
but holds no model that runs here is described by its own names, with the reason among the remarks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tercet.cli.containers import container_tensors
from tercet.cli.contents import TernaryContent, content_of, oddities
from tercet.errors import FormatError, UnsupportedFormatError, UnsupportedModelError
from tercet.formats.gguf import KernelConfig
from tercet.formats.tercet import TercetFile
from tercet.models.loading import LoadedModel, load_model

__all__ = ["describe", "grouped"]


def describe(
    path: Path,
    *,
    quick: bool = False,
    digest: bool = False,
    layout: str | None = None,
    kernels: KernelConfig | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Open a model and say what is inside.

    Args:
        path: the file or folder.
        quick: whether to say only what can be said without reading the weights; they are not checked then.
        digest: whether to add what identifies every ternary matrix, whatever it is stored as.
        layout: how the I2_S tensors of a GGUF file lie, where that cannot be found out.
        kernels: for TL1 and TL2 in a GGUF file, the kernel config of the build that made it.
        progress: called with the name of every tensor before it is read.

    Raises:
        TercetError: it is damaged, no model at all, or not there.
    """
    try:
        model = load_model(path, verify=not quick, layout=layout, kernels=kernels)
    except (UnsupportedModelError, UnsupportedFormatError) as reason:
        if (found := container_tensors(path, kernels, digest=digest and not quick)) is None:
            raise
        return _container(path, *found, f"it cannot be run: {reason}")
    contents: dict[str, TernaryContent] = {}
    for name in model.tensors if not quick or digest else ():
        progress(name)
        if (content := content_of(model, name, digest=digest)) is not None:
            contents[name] = content
        model.release()
    return _model(path, model, contents, checked=not quick)


def _model(
    path: Path, model: LoadedModel, contents: Mapping[str, TernaryContent], *, checked: bool
) -> dict[str, Any]:
    file = TercetFile(path, verify=False) if TercetFile.recognizes(path) else None
    sizes = {name: math.prod(info.shape) for name, info in model.tensors.items()}
    tensors = []
    for name, info in model.tensors.items():
        content = contents.get(name)
        tensor: dict[str, Any] = {
            "name": name,
            "stored_name": info.stored_name or name,
            "type": info.type,
            "shape": list(info.shape),
            "bytes": info.num_bytes,
            "granularity": info.granularity,
            "group_size": info.group_size,
            "rounded_on_loading": info.is_master,
            "zeros": None if content is None else content.zeros,
            "sha256": None if file is None else file.header.tensors[name].sha256,
        }
        digest = {} if content is None or content.digest is None else {"digest": content.digest}
        tensors.append(tensor | _ratios([tensor]) | digest)
    ternary = [tensor for tensor in tensors if tensor["granularity"] is not None]
    tokens, remarks = _tokens(model)
    return {
        "path": str(path),
        "kind": model.kind,
        "bytes": _size(path),
        "checked": checked,
        "has_checksums": file is not None,
        "parameters": model.config.num_parameters,
        "ternary_parameters": sum(sizes[tensor["name"]] for tensor in ternary),
        "bits_per_weight": _ratios(tensors)["bits_per_weight"],
        "ternary_bits_per_weight": _ratios(ternary)["bits_per_weight"],
        "share_of_zeros": _ratios(ternary)["share_of_zeros"],
        "config": model.config.to_dict(),
        "tokens": tokens,
        "chat_template": model.chat_template,
        "generation": dict(model.generation_config),
        "metadata": dict(model.metadata),
        "blobs": {} if file is None else _blobs(file),
        "remarks": [*model.remarks, *remarks, *oddities(contents, sizes)],
        "tensors": tensors,
    }


def _container(path: Path, kind: str, tensors: list[dict[str, Any]], remark: str) -> dict[str, Any]:
    complete = [
        {"stored_name": tensor["name"], "granularity": None, "zeros": None} | tensor | _ratios([tensor])
        for tensor in tensors
    ]
    return {
        "path": str(path),
        "kind": kind,
        "bytes": _size(path),
        "checked": False,
        "has_checksums": False,
        "parameters": sum(math.prod(tensor["shape"]) for tensor in tensors),
        "bits_per_weight": _ratios(tensors)["bits_per_weight"],
        "config": None,
        "remarks": [remark, *(tensor["remark"] for tensor in tensors if "remark" in tensor)],
        "tensors": complete,
    }


def _tokens(model: LoadedModel) -> tuple[int | None, list[str]]:
    """How many tokens the tokenizer has, and what is odd about that."""
    if model.tokenizer_json is None:
        return None, []
    try:
        return model.tokenizer().vocab_size, []
    except FormatError as error:
        return None, [f"the tokenizer cannot be used: {error}"]


def _blobs(file: TercetFile) -> dict[str, Any]:
    return {
        name: {"bytes": blob.piece.num_bytes, "sha256": blob.sha256}
        for name, blob in file.header.blobs.items()
    }


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _ratios(tensors: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Bits per weight, and the share of zeros where they were counted."""
    weights = sum(math.prod(tensor["shape"]) for tensor in tensors)
    counted = [tensor for tensor in tensors if tensor.get("zeros") is not None]
    of_counted = sum(math.prod(tensor["shape"]) for tensor in counted)
    return {
        "bits_per_weight": 8 * sum(tensor["bytes"] for tensor in tensors) / weights if weights else None,
        "share_of_zeros": sum(tensor["zeros"] for tensor in counted) / of_counted if of_counted else None,
    }


def grouped(tensors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a short table: a tensor that all layers have is one row, `layers.*.ffn.up`, with sums."""
    rows: dict[tuple[str, str, tuple[int, ...]], list[Mapping[str, Any]]] = {}
    for tensor in tensors:
        parts = ["*" if part.isdigit() else part for part in tensor["name"].split(".")]
        rows.setdefault((".".join(parts), tensor["type"], tuple(tensor["shape"])), []).append(tensor)
    return [
        {
            **members[0],
            "name": name,
            "count": len(members),
            "bytes": sum(member["bytes"] for member in members),
            "share_of_zeros": _ratios(members)["share_of_zeros"],
        }
        for (name, _, _), members in rows.items()
    ]
