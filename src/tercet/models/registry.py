"""From what a person types after `--model` to a file: a known name, a path, or the name of a pulled model.

Known are the models that ship inside the package, `data/NAME.tercet`. A known name wins over a file of the
same name in the current folder; write `./NAME` for that. A path wins over a model that `tercet pull` fetched.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from tercet.errors import ModelNotFoundError
from tercet.models.downloads import advice, find_download

__all__ = ["DEFAULT_MODEL", "known_models", "resolve"]

DEFAULT_MODEL = "llama-tercet-tiny"
SUFFIX = ".tercet"
SUFFIXES = (SUFFIX, ".gguf", ".safetensors")
DATA = Path(__file__).parent / "data"


def known_models() -> dict[str, Path]:
    """Return the names that `resolve` knows, and their files."""
    return {path.name.removesuffix(SUFFIX): path for path in sorted(DATA.glob(f"*{SUFFIX}"))}


def resolve(model: str | os.PathLike[str] | None = None) -> Path:
    """Return the file or folder of a model: of a known name, at a path, or for None the one that ships with
    us.

    Raises:
        ModelNotFoundError: there is none; the message lists the known names and those that look alike.
    """
    known = known_models()
    if model is None:
        model = DEFAULT_MODEL
    if isinstance(model, str) and model in known:
        return known[model]
    if model == DEFAULT_MODEL:
        raise ModelNotFoundError(
            f"this installation does not contain the model {DEFAULT_MODEL}: it is not in {DATA}. "
            "Install tercet again, or name a model file or folder."
        )
    text = os.fspath(model)
    if text and os.path.exists(os.path.expanduser(text)):  # noqa: PTH110, PTH111 (never raises, unlike Path's)
        return Path(text).expanduser()
    if (download := find_download(text)) is not None:
        return download.path
    raise ModelNotFoundError(f"there is no model {text!r}: {_what_there_is(text, list(known))}")


def _what_there_is(text: str, known: list[str]) -> str:
    """Say what was tried and what would have worked."""
    tried = "no file or folder is at this path" if _looks_like_a_path(text) else "it is no name and no path"
    if alike := difflib.get_close_matches(Path(text).name.removesuffix(SUFFIX), known, n=3):
        return f"{tried}. Did you mean {' or '.join(alike)}?"
    if not _looks_like_a_local_path(text) and (hint := advice(text)) is not None:
        return hint
    names = ", ".join(known) or "none"
    return (
        f"{tried}. The known names are: {names}; "
        "or give the path of a .tercet file, a GGUF file or a model folder."
    )


def _looks_like_a_local_path(text: str) -> bool:
    # ORG/NAME:FILE.gguf names a file on the Hub.
    return text.startswith((".", "~", os.sep)) or (text.endswith(SUFFIXES) and ":" not in text)


def _looks_like_a_path(text: str) -> bool:
    return text.startswith((".", "~")) or any(mark in text for mark in ("/", os.sep, *SUFFIXES))
