"""The page of what was read and written, and verified against what: from what passing tests recorded.

`tests/verified_formats.json` holds, for every test that compares a reader or writer with something
independent, what it showed; tests/plugins/verified_formats.py writes it. This file gives the rows their names
and order.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

FAMILIES = {
    "bitnet": "BitNet b1.58: 2B-4T and its kind (sub-norms, squared ReLU or SiLU)",
    "1bitllm": "BitNet b1.58 of 1bitLLM (large, xl, 3B)",
    "binary": "BitNet 1.0 (weights -1 and +1)",
    "llama": "Llama class: Llama3-8B-1.58, Falcon3-1.58bit, Falcon-E",
    "trilm": "TriLM (Llama class, a scale for some rows)",
    "qwen3": "Qwen3 class (norms of queries and keys)",
    "bonsai": "Ternary-Bonsai (Qwen3, a scale for 128 weights, ternary embedding)",
    "bonsai-rotated": "The same in a rotated basis (Hadamard)",
    "gemma3": "Gemma3 class",
    "embedding-qwen3": "BitNet embedding 0.6B (Qwen3, a norm for each projection)",
    "embedding-gemma3": "BitNet embedding 270M (Gemma3, a norm for each projection)",
}
FORMATS = {
    "huggingface masters": "Hugging Face folder, masters made ternary on loading",
    "huggingface packed, multiplied": "Hugging Face folder, packed, `autobitlinear` (scale multiplies)",
    "huggingface packed, divided": "Hugging Face folder, packed, `bitlinear` (scale divides)",
    "huggingface floats": "Hugging Face folder, floats used as they are",
    "native": "`.tercet` file",
}
"""In this order, then GGUF by type."""
OPENING = """# What is read and written, and verified against what

Each cell was shown by tests that passed, with small random models and with files that other programs wrote;
it says what was compared with whom. "Logits" are those of both decoders, NumPy's and C++'s: with activations
unrounded they differ by less than 0.1 %, and with int8 activations every code that differs was shown to lie
at a tie between two integers. Files of programs that round activations in another way are the exception:
there logits are within 8 % of their spread. "Codes" and "scales" are equal exactly. An empty cell means that
nothing shows it.

What is refused, and why, is said when such a model is opened; `tercet inspect` explains any file.
"""


def verified_formats() -> str:
    """The page."""
    stored = json.loads((Path(__file__).parents[1] / "tests" / "verified_formats.json").read_text("utf-8"))
    found: dict[str, dict[str, dict[str, set[str]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(set))
    )
    for claims in stored.values():
        for family, form, direction, against in claims:
            found[family][form][direction].add(against)
    if unknown := sorted(set(found) - set(FAMILIES)):
        raise SystemExit(f"docs/describe_formats.py: FAMILIES lacks {', '.join(unknown)}")
    lines = [OPENING]
    for family, title in FAMILIES.items():
        if family not in found:
            continue
        lines += [f"## {title}\n", "| format | read, compared with | written, compared with |"]
        lines += ["| --- | --- | --- |"]
        for form in sorted(found[family], key=_place):
            cells = [_against(found[family][form][direction]) for direction in ("read", "write")]
            lines.append(f"| {_title(form)} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _place(form: str) -> tuple[int, str]:
    return (list(FORMATS).index(form), "") if form in FORMATS else (len(FORMATS), form)


def _title(form: str) -> str:
    if form in FORMATS:
        return FORMATS[form]
    kind = form.removeprefix("gguf ")
    if kind == form:
        raise SystemExit(f"docs/describe_formats.py: FORMATS lacks {form}")
    return f"GGUF, {kind}"


def _against(claims: set[str]) -> str:
    """`codes of a`, `codes of b` -> `codes of a and b`."""
    whom: dict[str, list[str]] = defaultdict(list)
    for claim in sorted(claims):
        what, _, who = claim.partition(" of ")
        whom[what].append(who)
    return "; ".join(f"{what} of {_listed(who)}" for what, who in whom.items())


def _listed(names: list[str]) -> str:
    *front, last = names
    return f"{', '.join(front)} and {last}" if front else last
