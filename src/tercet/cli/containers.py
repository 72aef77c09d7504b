"""Files that are whole and hold no model that runs here: described by their own names, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tercet.cli.contents import digest_of
from tercet.errors import UnsupportedFormatError
from tercet.formats.gguf import GgufFile, KernelConfig
from tercet.formats.safetensors import SafetensorsFile, SafetensorsFolder, StoredTensor

__all__ = ["container_tensors"]

Entry = dict[str, Any]


def container_tensors(
    path: Path, kernels: KernelConfig | None, *, digest: bool
) -> tuple[str, list[Entry]] | None:
    """Return what the container is, and its tensors: name, type, shape, bytes, the digest of ternary ones.

    None where the file is no container of tensors that we know.

    Raises:
        FormatError: it is one, and damaged.
    """
    if path.is_dir():
        if not any(path.glob("*.safetensors")):
            return None
        stored = SafetensorsFolder(path).tensors
        return "folder of safetensors", [_of_safetensors(tensor) for tensor in stored.values()]
    if GgufFile.recognizes(path):
        file = GgufFile(path, kernels)
        return "GGUF file", list(_of_gguf(file, digest))
    if path.suffix == ".safetensors":
        return "safetensors file", [_of_safetensors(one) for one in SafetensorsFile(path).tensors.values()]
    return None


def _of_safetensors(tensor: StoredTensor) -> Entry:
    return {"name": tensor.name, "type": tensor.dtype, "shape": list(tensor.shape), "bytes": tensor.data.size}


def _of_gguf(file: GgufFile, digest: bool) -> Iterator[Entry]:
    for name, tensor in file.tensors.items():
        entry: Entry = {"name": name, "type": tensor.type.name, "shape": list(tensor.shape)}
        entry["bytes"] = tensor.data.size
        if digest and tensor.stores_ternary:
            try:
                entry["digest"] = digest_of(file.ternary(name))
            except UnsupportedFormatError as error:
                entry["remark"] = str(error)
            file.release()
        yield entry
