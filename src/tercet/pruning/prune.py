"""Model and text in, narrower model and report out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tercet.conversion import convert
from tercet.errors import ParameterError
from tercet.evaluation.documents import read_documents
from tercet.evaluation.scoring import score
from tercet.llm import LLM
from tercet.models.loading import LoadedModel, load_model
from tercet.models.registry import resolve
from tercet.pruning.narrower import narrower
from tercet.pruning.neurons import LayerNeurons, survey

__all__ = ["Pruning", "file_loss", "prune", "windows_of"]


@dataclasses.dataclass(frozen=True)
class Pruning:
    """What was done."""

    path: Path
    ffn_size_before: int
    ffn_size: int
    silent: tuple[int, ...]
    """In each layer: how many neurons give 0 for every input."""
    unseen: tuple[int, ...]
    """In each layer: how many gave 0 all over the text, silent ones among them."""
    lossless: bool
    """Whether only silent ones were left out: the same model, to the rounding of its norm."""
    text_tokens: int
    """How many tokens were looked at."""
    bytes_before: int
    bytes_after: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self) | {"path": str(self.path)}


def prune(
    model: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    share: float | None = None,
    *,
    text: str | os.PathLike[str] | None = None,
    text_tokens: int = 8192,
    overwrite: bool = False,
) -> Pruning:
    """Leave out neurons of the feed-forward network and write what stays as a native file.

    Args:
        model: name or path of a model.
        destination: the `.tercet` file to write.
        share: of the neurons of every layer, those with the least energy go; None leaves out only what costs
            nothing: as many as are silent in every layer (with a text: unseen on it).
        text: a text that says what neurons do; see `tercet.pruning.neurons`.
        text_tokens: how much of it is read.
        overwrite: whether an existing file may be replaced.

    Raises:
        ParameterError: the share is not from 0 to below 1, or the model cannot be cut.
        StorageError: the file exists or cannot be written.
    """
    if share is not None and not 0 <= share < 1:
        raise ParameterError(f"share must be from 0 to below 1, not {share}")
    source = load_model(resolve(model))
    windows = windows_of(source, Path(text), text_tokens) if text is not None else []
    found = survey(source, windows)
    width = source.config.ffn_size
    silent = [int(layer.silent.sum()) for layer in found]
    unseen = [int(layer.unseen.sum()) for layer in found]
    count = min(unseen) if share is None else int(share * width)
    count = min(count, width - 1)
    kept = [_kept(layer, count) for layer in found]
    target = Path(destination)
    types = {info.type for name, info in source.tensors.items() if info.granularity == "tensor"}
    convert(
        narrower(source, kept),
        target,
        types.pop() if len(types) == 1 and source.path.is_file() else None,
        _float_type(source),
        to="native",
        metadata={"pruned_from": source.path.name, "pruned_neurons_per_layer": count},
        overwrite=overwrite,
    )
    return Pruning(
        path=target,
        ffn_size_before=width,
        ffn_size=width - count,
        silent=tuple(silent),
        unseen=tuple(unseen),
        lossless=count <= min(silent),
        text_tokens=sum(map(len, windows)),
        bytes_before=sum(info.num_bytes for info in source.tensors.values()),
        bytes_after=sum(info.num_bytes for info in load_model(target).tensors.values()),
    )


def _kept(layer: LayerNeurons, count: int) -> NDArray[np.int64]:
    kept: NDArray[np.int64] = np.sort(layer.order()[count:])
    return kept


def _float_type(source: LoadedModel) -> str | None:
    stored = source.tensors["embedding"].type
    return stored if stored in ("f32", "f16", "bf16") and source.path.is_file() else None


def windows_of(model: LoadedModel, path: Path, num_tokens: int, window: int = 512) -> list[NDArray[np.int64]]:
    """The beginning of a text in windows of token ids, each beginning as the model's texts do."""
    first = model.config.first_token_id
    begin = [] if first is None else [first]
    ids = model.tokenizer().encode("\n\n".join(read_documents(path))[: 64 * num_tokens])[:num_tokens]
    step = min(window, model.config.max_context) - len(begin)
    pieces = [np.array(begin + ids[at : at + step], np.int64) for at in range(0, len(ids), step)]
    windows = [piece for piece in pieces if len(piece) > 1]
    if not windows:
        raise ParameterError(f"{path} has {len(ids)} tokens for this model; give it a longer text")
    return windows


def file_loss(
    path: str | os.PathLike[str], windows: list[NDArray[np.int64]], threads: int | None = None
) -> float:
    """Mean nats a token of a model over windows of token ids, by the engine."""
    nats = tokens = 0.0
    with LLM(path, threads=threads) as llm:
        for scores in score(llm, (window.tolist() for window in windows)):
            nats -= scores.total
            tokens += len(scores.log_probabilities)
    return nats / tokens
