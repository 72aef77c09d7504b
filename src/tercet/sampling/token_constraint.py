"""What an answer must look like, token by token; and what else is done to logits before a token is drawn.

`tercet.sampling.constraints` makes constraints from schemas, regular expressions and grammars. Whoever draws
tokens needs only what stands here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError
from tercet.sampling.params import SamplingParams

__all__ = ["ConstraintError", "TokenConstraint", "adjusted_logits"]


class ConstraintError(ParameterError):
    """A constraint is malformed, cannot be enforced, or is too complex."""


class TokenConstraint(Protocol):
    """Which tokens may come next in one answer. It is about text: tokens that end an answer are not its own.

    Not safe to use from several threads at once.
    """

    def mask(self) -> NDArray[np.bool_]:
        """The tokens that may come next, bool [tokens]; ids beyond its end are forbidden. Not to be changed.

        Raises:
            ConstraintError: the constraint has become more complex than it may.
        """

    def accept(self, token_id: int) -> None:
        """The token has been chosen; ConstraintError where the mask does not have it."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer may end here."""

    @property
    def is_finished(self) -> bool:
        """Whether it must end here."""


def adjusted_logits(
    logits: NDArray[np.float32],
    params: SamplingParams,
    num_generated: int,
    stop_ids: Collection[int] = (),
    constraint: TokenConstraint | None = None,
) -> NDArray[np.float32]:
    """Return logits [vocab] with the constraint, `min_tokens` and `logit_bias` applied.

    The argument itself comes back where there is nothing to do; it is never changed. An answer that is
    complete may end, one that is finished ends even before `min_tokens`.

    Raises:
        ConstraintError: see `TokenConstraint.mask`.
    """
    too_early = num_generated < params.min_tokens
    if constraint is None and not params.logit_bias and not (too_early and stop_ids):
        return logits
    result = logits.copy()
    if constraint is not None:
        mask = constraint.mask()[: len(logits)]
        np.copyto(result[: len(mask)], -np.inf, where=~mask)
        result[len(mask) :] = -np.inf
        ends = [token for token in stop_ids if token < len(logits)]
        may_end = constraint.is_complete and not (too_early and mask.any())
        result[ends] = logits[ends] if may_end else -np.inf
    elif too_early:
        result[list(stop_ids)] = -np.inf
    for token, bias in params.logit_bias.items():
        result[token] += np.float32(bias)
    return result
