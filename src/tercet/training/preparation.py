"""Corpus files -> a token folder, in three passes over the files and constant memory.

One document in `HELD_OUT_ONE_IN` is kept from training, chosen by the hash of its text: the split does not
change when documents are added or reordered, and equal documents fall on the same side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from tercet.environment import atomic_write
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
MADE_FROM = "made_from.json"
"""In a token folder: the files that it was made from."""


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


def prepare_tokens_once(
    files: Sequence[Path],
    folder: Path,
    vocab_size: int,
    context: int,
    on_stage: Callable[[str], None] = lambda stage: None,
    tokenizer: Tokenizer | None = None,
    may_replace: bool = False,
) -> None:
    """`prepare_tokens`, unless `folder` holds the tokens of the same files already.

    Tokens of other files, or of files that have changed, are made anew if `may_replace`.

    Raises:
        TrainingError: they are of other files, and must not be replaced because a run has learned from them.
    """
    made_from = _fingerprint(files, vocab_size, tokenizer)
    record = folder / MADE_FROM
    if (folder / "tokens.json").exists():
        if not record.exists() or json.loads(record.read_bytes()) == made_from:
            return
        if not may_replace:
            raise TrainingError(
                f"the tokens in {folder} were made from other files than {', '.join(map(str, files))}, or "
                "these have changed since; give the files that the run began with, or begin a new run"
            )
        (folder / "tokens.json").unlink()
    prepare_tokens(files, folder, vocab_size, context, on_stage, tokenizer)
    with atomic_write(record) as file:
        file.write(json.dumps(made_from, indent=2).encode())


def _fingerprint(files: Sequence[Path], vocab_size: int, tokenizer: Tokenizer | None) -> dict[str, object]:
    """Names and contents of the corpus, and what it was cut into tokens with."""
    digests = {}
    for path in files:
        if not path.exists():
            raise TrainingError(f"the corpus file {path} does not exist")
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        digests[path.name] = digest.hexdigest()
    given = hashlib.sha256(tokenizer.to_str().encode()).hexdigest() if tokenizer else None
    return {"files": digests, "vocab_size": vocab_size, "tokenizer": given}


def _split(files: Sequence[Path], held_out: bool) -> Iterator[Document]:
    return (document for document in read_documents(files) if _is_held_out(document) == held_out)


def _is_held_out(document: Document) -> bool:
    digest = hashlib.sha256("\n".join(document_texts(document)).encode()).digest()
    return int.from_bytes(digest[:4], "little") % HELD_OUT_ONE_IN == 0
