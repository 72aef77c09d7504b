"""A full-precision teacher, a ternary student: BitDistill, with every normalization written down.

    settings    what a run is: text, schedule, the weights of the terms of the loss
    pair        the teacher as a float network, the student made from it with sub-norms put in
    text        a data set -> token files that both read
    losses      cross-entropy, KL of the logits, KL of attention relations
    gradients   one batch through both networks: losses and gradients in bounded memory
    run         the loop: resumable, and measured by the file that it exports
    checkpoint  what it needs to go on after being killed
    export      the student as it is now -> a native file, and that file's own loss
    curve       quality against tokens, as JSON lines and a picture
    warm_up     the same without a teacher: `tercet ternarize --train`

Source: "BitNet Distillation" (Wu et al., 2025, arXiv:2510.13998). Its three steps are sub-norms, continued
training and distillation; where its text leaves a normalization open, `losses` says what is done here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tercet.distillation.run import DistillationResult, distill
    from tercet.distillation.settings import DistillationSettings

__all__ = ["DistillationResult", "DistillationSettings", "distill"]

_HOMES = {
    "DistillationResult": "tercet.distillation.run",
    "distill": "tercet.distillation.run",
    "DistillationSettings": "tercet.distillation.settings",
}


def __getattr__(name: str) -> Any:
    """Import what was asked for: PyTorch is loaded when it is needed, not before."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
