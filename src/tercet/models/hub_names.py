"""Names of models on the Hugging Face Hub, and the one table of the short ones that people use.

    bitnet-2b  ->  microsoft/bitnet-b1.58-2B-4T

A name is `ORGANIZATION/NAME`, with `@REVISION` or `:FILE` behind it where the model is not on the main branch
or the repository holds several. Upper and lower case make no difference in short ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tercet.security.paths import is_safe_path as inside

__all__ = ["ALIASES", "MAIN", "PART", "HubName", "hub_name", "is_safe_path"]

MAIN = "main"
PART = ".part"
"""The end of the name of a file that is being downloaded."""

_PART_OF_A_NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_NAME = re.compile(
    rf"(?P<repository>{_PART_OF_A_NAME}/{_PART_OF_A_NAME})"
    r"(?:@(?P<revision>[\w./-]{1,100}))?(?::(?P<file>.{1,200}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class HubName:
    """Where a model is on the Hub; None is whatever is usual there."""

    repository: str
    revision: str | None = None
    file: str | None = None


def hub_name(text: str) -> HubName | None:
    """Read a name or an alias, with or without a revision and a file; None if it can be neither."""
    base = re.split("[@:]", text, maxsplit=1)[0]
    match = _NAME.fullmatch(ALIASES.get(base.lower(), base) + text[len(base) :])
    if match is None or ".." in text or (match["file"] is not None and not is_safe_path(match["file"])):
        return None
    return HubName(match["repository"], match["revision"], match["file"])


def is_safe_path(path: str) -> bool:
    """Whether a path in a repository stays inside it, on every system, and is not that of half a download."""
    return inside(path) and not any(part.endswith(PART) for part in path.split("/"))


def _aliases() -> dict[str, str]:
    table = {
        "bitnet-2b": "microsoft/bitnet-b1.58-2B-4T",
        "bitnet-2b-4t": "microsoft/bitnet-b1.58-2B-4T",
        "bitnet-b1.58-2b-4t": "microsoft/bitnet-b1.58-2B-4T",
        "bitnet-2b-bf16": "microsoft/bitnet-b1.58-2B-4T-bf16",
        "bitnet-b1.58-2b-4t-bf16": "microsoft/bitnet-b1.58-2B-4T-bf16",
        "bitnet-2b-gguf": "microsoft/bitnet-b1.58-2B-4T-gguf",
        "bitnet-b1.58-2b-4t-gguf": "microsoft/bitnet-b1.58-2B-4T-gguf",
        "bitnet-embedding-0.6b": "microsoft/bitnet-embedding-0.6B",
        "bitnet-embedding-270m": "microsoft/bitnet-embedding-270M",
        "bitnet-large": "1bitLLM/bitnet_b1_58-large",
        "bitnet-700m": "1bitLLM/bitnet_b1_58-large",
        "bitnet-xl": "1bitLLM/bitnet_b1_58-xl",
        "bitnet-3b": "1bitLLM/bitnet_b1_58-3B",
        "llama3-8b-1.58": "HF1BitLLM/Llama3-8B-1.58-100B-tokens",
        "llama3-8b-1.58-100b-tokens": "HF1BitLLM/Llama3-8B-1.58-100B-tokens",
    }
    for size in ("1B", "3B", "7B", "10B"):
        table[f"falcon3-{size}-1.58"] = f"tiiuae/Falcon3-{size}-Instruct-1.58bit"
        table[f"falcon3-{size}-instruct-1.58"] = f"tiiuae/Falcon3-{size}-Instruct-1.58bit"
        table[f"falcon3-{size}-base-1.58"] = f"tiiuae/Falcon3-{size}-Base-1.58bit"
    for size in ("1B", "3B"):
        table[f"falcon-e-{size}"] = f"tiiuae/Falcon-E-{size}-Instruct"
        table[f"falcon-e-{size}-instruct"] = f"tiiuae/Falcon-E-{size}-Instruct"
        table[f"falcon-e-{size}-base"] = f"tiiuae/Falcon-E-{size}-Base"
    for size in ("99M", "190M", "390M", "560M", "830M", "1.1B", "1.5B", "2.4B", "3.9B"):
        table[f"trilm-{size}"] = f"SpectraSuite/TriLM_{size}_Unpacked"
    for size in ("1.7B", "4B", "8B"):
        table[f"bonsai-{size}"] = f"prism-ml/Ternary-Bonsai-{size}-gguf"
        table[f"ternary-bonsai-{size}"] = f"prism-ml/Ternary-Bonsai-{size}-gguf"
        table[f"bonsai-{size}-1bit"] = f"prism-ml/Bonsai-{size}-gguf"
    return {alias.lower(): name for alias, name in table.items()}


ALIASES: Mapping[str, str] = _aliases()
"""Alias in small letters -> where the model is."""
