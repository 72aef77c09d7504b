"""How many gates of the feed-forward network are zero on a real text, and what skipping them could save.

A gate that ReLU closes makes its row of `up` and its column of `down` superfluous for this token, with the
very same bits as a result. But packed weights come in tiles: rows of `up` can be left unread in tiles of 16
(two_bit) or 64 (five_per_byte), and only where all their gates are zero; of `down`, columns in tiles of 16 or
5, where all inputs round to zero. So what counts is not how many are zero but how many tiles are. Sorting
the neurons by how often they are zero changes no result and brings zeros together: `sorted` columns say what
that would give, the order taken from the first half of the text and tried on the second, as all figures are.

Measured on `tercet.reference`, which computes every position at once and lets one look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.bench.report import Axes, Column, Report
from tercet.bench.session import Session
from tercet.errors import ParameterError, UnsupportedModelError
from tercet.models.loading import LoadedModel
from tercet.quantization.activations import input_rounding
from tercet.reference.decoder import ReferenceDecoder
from tercet.reference.linear import rounded

__all__ = ["bench_sparsity", "zeros_of"]

Bits = npt.NDArray[np.bool_]

UP_ROWS = {"two_bit": 16, "five_per_byte": 64}
DOWN_COLUMNS = {"two_bit": 16, "five_per_byte": 5}
_COLUMNS = (
    Column("layer", "layer"),
    Column("zero_gates", "zero gates, %", ".1f", 100),
    Column("zero_inputs", "zero inputs of down, %", ".1f", 100),
    Column("always_zero", "neurons never open, %", ".1f", 100),
    Column("up_tiles", "tiles of up, %", ".1f", 100),
    Column("up_tiles_sorted", "sorted, %", ".1f", 100),
    Column("down_tiles", "tiles of down, %", ".1f", 100),
    Column("down_tiles_sorted", "sorted, %", ".1f", 100),
    Column("bytes", "bytes of a token, %", ".2f", 100),
    Column("bytes_sorted", "sorted, %", ".2f", 100),
)


class _Watched(ReferenceDecoder):
    """Notes which gates are closed, and which inputs of `down` round to zero."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(model.config, _Kept(model.reference_weights))
        self.zeros: dict[str, list[npt.NDArray[np.uint8]]] = {}

    def _linear(self, name: str, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        result = super()._linear(name, x)
        if name.endswith("ffn.gate"):
            self._note(name, result <= 0)
        elif name.endswith("ffn.down"):
            rounding = input_rounding(self.config.activation_rule, name)
            self._note(name, rounded(x, rounding)[0] == 0 if self.quantize_activations else x == 0)
        return result

    def _note(self, name: str, is_zero: Bits) -> None:
        self.zeros.setdefault(name, []).append(np.packbits(is_zero, axis=1))


class _Kept(dict[str, Any]):
    """Weights that are made on their first look-up."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        super().__init__()
        self._weights = weights

    def __missing__(self, name: str) -> Any:
        self[name] = self._weights[name]
        return self[name]


def zeros_of(model: LoadedModel, sequences: Iterable[list[int]]) -> dict[str, Bits]:
    """For `layers.{i}.ffn.gate` and `layers.{i}.ffn.down`: what was zero, bool [tokens, ffn_size]."""
    watched = _Watched(model)
    for ids in sequences:
        watched.hidden_states(ids)
    return {
        name: np.unpackbits(np.concatenate(parts), axis=1, count=model.config.ffn_size).astype(bool)
        for name, parts in watched.zeros.items()
    }


def bench_sparsity(
    session: Session, model: LoadedModel, name: str, texts: Iterable[str], num_tokens: int
) -> Report:
    """Report a row for each layer, and one for all.

    Args:
        session: tells how far it has come.
        model: of the activation `relu2`.
        name: what the report calls the model.
        texts: documents, each read from its beginning; as many as it takes.
        num_tokens: tokens to read.

    Raises:
        UnsupportedModelError: the model's gates are never exactly zero.
        ParameterError: the texts have no two tokens.
    """
    if model.config.activation != "relu2":
        raise UnsupportedModelError(
            f"{name} has the activation {model.config.activation}, whose gates are never exactly zero; "
            "there is nothing to skip without changing results"
        )
    zeros = zeros_of(model, _sequences(session, model, texts, num_tokens))
    count = min((len(bits) for bits in zeros.values()), default=0)
    if count < 2:
        raise ParameterError("the text has fewer than two tokens; give more of it")
    rows = [_row(model, layer, zeros) for layer in range(model.config.num_layers)]
    total = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    total |= {key: float(np.sum([row[key] for row in rows])) for key in ("bytes", "bytes_sorted")}
    return Report.of(
        session,
        "sparsity",
        f"Zero gates of {name}, {count:,} tokens",
        _COLUMNS,
        [*({**row, "layer": str(layer)} for layer, row in enumerate(rows)), {**total, "layer": "all"}],
        Axes("layer", "zero_gates", "layer", "share of gates that are zero"),
        (
            "Tiles: those that are zero altogether, so that their weights need not be read. Bytes of a "
            "token: the share of all weights that it reads (projections and head) which skipping would leave "
            "unread.",
        ),
    )


def _sequences(
    session: Session, model: LoadedModel, texts: Iterable[str], num_tokens: int
) -> Iterable[list[int]]:
    tokenizer, first, left = model.tokenizer(), model.config.first_token_id, num_tokens
    for text in texts:
        if left <= 0:
            return
        session.progress(f"{num_tokens - left:,} of {num_tokens:,} tokens")
        ids = [*([] if first is None else [first]), *tokenizer.encode(text)]
        ids = ids[: min(model.config.max_context, left)]
        left -= len(ids)
        if ids:
            yield ids


def _row(model: LoadedModel, layer: int, zeros: Mapping[str, Bits]) -> dict[str, float]:
    prefix = f"layers.{layer}.ffn."
    gates, inputs = zeros[prefix + "gate"], zeros[prefix + "down"]
    half = len(gates) // 2
    order = np.argsort(-gates[:half].mean(axis=0), kind="stable")
    up, down = model.tensors[prefix + "up"], model.tensors[prefix + "down"]
    up_rows, down_columns = UP_ROWS.get(up.type, 16), DOWN_COLUMNS.get(down.type, 16)
    row = {
        "zero_gates": float(gates[half:].mean()),
        "zero_inputs": float(inputs[half:].mean()),
        "always_zero": float(gates.all(axis=0).mean()),
        "up_tiles": _zero_tiles(gates[half:], up_rows),
        "up_tiles_sorted": _zero_tiles(gates[half:, order], up_rows),
        "down_tiles": _zero_tiles(inputs[half:], down_columns),
        "down_tiles_sorted": _zero_tiles(inputs[half:, order], down_columns),
    }
    for suffix in ("", "_sorted"):
        saved = up.num_bytes * row["up_tiles" + suffix] + down.num_bytes * row["down_tiles" + suffix]
        row["bytes" + suffix] = saved / _bytes_of_a_token(model)
    return row


def _zero_tiles(is_zero: Bits, width: int) -> float:
    """The share of tiles of so many neighbours that are all zero, the padding of the last one included."""
    padding = -is_zero.shape[1] % width
    padded = np.pad(is_zero, ((0, 0), (0, padding)), constant_values=True)
    return float(padded.reshape(len(padded), -1, width).all(axis=2).mean())


def _bytes_of_a_token(model: LoadedModel) -> int:
    """All weights that a token reads; of the embedding only one row, unless it is the head, too."""
    skipped = () if model.config.tied_embeddings else ("embedding",)
    return sum(info.num_bytes for name, info in model.tensors.items() if name not in skipped)
