"""`tercet data`: data sets as a model will see them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.data import Example
    from tercet.tokenization import ChatTemplate, Tokenizer

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

LEARNED = "bold green"
CONTEXT = "dim"
CONTROL = "underline"
OPEN, CLOSE = "⟦", "⟧"
NEW_LINE = "↵\n"


@app.callback()
def data() -> None:
    """Look at data to train on."""


@app.command()
def preview(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Files (.jsonl, .json, .csv, .parquet, .txt), folders, or names on the Hub.",
        ),
    ],
    model: options.Model = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="How many examples to show.")] = 3,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show every token with its number.")] = False,
    packed: Annotated[bool, typer.Option("--packed", help="Show sequences as they are packed.")] = False,
    max_length: Annotated[
        int | None,
        typer.Option(help="Most tokens of a sequence (default: 2048, or the context).", show_default=False),
    ] = None,
    max_samples: Annotated[int, typer.Option(help="Rows to use; 0 uses all.")] = 1000,
    validation: Annotated[
        str | None, typer.Option(help="Data to evaluate on, or another split of DATA.", show_default=False)
    ] = None,
    validation_share: Annotated[
        float, typer.Option(help="Which share of the rows is held out, where there is no --validation.")
    ] = 0.1,
    completion_only: Annotated[
        bool, typer.Option("--completion-only/--all-tokens", help="Learn answers only, or questions, too.")
    ] = True,
    packing: Annotated[
        bool, typer.Option("--packing/--no-packing", help="Several short examples in one sequence.")
    ] = True,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PURPOSE=NAME",
            help="What a column is for, as in answer=summary; may be given several times.",
            show_default=False,
        ),
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="Which configuration of data on the Hub.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Which split of data on the Hub or in a folder.")] = "train",
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Count bad rows; otherwise the first is an error.")
    ] = False,
    control_tokens: Annotated[
        bool,
        typer.Option(
            "--control-tokens", help="In plain text, read the text of a control token as the token."
        ),
    ] = False,
    chat_template: Annotated[
        Path | None,
        typer.Option(
            "--chat-template", help="A file with another template than the model's.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the rows that are held out.")] = 0,
    json: options.Json = False,
) -> None:
    """Show exactly what a model is trained on, and what becomes of every row.

    Rows go through the model's own chat template and tokenizer. What is learned is coloured; where there are
    no colours it stands between ⟦ and ⟧. A control token is underlined.
    """
    from tercet.cli import console
    from tercet.data import prepare
    from tercet.data.packing import pack
    from tercet.models.loading import load_model
    from tercet.models.registry import resolve

    with console.progress("Reading the model"):
        loaded = load_model(resolve(model))
        tokenizer = loaded.tokenizer()
        template = _template(chat_template, loaded, tokenizer)
    config = loaded.config
    length = max_length or min(2048, config.max_context)
    with console.progress("Reading the data"):
        prepared = prepare(
            files[0] if len(files) == 1 else files,
            tokenizer,
            template,
            max_length=length,
            max_samples=max_samples,
            validation=validation,
            validation_share=validation_share,
            completion_only=completion_only,
            packing=False,
            seed=seed,
            columns=_columns(column or []),
            skip_bad_rows=skip_bad_rows,
            control_tokens=control_tokens,
            subset=subset,
            split=split,
            begin=config.bos_token_id,
            ends=config.eos_token_ids,
        )
    sequences = pack(prepared.train, length) if packing or packed else list(prepared.train)
    prepared.report.train_sequences = len(sequences)
    control = tokenizer.special_ids if template is None else template.control_ids
    examples = (sequences if packed else list(prepared.train))[:rows]
    if json:
        described = [_described(example, tokenizer, control) for example in examples]
        console.write_json({"report": prepared.report.to_dict(), "examples": described})
        return
    for number, example in enumerate(examples, 1):
        _show(number, example, tokenizer, control, tokens)
    console.shown().print(str(prepared.report), markup=False, soft_wrap=True)


def _template(file: Path | None, loaded: Any, tokenizer: Tokenizer) -> ChatTemplate | None:
    from dataclasses import replace

    from tercet.engine.opening import conversation_template
    from tercet.errors import FormatError
    from tercet.formats.mapped_file import read_bytes

    if file is None:
        return conversation_template(loaded, tokenizer)
    try:
        source = read_bytes(file).decode()
        return conversation_template(replace(loaded, chat_template=source), tokenizer)
    except (FormatError, UnicodeDecodeError) as error:
        raise FormatError(f"{file}: {error}") from error


def _columns(pairs: list[str]) -> dict[str, str]:
    from tercet.errors import ParameterError

    for pair in pairs:
        if "=" not in pair:
            raise ParameterError(f"--column takes PURPOSE=NAME, as in answer=summary, not {pair!r}")
    return {purpose: name for purpose, _, name in (pair.partition("=") for pair in pairs)}


def _described(example: Example, tokenizer: Tokenizer, control: Collection[int]) -> dict[str, Any]:
    from tercet.data.view import runs

    return {
        "places": list(example.places),
        "starts": list(example.starts),
        "ids": example.ids.tolist(),
        "learned": example.learned.tolist(),
        "runs": [vars(run) for run in runs(example, tokenizer, control)],
    }


def _show(
    number: int, example: Example, tokenizer: Tokenizer, control: Collection[int], tokens: bool
) -> None:
    from rich.text import Text

    from tercet.cli import console
    from tercet.data.view import documents

    out = console.shown()
    for document in documents(example):
        title = f"{number} · {document.places[0]} · {len(document)} tokens, {document.num_learned} learned"
        out.print(Text(title, "bold"), soft_wrap=True)
        if tokens:
            _show_tokens(document, tokenizer)
        else:
            out.print(_marked(document, tokenizer, control, out.color_system is not None), soft_wrap=True)
        out.print()


def _marked(example: Example, tokenizer: Tokenizer, control: Collection[int], coloured: bool) -> Any:
    """The text, with what is learned in colour or between brackets."""
    from rich.text import Text

    from tercet.data.view import runs

    text = Text()
    was_learned = False
    for run in runs(example, tokenizer, control):
        if run.learned != was_learned and not coloured:
            text.append(OPEN if run.learned else CLOSE)
        was_learned = run.learned
        style = LEARNED if run.learned else CONTEXT
        text.append(run.text.replace("\n", NEW_LINE), f"{style} {CONTROL}" if run.control else style)
    if was_learned and not coloured:
        text.append(CLOSE)
    return text


def _show_tokens(example: Example, tokenizer: Tokenizer) -> None:
    from rich.table import Table
    from rich.text import Text

    from tercet.cli import console

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("place", justify="right")
    table.add_column("token", justify="right")
    table.add_column("learned")
    table.add_column("text")
    for place, (token, learned) in enumerate(
        zip(example.ids.tolist(), example.learned.tolist(), strict=True)
    ):
        text = tokenizer.token_bytes(token).decode("utf-8", "backslashreplace")
        style = LEARNED if learned else CONTEXT
        cells = (str(place), str(token), "yes" if learned else "", repr(text)[1:-1])
        table.add_row(*(Text(cell, style) for cell in cells))
    console.shown().print(table)
