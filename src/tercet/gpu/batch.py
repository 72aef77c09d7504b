"""One step as the GPU takes it: every index that the kernels need, checked here and uploaded in one copy.

The checks are on the processor, where the arrays come from: an index beyond a tensor would end the process,
or read another sequence's values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tercet.errors import ParameterError

__all__ = ["Batch", "StepIndices", "step_indices"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StepIndices:
    """The same as `Batch`, on the processor."""

    token_ids: Int64
    positions: Int64
    slots: Int64
    tables: Int64
    tiles: Int64
    rows: Int64
    starts: Int64

    @property
    def is_decode(self) -> bool:
        """Whether every sequence has one token, and so does every tile."""
        return len(self.tables) == len(self.token_ids)

    @property
    def arrays(self) -> tuple[Int64, ...]:
        """What the GPU gets, in the order of `Batch`."""
        return (self.token_ids, self.positions, self.slots, self.tables, self.tiles, self.rows)

    @property
    def flat(self) -> Int64:
        """All of them, one behind the other."""
        return np.concatenate([array.reshape(-1) for array in self.arrays])

    def upload(self, device: torch.device) -> Batch:
        """Copy all to the GPU at once."""
        flat = torch.from_numpy(self.flat).to(device)
        parts = torch.split(flat, [array.size for array in self.arrays])
        ids, positions, slots, tables, tiles, rows = (
            part.view(array.shape) for part, array in zip(parts, self.arrays, strict=True)
        )
        return Batch(ids, positions, slots, tables, tiles, rows, self.is_decode, flat)


@dataclass(frozen=True, eq=False)
class Batch:
    """A step in the GPU's memory; everything is int64."""

    token_ids: torch.Tensor
    """[tokens]."""
    positions: torch.Tensor
    """[tokens], of each in its sequence."""
    slots: torch.Tensor
    """[tokens], where in the cache its keys and values belong."""
    tables: torch.Tensor
    """[sequences, blocks]; -1 for none."""
    tiles: torch.Tensor
    """[tiles, 3]: sequence, first token, number of tokens; what a program of attention reads."""
    rows: torch.Tensor
    """[rows], the tokens whose results are wanted."""
    is_decode: bool
    flat: torch.Tensor
    """What the others are views of."""

    def overwrite(self, step: StepIndices) -> None:
        """Put the indices of another step of the same shape here."""
        self.flat.copy_(torch.from_numpy(step.flat))


def step_indices(
    operation: str,
    limits: tuple[int, int, int, int],
    tile_tokens: int,
    token_ids: object,
    sequence_starts: object,
    context_lengths: object,
    block_tables: object,
    logit_rows: object,
) -> StepIndices:
    """Check the arguments of `Decoder.forward` and lay them out.

    Args:
        operation: what to call in a message.
        limits: tokens of the vocabulary, longest context, blocks of the cache, positions in a block.
        tile_tokens: most tokens of a tile in a step that reads prompts; a step that does not has one in each.

    Raises:
        ParameterError: an operand does not fit; the message names it.
    """
    vocab_size, max_context, num_blocks, block_tokens = limits

    def check(fits: bool, message: str) -> None:
        if not fits:
            raise ParameterError(f"{operation}: {message}")

    ids = _integers(operation, "token_ids", token_ids, 1)
    starts = _integers(operation, "sequence_starts", sequence_starts, 1)
    lengths = _integers(operation, "context_lengths", context_lengths, 1)
    tables = _integers(operation, "block_tables", block_tables, 2)
    rows = _integers(operation, "logit_rows", logit_rows, 1)
    check(len(ids) > 0, "token_ids should be at least one token, got none")
    check(_are_in(ids, vocab_size), f"token_ids should be in [0, {vocab_size}), got {_ends(ids)}")
    counts = np.diff(starts)
    check(
        len(starts) > 1 and starts[0] == 0 and starts[-1] == len(ids) and bool((counts > 0).all()),
        f"sequence_starts should rise from 0 to the {len(ids)} tokens, got {_shown(starts)}",
    )
    check(
        len(lengths) == len(counts) and bool((lengths >= 0).all()),
        f"context_lengths should be {len(counts)} lengths, one for each sequence, got {_shown(lengths)}",
    )
    ends = lengths + counts
    check(
        int(ends.max()) <= max_context,
        f"sequences should have at most {max_context} tokens, got {int(ends.max())}",
    )
    needed = -(-ends // block_tokens)
    check(
        len(tables) == len(counts) and tables.shape[1] >= int(needed.max()),
        f"block_tables should be {len(counts)} rows of at least {int(needed.max())} blocks, "
        f"got {list(tables.shape)}",
    )
    used = tables[np.arange(tables.shape[1]) < needed[:, None]]
    check(_are_in(used, num_blocks), f"block_tables should be in [0, {num_blocks}), got {_ends(used)}")
    check(_are_in(rows, len(ids)), f"logit_rows should be in [0, {len(ids)}), got {_ends(rows)}")

    sequence = np.repeat(np.arange(len(counts)), counts)
    positions = np.arange(len(ids)) - starts[sequence] + lengths[sequence]
    slots = tables[sequence, positions // block_tokens] * block_tokens + positions % block_tokens
    tiles = _tiles(starts, 1 if bool((counts == 1).all()) else tile_tokens)
    return StepIndices(ids, positions, slots, tables, tiles, rows, starts)


def _tiles(starts: Int64, size: int) -> Int64:
    """Cut every sequence into tiles of at most `size` tokens: [tiles, 3]."""
    found = [
        (sequence, first, min(size, end - first))
        for sequence, (start, end) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
        for first in range(start, end, size)
    ]
    return np.array(found, np.int64)


def _integers(operation: str, name: str, values: object, dimensions: int) -> Int64:
    array = np.asarray(values)
    if not array.size and array.ndim == dimensions:
        return np.zeros(array.shape, np.int64)
    if array.dtype.kind not in "iu" or array.ndim != dimensions:
        raise ParameterError(
            f"{operation}: {name} should be {dimensions}-dimensional whole numbers, "
            f"got {array.dtype} {list(array.shape)}"
        )
    return np.ascontiguousarray(array, np.int64)


def _are_in(values: Int64, end: int) -> bool:
    return not values.size or (int(values.min()) >= 0 and int(values.max()) < end)


def _ends(values: Int64) -> str:
    return f"{int(values.min())} to {int(values.max())}"


def _shown(values: Sequence[int] | Int64) -> str:
    return f"[{', '.join(map(str, values[:8]))}{', ...' if len(values) > 8 else ''}]"
