"""Which of its three layouts the I2_S tensors of a file are in, which no field of the file says.

A wrong layout only moves weights about, so no single byte gives it away. But the weights of a trained model
have structure that moving destroys, and this module measures how much of it each layout shows:

  * Rows and columns differ in how many zeros they have (dead neurons have nothing else). For each row and
  column
    the log-likelihood of its own rate against the common rate is taken.
  * What belongs to one channel goes together. Which columns of the query matrix are dense has to do with
  the weights
    of the norm before it, with the embedding, and with the rows that write to the same channel; columns of
    the down projection with the rows of up and gate. Each such correlation r over n channels counts -n/2
    ln(1 - r^2). This part alone can tell `canonical` from `arm`: they order the columns differently, alike
    in every row.

Every term is taken less what chance gives, so pure noise scores 0 give or take `noise`. The canonical layout
is what nearly every file has. Another is believed where it is ahead by far more than chance allows; where
it is ahead by a little more, nobody can tell, and the file is refused until the user says which it is.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Literal

import numpy as np
import numpy.typing as npt

from tercet.errors import UnsupportedFormatError
from tercet.formats.gguf.file import GgufFile
from tercet.formats.gguf.tensor_types import LAYOUTS, I2SLayout, I2SType

__all__ = ["LayoutFinding", "find_i2_s_layout"]

Profile = npt.NDArray[np.float64]

MAX_WEIGHTS = 1 << 26
"""Layers are looked at until so many weights were."""
CERTAIN, DOUBTFUL = 6.0, 3.0
"""Advantages over the canonical layout, as multiples of the noise."""
MARGIN = 2.0
"""Added to the noise: tiny models give few terms, and these have longer tails than the normal law."""

EMBEDDING = "token_embd.weight"
MAX_EMBEDDING_ROWS = 4096

_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.weight")

# Columns of the matrix on the left follow the channels of what is on the right: norms, the embedding, or rows
# (r:) of other matrices.
_HIDDEN = ("embedding", "r:attn_output", "r:ffn_down")
_COMPANIONS = {
    "attn_q": ("attn_norm", *_HIDDEN),
    "attn_k": ("attn_norm", *_HIDDEN),
    "attn_v": ("attn_norm", *_HIDDEN),
    "attn_output": ("attn_sub_norm", "r:attn_v"),
    "ffn_gate": ("ffn_norm", *_HIDDEN),
    "ffn_up": ("ffn_norm", *_HIDDEN),
    "ffn_down": ("ffn_sub_norm", "r:ffn_gate", "r:ffn_up"),
}


@dataclasses.dataclass(frozen=True)
class LayoutFinding:
    """What was found, and how sure that is."""

    layout: I2SLayout
    certainty: Literal["detected", "assumed", "given"]
    """`assumed`, and then canonical, where no layout shows any structure, as with random weights."""
    scores: dict[I2SLayout, float]
    noise: float


def find_i2_s_layout(file: GgufFile) -> LayoutFinding:
    """Find the layout of a file's I2_S tensors.

    Raises:
        FormatError: a tensor is damaged.
        UnsupportedFormatError: one of the other layouts fits better than the canonical, and not clearly.
    """
    possible: list[I2SLayout] = [layout for layout in LAYOUTS if _possible(file, layout)]
    if not possible:
        raise UnsupportedFormatError(
            f"{file.path}: the shapes of its I2_S tensors fit none of the layouts {', '.join(LAYOUTS)}"
        )
    if len(possible) == 1:
        return LayoutFinding(possible[0], "detected", {}, 0.0)
    own: dict[I2SLayout, float] = dict.fromkeys(possible, 0.0)
    shared: dict[I2SLayout, float] = dict.fromkeys(possible, 0.0)
    num_own = num_shared = 0
    for layer in _layers(file):
        known = _known_profiles(file, layer)
        for layout in possible:
            rows, columns = _densities(file, layer, layout)
            profiles = [*rows.values(), *columns.values()]
            terms = _shared_terms(rows, columns, known, _num_heads(file))
            own[layout] += sum(_own_rate_gain(*profile) for profile in profiles)
            shared[layout] += sum(terms)
        num_own += sum(len(counts) for counts, _ in profiles)
        num_shared += len(terms)
    scores = {layout: own[layout] + shared[layout] for layout in possible}
    return _decide(file, possible, scores, own, num_own, num_shared)


def _decide(
    file: GgufFile,
    possible: list[I2SLayout],
    scores: dict[I2SLayout, float],
    own: dict[I2SLayout, float],
    num_own: int,
    num_shared: int,
) -> LayoutFinding:
    first = possible[0]

    def noise(layout: I2SLayout) -> float:
        """How far chance drives two scores apart: each term has the variance of half a chi square."""
        differ = not math.isclose(own[layout], own[first], rel_tol=1e-9, abs_tol=1e-6)
        return MARGIN + math.sqrt(num_shared + (num_own if differ else 0))

    others = [layout for layout in possible if layout != first]
    advantage = {layout: (scores[layout] - scores[first]) / noise(layout) for layout in others}
    best = max(others, key=lambda layout: advantage[layout])
    widest = max(noise(layout) for layout in others)
    if advantage[best] > CERTAIN and all(
        scores[best] - scores[layout] > CERTAIN * noise(layout) for layout in others if layout != best
    ):
        return LayoutFinding(best, "detected", scores, widest)
    if advantage[best] > DOUBTFUL:
        raise UnsupportedFormatError(
            f"{file.path}: its I2_S tensors may be in the layout {first!r} or {best!r}, and the file does "
            "not say. It was written on another kind of machine, or is damaged. Convert it again with the "
            "Python converter of bitnet.cpp, or say which layout it is in: "
            f"tercet convert SOURCE MODEL.tercet --layout {best}"
        )
    sure = all(value < -CERTAIN for value in advantage.values())
    return LayoutFinding(first, "detected" if sure else "assumed", scores, widest)


def _possible(file: GgufFile, layout: I2SLayout) -> bool:
    return all(
        tensor.type.fits(layout, tensor.rows, tensor.depth)
        for tensor in file.tensors.values()
        if isinstance(tensor.type, I2SType)
    )


def _layers(file: GgufFile) -> list[dict[str, str]]:
    """Choose layers to look at, spread over the model: for each the names of its tensors by their part."""
    layers: dict[int, dict[str, str]] = {}
    for name in file.tensors:
        if match := _LAYER.fullmatch(name):
            layers.setdefault(int(match[1]), {})[match[2]] = name
    found = [layers[index] for index in sorted(layers) if _num_weights(file, layers[index])]
    if not found:
        return []
    count = min(len(found), max(1, MAX_WEIGHTS // max(_num_weights(file, layer) for layer in found)))
    return [found[index * len(found) // count] for index in range(count)]


def _num_weights(file: GgufFile, layer: dict[str, str]) -> int:
    tensors = [file.tensors[name] for part, name in layer.items() if part in _COMPANIONS]
    return sum(tensor.rows * tensor.depth for tensor in tensors if isinstance(tensor.type, I2SType))


def _densities(
    file: GgufFile, layer: dict[str, str], layout: I2SLayout
) -> tuple[dict[str, tuple[Profile, int]], dict[str, tuple[Profile, int]]]:
    """For rows and for columns of each matrix: how many weights are not zero, and of how many."""
    rows: dict[str, tuple[Profile, int]] = {}
    columns: dict[str, tuple[Profile, int]] = {}
    for part in _COMPANIONS:
        if part in layer and isinstance(file.tensors[layer[part]].type, I2SType):
            nonzero = file.levels(layer[part], layout).codes.view(np.bool_)
            rows[part] = nonzero.sum(axis=1).astype(np.float64), nonzero.shape[1]
            columns[part] = nonzero.sum(axis=0).astype(np.float64), nonzero.shape[0]
    return rows, columns


def _known_profiles(file: GgufFile, layer: dict[str, str]) -> dict[str, Profile]:
    """Size by channel of tensors whose order is not in doubt: norms, and the embedding's columns."""
    profiles = {
        part: np.abs(file.float32(name).reshape(-1)).astype(np.float64)
        for part, name in layer.items()
        if part.endswith("_norm") and not file.tensors[name].stores_ternary
    }
    if EMBEDDING in file.tensors and not file.tensors[EMBEDDING].stores_ternary:
        values = file.float32(EMBEDDING, slice(0, MAX_EMBEDDING_ROWS))
        profiles["embedding"] = np.square(values, dtype=np.float64).mean(axis=0)
    return profiles


def _num_heads(file: GgufFile) -> int | None:
    """The number of attention heads, if the file gives a plain one."""
    for key, value in file.metadata.items():
        if key.endswith(".attention.head_count") and type(value.value) is int:
            return value.value
    return None


def _own_rate_gain(counts: Profile, out_of: int) -> float:
    """Log-likelihood of a rate for each row against one rate for all, less what chance gives."""
    common = counts.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(counts > 0, counts * np.log(counts / common), 0.0)
        rest = np.where(
            counts < out_of, (out_of - counts) * np.log((out_of - counts) / (out_of - common)), 0.0
        )
    return float(gain.sum() + rest.sum()) - len(counts) / 2


def _shared_terms(
    rows: dict[str, tuple[Profile, int]],
    columns: dict[str, tuple[Profile, int]],
    known: dict[str, Profile],
    num_heads: int | None,
) -> list[float]:
    terms = []
    for part, (counts, _) in columns.items():
        for companion in _COMPANIONS[part]:
            other = known.get(companion)
            if companion.startswith("r:") and companion[2:] in rows:
                other = rows[companion[2:]][0]
                if companion == "r:attn_v":
                    other = _for_every_head(other, len(counts), num_heads)
            if other is not None:
                terms.append(_correlation_gain(counts, other))
    return terms


def _for_every_head(values: Profile, width: int, num_heads: int | None) -> Profile:
    """Repeat the channels of each value head for the query heads that share it."""
    if not num_heads or width % num_heads or len(values) % (width // num_heads):
        return values
    heads = values.reshape(-1, width // num_heads)
    repeats = num_heads // len(heads)
    return np.repeat(heads, repeats, axis=0).reshape(-1)


def _correlation_gain(one: Profile, other: Profile) -> float:
    """-n/2 ln(1 - r^2), less what chance gives; ranks are compared, so that no outlier decides."""
    if len(one) != len(other) or len(one) < 8:
        return 0.0
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    r = float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])
    return -len(one) / 2 * math.log(max(1 - r * r, 1e-12)) - 0.5


def _ranks(values: Profile) -> Profile:
    """Positions in sorted order; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Profile = ends - (counts - 1) / 2
    return means[inverse]
