"""Corpus files -> a token folder, in three passes over the files and constant memory.

One document in `HELD_OUT_ONE_IN` is kept from training, chosen by the hash of its text: the split does not
change when documents are added or reordered, and equal documents fall on the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from tercet.errors import TrainingError
from tercet.training.corpus import (
    Document,
    document_texts,
    read_documents,
    write_description,
    write_token_file,
)
from tercet.training.tokenizer import save_tokenizer, train_tokenizer

HELD_OUT_ONE_IN = 50


def prepare_tokens(
    files: Sequence[Path],
    folder: Path,
    vocab_size: int,
    context: int,
    on_stage: Callable[[str], None] = lambda stage: None,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Train a tokenizer of `vocab_size` on the corpus `files` and write the token folder `folder`.

    A model that exists already brings its `tokenizer`; then none is trained.

    Raises:
        FormatError: a line of a file is not a document; the message names file and line.
        TrainingError: a file is missing, or there are too few documents to hold any out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is None:
        on_stage("training the tokenizer")
        texts = (text for document in read_documents(files) for text in document_texts(document))
        tokenizer = train_tokenizer(texts, vocab_size)
    save_tokenizer(tokenizer, folder, context)
    parts = {}
    for name, wanted in (("train", False), ("valid", True)):
        on_stage(f"encoding the {name} tokens")
        parts[name] = write_token_file(_split(files, wanted), tokenizer, folder / f"{name}.tokens")
    if not parts["train"].num_documents or not parts["valid"].num_documents:
        found = parts["train"].num_documents + parts["valid"].num_documents
        raise TrainingError(
            f"the corpus has {found} documents, too few to hold out one in {HELD_OUT_ONE_IN} for validation; "
            "give more documents, one a line in a .jsonl file"
        )
    write_description(folder, parts)


def _split(files: Sequence[Path], held_out: bool) -> Iterator[Document]:
    return (document for document in read_documents(files) if _is_held_out(document) == held_out)


def _is_held_out(document: Document) -> bool:
    digest = hashlib.sha256("\n".join(document_texts(document)).encode()).digest()
    return int.from_bytes(digest[:4], "little") % HELD_OUT_ONE_IN == 0
