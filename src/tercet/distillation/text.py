"""A data set -> token files: what `tercet.data` reads, documents end to end, with the teacher's tokenizer.

Every token is learned from, questions too: the teacher has an opinion about each.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tercet.data import Example, PreparationReport, prepare
from tercet.data.preparation import Source
from tercet.engine.opening import conversation_template
from tercet.environment import atomic_write
from tercet.errors import TrainingError
from tercet.models.loading import LoadedModel
from tercet.training.corpus import TokenFile, read_description, write_description

__all__ = ["prepare_text"]

DOCUMENT_TOKENS = 2048
"""Longer documents are taken in pieces."""
TOKENIZER = "tokenizer.json"


def prepare_text(
    source: Source,
    teacher: LoadedModel,
    folder: Path,
    *,
    validation: Source | None = None,
    validation_share: float = 0.05,
    max_samples: int = 0,
    seed: int = 0,
) -> PreparationReport | None:
    """Write `train.tokens`, `valid.tokens` and their description into `folder`.

    A folder that holds them already is kept, and None comes back.

    Raises:
        TrainingError: the folder holds the tokens of another tokenizer; the data have no usable row.
        FormatError: a row is not what it should be; the message names file and row.
        StorageError: the folder cannot be written.
    """
    tokenizer = teacher.tokenizer()
    fingerprint = teacher.tokenizer_json or b""
    if (folder / "tokens.json").exists():
        if (folder / TOKENIZER).read_bytes() != fingerprint:
            raise TrainingError(
                f"the tokens in {folder} were made with another tokenizer than that of {teacher.path}; "
                "choose another folder"
            )
        read_description(folder)
        return None
    config = teacher.config
    data = prepare(
        source,
        tokenizer,
        conversation_template(teacher, tokenizer),
        max_length=min(DOCUMENT_TOKENS, config.max_context),
        max_samples=max_samples,
        validation=validation,
        validation_share=validation_share,
        completion_only=False,
        packing=False,
        seed=seed,
        begin=config.first_token_id,
        ends=config.eos_token_ids,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / TOKENIZER) as file:
        file.write(fingerprint)
    parts = {
        name: _write(folder / f"{name}.tokens", examples, config.vocab_size, tokenizer.decode)
        for name, examples in (("train", data.train), ("valid", data.valid))
    }
    with atomic_write(folder / "data.txt") as file:
        file.write(f"{data.report}\n".encode())
    write_description(folder, parts)
    return data.report


def _write(path: Path, examples: Iterable[Example], vocabulary: int, decode: object) -> TokenFile:
    dtype = np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")
    ids = [example.ids for example in examples]
    tokens = np.concatenate(ids) if ids else np.empty(0, np.int32)
    with atomic_write(path) as file:
        file.write(tokens.astype(dtype).tobytes())
    text = decode(tokens.tolist())  # type: ignore[operator]
    return TokenFile(len(tokens), len(ids), len(text.encode()), dtype.str)
