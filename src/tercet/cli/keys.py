"""`tercet keys create|list|revoke`: who may call a server, and what each may do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.security.api_keys import KeyStore

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
QUOTAS = "Quotas"
File = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="The file of keys (default: keys.jsonl in the folder of settings, which TERCET_CONFIG names).",
        show_default=False,
    ),
]


@app.callback()
def keys() -> None:
    """Make, list and revoke the API keys of `tercet serve`."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is; for people.")],
    role: Annotated[
        Literal["user", "admin"],
        typer.Option(help="user: asks models; admin: sees and changes how the server runs, too."),
    ] = "user",
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="For how long it is good, as 30d, 12h or 90m (default: until revoked)."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model or adapter that it may ask for; may be given several times (default: every one).",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="How texts are filtered: block, flag, redact, ... (default: as the server says)."),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="In place of the server's limit.", rich_help_panel=QUOTAS)
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Of prompts and answers.", rich_help_panel=QUOTAS)
    ] = None,
    max_parallel: Annotated[
        int | None, typer.Option(min=1, help="Requests at one time.", rich_help_panel=QUOTAS)
    ] = None,
    file: File = None,
    json: options.Json = False,
) -> None:
    """Make a key and print it. Nobody can print it again: the file has only its SHA-256.

    A server takes it up at once, if it was started with this file.
    """
    from tercet.cli import console

    store = _store(file)
    key, record = store.create(
        name,
        role=role,
        models=model or None,
        seconds=None if expires is None else _seconds(expires),
        policy=policy,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        max_parallel_requests=max_parallel,
    )
    if json:
        console.write_json({"key": key, **_shown(record.to_dict()), "file": str(store.path)})
        return
    console.told().print(f"A key for {name} ({role}), kept in {store.path} as its SHA-256; shown only now:")
    console.write_text(key + "\n")


@app.command(name="list")
def list_keys(file: File = None, json: options.Json = False) -> None:
    """List all keys there ever were, without what is secret of them."""
    import time

    from tercet.cli import console

    store = _store(file)
    now = time.time()
    records = store.records()
    if json:
        entries = [{**_shown(record.to_dict()), "state": record.state(now)} for record in records]
        console.write_json({"file": str(store.path), "keys": entries})
        return
    console.told().print(f"{len(records)} keys in {store.path}" if store.exists else f"No keys: {store.path}")
    if not records:
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("id", "name", "role", "state", "created", "expires", "models", "quotas"):
        table.add_column(column, no_wrap=column in ("id", "created", "expires"), overflow="fold")
    for record in records:
        quotas = (record.requests_per_minute, record.tokens_per_minute, record.max_parallel_requests)
        units = (" requests/min", " tokens/min", " at a time")
        table.add_row(
            record.id,
            record.name,
            record.role,
            record.state(now),
            _day(record.created_at),
            "never" if record.expires_at is None else _day(record.expires_at),
            "every one" if record.models is None else ", ".join(sorted(record.models)),
            ", ".join(f"{n}{unit}" for n, unit in zip(quotas, units, strict=True) if n is not None),
        )
    console.shown().print(table, markup=False)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The id of a key, or its name where no other good key has it.")],
    file: File = None,
) -> None:
    """Have a key refused from now on, by servers that run already, too. What it has begun goes on."""
    from tercet.cli import console

    record = _store(file).revoke(key)
    console.told().print(f"The key {record.id} of {record.name} is revoked.")


def _store(file: Path | None) -> KeyStore:
    import time

    from tercet.environment import config_directory
    from tercet.security.api_keys import DEFAULT_NAME, KeyStore

    return KeyStore(config_directory() / DEFAULT_NAME if file is None else file, time.time)


def _seconds(text: str) -> int:
    from tercet.errors import ParameterError

    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", text)
    if found is None:
        raise ParameterError(f"--expires is a number and s, m, h, d or w, as in 30d, not {text!r}")
    return int(found[1]) * UNIT_SECONDS[found[2]]


def _shown(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "sha256"}


def _day(seconds: int) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M")
