"""A decoder in onnxruntime: the graph, and the cache that it hands from call to call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from tercet.models.loading import LoadedModel
from tercet.reference import ReferenceDecoder

__all__ = ["OnnxDecoder", "compare"]

PROMPT_TOKENS = 12
TOKENS_ONE_BY_ONE = 3
FLOAT_TOLERANCE = 1e-3
INT8_TOLERANCE = 0.05
"""Relative RMS where activations are rounded: one that lies at a tie may go the other way in another order of
sums, and takes the row with it. What is wrong is off by more than half."""
Floats = npt.NDArray[np.float32]


class OnnxDecoder:
    """One sequence in a graph with a cache.

    Args:
        path: the graph.
        threads: threads of onnxruntime; None for as many as it likes.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
        caches = [each for each in self._session.get_inputs() if each.name.startswith("past_key_values.")]
        self._empty = {
            each.name: np.zeros((1, each.shape[1], 0, each.shape[3]), np.float32) for each in caches
        }
        self.restart()

    def restart(self) -> None:
        """Forget the sequence, and begin another."""
        self._cache, self._length = self._empty, 0

    def forward(self, token_ids: Sequence[int] | npt.NDArray[np.integer]) -> Floats:
        """Return the logits after each of some more tokens, float32 [tokens, vocab_size]."""
        ids = np.asarray(token_ids, np.int64)[None]
        begin, self._length = self._length, self._length + ids.shape[1]
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones((1, self._length), np.int64),
            "position_ids": np.arange(begin, self._length)[None],
        }
        logits, *caches = self._session.run(None, inputs | self._cache)
        self._cache = dict(zip(self._cache, caches, strict=True))
        result: Floats = logits[0]
        return result

    def embed(self, token_ids: npt.NDArray[np.integer]) -> Floats:
        """Return the vector that stands for a text, float32 [hidden_size]."""
        ids = np.asarray(token_ids, np.int64)[None]
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        vector: Floats = self._session.run(["sentence_embedding"], inputs)[0][0]
        return vector


def compare(source: LoadedModel, path: Path) -> tuple[float, float]:
    """Compare a graph with the reference on a fixed prompt, the last tokens one by one.

    Returns:
        The relative RMS error of the logits (or of the embedding), and how large it may be.
    """
    config = source.config
    count = min(PROMPT_TOKENS, config.max_context)
    prompt = (np.arange(1, count + 1) * 0.6180339887 % 1 * config.vocab_size).astype(np.int64)
    reference, decoder = ReferenceDecoder(config, source.reference_weights), OnnxDecoder(path)
    if config.pooling is not None:
        expected, actual = reference.embed(prompt), decoder.embed(prompt)
    else:
        expected = reference.logits(prompt)
        together = max(1, count - TOKENS_ONE_BY_ONE)
        parts = [prompt[:together], *(prompt[i : i + 1] for i in range(together, count))]
        actual = np.concatenate([decoder.forward(part) for part in parts])
    difference = (actual - expected).astype(np.float64)
    error = float(np.sqrt(np.mean(difference**2) / np.mean(expected.astype(np.float64) ** 2)))
    return error, INT8_TOLERANCE if config.quantize_activations else FLOAT_TOLERANCE
