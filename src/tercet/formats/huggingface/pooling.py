"""How an embedding model makes one vector of its tokens: `modules.json` of sentence-transformers.

modules.json             [{"type": "...models.Transformer"}, {"type": "...Pooling", "path": "1_Pooling"},
                          {"type": "...Normalize"}]
1_Pooling/config.json    {"pooling_mode_lasttoken": true, ...}   or {"pooling_mode": "lasttoken"}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tercet.errors import UnsupportedModelError
from tercet.formats.fields import Fields, malformed, parse_json
from tercet.formats.mapped_file import is_file_name, read_bytes

__all__ = ["MODULES", "pooling_files", "read_pooling"]

MODULES = "modules.json"
POOLING = "1_Pooling"
_MODE = "pooling_mode_"


def read_pooling(folder: Path) -> dict[str, Any]:
    """Return `pooling` and `normalize_embeddings` as ModelConfig has them; nothing for models of text.

    Raises:
        FormatError: a file is malformed.
        UnsupportedModelError: the vector is made in another way than from the last token.
    """
    file = folder / MODULES
    if not file.exists():
        return {}
    modules = parse_json(read_bytes(file), file, "the file")
    if not isinstance(modules, list):
        raise malformed(file, "the file", modules, "a list of modules")
    made: dict[str, Any] = {}
    for index, module in enumerate(modules):
        entry = Fields(module, file, f"modules[{index}]")
        kind = entry.text("type").rpartition(".")[2]
        if kind == "Pooling":
            made["pooling"] = _pooling(folder, entry, file)
        elif kind == "Normalize":
            made["normalize_embeddings"] = True
        elif kind != "Transformer":
            raise UnsupportedModelError(
                f"{file}: the embedding model has a module {kind!r}, which Tercet does not run"
            )
    return made


def _pooling(folder: Path, entry: Fields, modules: Path) -> str:
    place = entry.text("path")
    if not is_file_name(place):
        raise entry.error("path", "the name of a folder beside it")
    file = folder / place / "config.json"
    parsed = parse_json(read_bytes(file), file, "the file")
    fields = Fields(parsed, file, "pooling")
    if "pooling_mode" in fields:
        modes = [fields.text("pooling_mode")]
    else:
        modes = [key.removeprefix(_MODE) for key in fields if key.startswith(_MODE) and fields.flag(key)]
    if modes != ["lasttoken"]:
        raise UnsupportedModelError(
            f"{file}: the pooling is {' and '.join(modes) or 'none'}; Tercet takes the last token's vector"
        )
    return "last"


def pooling_files(hidden_size: int, normalize: bool) -> dict[str, bytes]:
    """Return the files that `read_pooling` reads, by their names in the folder."""
    names = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if name == "Transformer" else f"{index}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for index, name in enumerate(names)
    ]
    pooling = {"word_embedding_dimension": hidden_size, f"{_MODE}lasttoken": True}
    return {
        MODULES: json.dumps(modules, indent=2).encode() + b"\n",
        f"{POOLING}/config.json": json.dumps(pooling, indent=2).encode() + b"\n",
    }
