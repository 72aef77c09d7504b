"""Ternary models made smaller by leaving out neurons of the feed-forward network.

    neurons    which of them contribute nothing, or little: by their codes, and by a text
    narrower   a model without some of its neurons, and the norm that keeps the rest as it was
    prune      the whole: model and text in, narrower file and report out

A neuron is a row of gate, the same row of up, and a column of down. All layers of a model are of one width,
so each loses as many. Recovery training is distillation with the whole model as teacher: `tercet distill`.
"""

from __future__ import annotations

from tercet.pruning.prune import Pruning, prune

__all__ = ["Pruning", "prune"]
