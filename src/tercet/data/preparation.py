"""Rows -> examples: the whole way, in the order in which a row goes it.

sources     a file, a folder, a name on the Hub or rows in memory -> rows, with their places
shapes      a row -> a conversation, a text or segments
split       which rows are held out for validation
encoding    chat template, tokens, loss mask
packing     several short examples in one sequence
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tercet.data.encoding import Encoder
from tercet.data.example import Example, PreparedData
from tercet.data.packing import pack
from tercet.data.report import PreparationReport
from tercet.data.rows import Row, RowError, UnusableRowError
from tercet.data.shapes import COLUMNS, Content, recognize
from tercet.data.sources import Source, open_source
from tercet.data.split import held_out
from tercet.errors import FormatError, ParameterError, TrainingError
from tercet.tokenization import ChatTemplate, Tokenizer
from tercet.tokenization.plain_template import PLAIN_TEMPLATE

__all__ = ["MIN_CHARACTERS", "Source", "prepare"]

MIN_CHARACTERS = 11
"""Rows with less text are skipped."""


def prepare(
    source: Source,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    *,
    max_length: int = 2048,
    max_samples: int = 1000,
    validation: Source | None = None,
    validation_share: float = 0.1,
    completion_only: bool = True,
    packing: bool = True,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    control_tokens: bool = False,
    subset: str | None = None,
    split: str = "train",
    begin: int | None = None,
    ends: Sequence[int] = (),
) -> PreparedData:
    """Read a data set and make examples of it.

    Args:
        source: a file (JSON, JSON lines, CSV, Parquet, text), a folder of them, a name on the Hugging Face
            Hub, rows, or a list of files and names.
        tokenizer: the model's.
        template: the model's chat template; None writes conversations as plain text
            (`tercet.tokenization.plain_template`).
        max_length: most tokens of a sequence.
        max_samples: how many rows to use, from the first on; 0 uses all.
        validation: where the rows for validation are, or the name of another split of `source`; None holds
            some of the others out.
        validation_share: which share of the rows is held out then; 0 holds none out.
        completion_only: learn the answers only, and not the questions.
        packing: put several short examples into one sequence.
        seed: chooses the rows that are held out.
        columns: purpose -> name of the column, where it is none of those that are known (see `COLUMNS`).
        skip_bad_rows: skip and count rows that cannot be read; otherwise the first is an error.
        control_tokens: read the texts of control tokens in plain text as these tokens.
        subset: which configuration of a data set on the Hub.
        split: which split of a data set on the Hub, or of a folder with files `train.jsonl`, `test.jsonl`.
        begin: the token that is put before plain text; the model's `bos_token_id`.
        ends: the tokens that end an answer, the one that ends a text first; the model's `eos_token_ids`.

    Raises:
        ParameterError: an argument has a value that it cannot have.
        TrainingError: there is no such file, or no usable row in it.
        FormatError: a file is damaged, or a row is not what it should be; the message names both.
        HubError, ModelNotFoundError: the Hub cannot be reached, or has no such data set.
    """
    _check_numbers(max_length, max_samples)
    if unknown := set(columns or {}) - set(COLUMNS):
        raise ParameterError(f"columns names {', '.join(sorted(unknown))}; it may name {', '.join(COLUMNS)}")
    if template is None:
        bos = "" if begin is None else tokenizer.token_bytes(begin).decode("utf-8", "replace")
        template = ChatTemplate(PLAIN_TEMPLATE, tokenizer, bos_token=bos)
    encoder = Encoder(tokenizer, template, max_length, completion_only, control_tokens, begin, tuple(ends))
    rows = open_source(source, subset, split)
    report = PreparationReport(rows.name, max_length=max_length)
    reader = _Reader(encoder, report, columns or {}, skip_bad_rows, max_samples)
    used = reader.read(rows.rows)
    if not used:
        raise TrainingError(_nothing(rows.name, report))
    if validation is not None:
        is_split = isinstance(validation, str) and validation.isidentifier() and not Path(validation).exists()
        aside = open_source(source, subset, str(validation)) if is_split else open_source(validation, subset)
        train, valid = used, reader.read(aside.rows)
        if not valid:
            raise TrainingError(_nothing(aside.name, report))
    else:
        chosen = held_out([key for key, _ in used], validation_share, seed)
        train = [row for row, is_held in zip(used, chosen, strict=True) if not is_held]
        valid = [row for row, is_held in zip(used, chosen, strict=True) if is_held]
    train_examples = [example for _, examples in train for example in examples]
    valid_examples = [example for _, examples in valid for example in examples]
    sequences = pack(train_examples, max_length) if packing else train_examples
    report.train_examples, report.valid_examples = len(train_examples), len(valid_examples)
    report.train_sequences = len(sequences)
    report.train_tokens, report.train_learned = _tokens(train_examples)
    report.valid_tokens, report.valid_learned = _tokens(valid_examples)
    return PreparedData(tuple(sequences), tuple(valid_examples), report)


class _Reader:
    """Takes rows until there are enough, and keeps the account."""

    def __init__(
        self,
        encoder: Encoder,
        report: PreparationReport,
        columns: Mapping[str, str],
        skip_bad_rows: bool,
        max_samples: int,
    ) -> None:
        self._encoder = encoder
        self._report = report
        self._columns = columns
        self._skip_bad_rows = skip_bad_rows
        self._max_samples = max_samples

    def read(self, rows: Iterator[Row]) -> list[tuple[str, tuple[Example, ...]]]:
        """The usable rows: what chooses their side of a split, and their examples."""
        used: list[tuple[str, tuple[Example, ...]]] = []
        for row in rows:
            if self._max_samples and len(used) == self._max_samples:
                self._report.rows_left_out += 1 + sum(1 for _ in rows)
                break
            self._report.rows_read += 1
            try:
                used.append(self._read_row(row))
            except UnusableRowError as reason:
                self._report.skip(str(reason), row.place)
            except RowError as error:
                if not self._skip_bad_rows:
                    raise FormatError(f"{row.place}: {error}") from error
                self._report.skip(str(error), row.place)
        self._report.rows_used += len(used)
        return used

    def _read_row(self, row: Row) -> tuple[str, tuple[Example, ...]]:
        shape, content = recognize(row.fields(), self._columns)
        if content.num_characters < MIN_CHARACTERS:
            raise UnusableRowError(f"{MIN_CHARACTERS - 1} characters or fewer")
        encoded = self._encoder.encode(content, row.place)
        self._report.shapes[shape] += 1
        self._report.truncated += encoded.truncated
        self._report.remarks.update(encoded.remarks)
        self._report.pieces += len(encoded.examples) - 1 if _is_text(content) else 0
        return content.key, encoded.examples


def _is_text(content: Content) -> bool:
    return hasattr(content, "text")


def _tokens(examples: Iterable[Example]) -> tuple[int, int]:
    lengths = [(len(example), example.num_learned) for example in examples]
    return sum(length for length, _ in lengths), sum(learned for _, learned in lengths)


def _nothing(name: str, report: PreparationReport) -> str:
    if not report.rows_read:
        return f"{name} is empty: it holds no rows"
    reasons = "; ".join(
        f"{count}: {reason} (first: {report.skipped_places[reason][0]})"
        for reason, count in report.skipped.most_common(3)
    )
    return f"none of the {report.rows_read} rows of {name} can be used. {reasons}"


def _check_numbers(max_length: Any, max_samples: Any) -> None:
    for name, value, least in (("max_length", max_length, 2), ("max_samples", max_samples, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ParameterError(f"{name} must be a whole number from {least} on, not {value!r}")
