"""Which files of a repository are the model: decided from their names and sizes, without a download.

    safetensors in the main folder    the folder: weights, config, tokenizer, chat template
    GGUF files                        the one whose type we read best, by its name
    `--file`                          that one (and the small files beside it, if it is a safetensors file)

Pickled weights are never taken, and neither is code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tercet.errors import FormatError, ModelNotFoundError, UnsupportedFormatError
from tercet.models.hub_names import is_safe_path

__all__ = ["RemoteFile", "Selection", "select_files"]

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
)
INDEX = "model.safetensors.index.json"
GGUF = ".gguf"
SAFETENSORS = ".safetensors"
# What a name of a GGUF file says of its type, best first: ternary as the kernels have it, then what has to be
# unpacked differently, then floats, from which a ternary model can still be made.
TYPES = (
    "i2_s", "tq2_0", "tq1_0", "pq2_0", "q2_0", "ptq1_0", "iq2_bn", "iq1_bn", "q1_0",
    "bf16", "f16", "f32",
)  # fmt: skip
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_PART_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository on the Hub."""

    path: str
    num_bytes: int
    oid: str
    """SHA-256 of a large file, Git object id of a small one."""


@dataclass(frozen=True)
class Selection:
    """What to download."""

    files: tuple[RemoteFile, ...]
    file: str | None
    """The one that is the model; None if it is the folder."""

    @property
    def num_bytes(self) -> int:
        """How much it is."""
        return sum(file.num_bytes for file in self.files)


def select_files(files: Sequence[RemoteFile], repository: str, wanted: str | None = None) -> Selection:
    """Choose the files of a model.

    Args:
        files: all files of the repository.
        repository: its name, for messages.
        wanted: path or name of the file that was asked for.

    Raises:
        ModelNotFoundError: there is no such file, or none that is a model.
        UnsupportedFormatError: there are only weights of kinds that we do not read.
        FormatError: a chosen path leads out of the folder that it is in.
    """
    selection = _wanted(files, repository, wanted) if wanted is not None else _usual(files, repository)
    for file in selection.files:
        if not is_safe_path(file.path):
            raise FormatError(f"{repository} holds a file named {file.path[:80]!r}, which is not taken")
    return selection


def _usual(files: Sequence[RemoteFile], repository: str) -> Selection:
    weights = _weights([file for file in files if "/" not in file.path])
    if weights:
        return Selection((*_small(files), *weights), None)
    candidates = [file for file in files if _is_model_gguf(file.path)]
    whole = [file for file in candidates if not _PART_OF_SEVERAL.search(file.path)]
    if not whole:
        raise _nothing_readable(files, candidates, repository)
    ranked = sorted(whole, key=lambda file: (_rank(file.path), file.path))
    if len(whole) > 1 and _rank(ranked[0].path) == _rank(ranked[1].path):
        names = ", ".join(file.path for file in ranked)
        raise ModelNotFoundError(
            f"{repository} holds {len(whole)} GGUF files: {names}. Choose one with --file"
        )
    return Selection((ranked[0],), ranked[0].path)


def _wanted(files: Sequence[RemoteFile], repository: str, wanted: str) -> Selection:
    matching = [file for file in files if file.path == wanted]
    matching = matching or [file for file in files if PurePosixPath(file.path).name == wanted]
    if len(matching) != 1:
        names = ", ".join(f.path for f in files if f.path.endswith((GGUF, SAFETENSORS))) or "no weights"
        found = "no file" if not matching else f"{len(matching)} files"
        raise ModelNotFoundError(f"{repository} holds {found} {wanted[:100]!r}; it holds {names}")
    (file,) = matching
    if file.path.endswith(GGUF):
        return Selection((file,), file.path)
    if file.path.endswith(SAFETENSORS) and "/" not in file.path:
        return Selection((*_small(files), file), None)
    raise UnsupportedFormatError(
        f"{file.path} of {repository} is no model that Tercet reads; it reads GGUF and safetensors"
    )


def _weights(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The safetensors files that make the model: shards with their index, or one file."""
    names = {file.path: file for file in files}
    if INDEX in names:
        return [names[INDEX], *(file for file in files if _SHARD.fullmatch(file.path))]
    if "model.safetensors" in names:
        return [names["model.safetensors"]]
    found = [
        file for file in files if file.path.endswith(SAFETENSORS) and not file.path.startswith("adapter")
    ]
    return found if len(found) == 1 else []


def _small(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    return [file for file in files if file.path in SMALL_FILES]


def _is_model_gguf(path: str) -> bool:
    name = PurePosixPath(path).name.lower()
    return name.endswith(GGUF) and "mmproj" not in name and "imatrix" not in name


def _rank(path: str) -> int:
    """Return the place of a file's type in `TYPES`; a name that says nothing comes last."""
    words = re.split(r"[^a-z0-9_]+", PurePosixPath(path).stem.lower())
    spelled = set(words) | {word.rpartition("_g")[0] for word in words}
    return next((place for place, kind in enumerate(TYPES) if kind in spelled), len(TYPES))


def _nothing_readable(
    files: Sequence[RemoteFile], parts: Sequence[RemoteFile], repository: str
) -> ModelNotFoundError | UnsupportedFormatError:
    if parts:
        return UnsupportedFormatError(
            f"{repository} holds its model in several GGUF files ({parts[0].path}, ...), which Tercet does "
            "not read. Join them first (llama-gguf-split --merge)."
        )
    pickles = [file.path for file in files if file.path.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
    if pickles:
        return UnsupportedFormatError(
            f"{repository} holds only pickled weights ({pickles[0]}). Pickles run code when they are read, "
            "so Tercet never takes them; convert them to safetensors where you trust them."
        )
    return ModelNotFoundError(
        f"{repository} holds no model: no safetensors and no GGUF file in its main folder"
    )
