"""Which neurons of the feed-forward network contribute nothing, or little.

    silent   its row of gate or of up is all zeros: relu2(0) and silu(0) are 0, so it gives 0 for every input
    unseen   it gave 0 for every token of a text: with squared ReLU because gate never was above 0
    energy   mean over the tokens of (what it gave, as down saw it)² times the squares of its column of down:
             how much of the layer's output it makes, were it alone

What a silent neuron gives is known without looking; an unseen one may speak on another text. Without a text
the energy is what the codes say: the product of the squared sizes of its two rows and its column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel, ReferenceWeight
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.reference import ReferenceDecoder

__all__ = ["LayerNeurons", "survey"]


@dataclass(frozen=True, eq=False)
class LayerNeurons:
    """The neurons of one layer, arrays of [ffn_size]."""

    silent: NDArray[np.bool_]
    unseen: NDArray[np.bool_]
    """Silent ones are among them; without a text they are all of them."""
    energy: NDArray[np.float64]

    def order(self) -> NDArray[np.int64]:
        """The neurons in the order in which they may go: silent, unseen, then by energy."""
        return np.lexsort((np.arange(len(self.energy)), self.energy, ~self.unseen, ~self.silent))


def survey(model: LoadedModel, texts: Iterable[NDArray[np.int64]] | None = None) -> list[LayerNeurons]:
    """Look at the neurons of every layer.

    Args:
        model: any model.
        texts: token ids to run it on, each a sequence of at most the model's context.
    """
    config = model.config
    watching = _Watching(config, model.reference_weights)
    for ids in texts or ():
        watching.hidden_states(ids)
    found = []
    for layer in range(config.num_layers):
        gate, up, down = (_floats(model, f"layers.{layer}.ffn.{part}") for part in ("gate", "up", "down"))
        silent = np.asarray(~(gate.any(axis=1) & up.any(axis=1)))
        column = np.square(down, dtype=np.float64).sum(axis=0)
        if watching.tokens:
            size = watching.squares[layer] / watching.tokens
            unseen = silent | ~watching.fired[layer]
        else:
            size = np.square(gate, dtype=np.float64).sum(axis=1) * np.square(up, dtype=np.float64).sum(axis=1)
            unseen = silent
        found.append(LayerNeurons(silent, unseen, size * column))
        model.release()
    return found


class _Watching(ReferenceDecoder):
    """The specification's decoder, which remembers what down sees."""

    tokens = 0

    def __init__(self, config: ModelConfig, weights: Mapping[str, ReferenceWeight]) -> None:
        super().__init__(config, weights)
        layers, width = config.num_layers, config.ffn_size
        self.squares = np.zeros((layers, width))
        self.fired = np.zeros((layers, width), np.bool_)

    def _project(self, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        if name.endswith("ffn.down"):
            layer = int(name.split(".")[1])
            self.squares[layer] += np.square(x, dtype=np.float64).sum(axis=0)
            self.fired[layer] |= x.any(axis=0)
            self.tokens += len(x) if layer == 0 else 0
        return super()._project(name, x)


def _floats(model: LoadedModel, name: str) -> NDArray[np.float32]:
    weight = model.reference_weights[name]
    return weight.dequantize() if isinstance(weight, TernaryTensor) else weight
