"""`tercet audit verify FOLDER` and `tercet audit show FOLDER`: what a server remembers, and whether whole."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tercet.cli import options

if TYPE_CHECKING:
    from tercet.security.audit_chain import Head

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")

Folder = Annotated[Path, typer.Argument(help="The folder of `tercet serve --audit-dir`.")]
Key = Annotated[
    Path | None,
    typer.Option(
        help="The file of `--security-key` (default: security.key in the folder of settings).",
        show_default=False,
    ),
]
Unkeyed = Annotated[
    bool, typer.Option("--unkeyed", help="The log was written without a key: only its hashes are checked.")
]


@app.callback()
def audit() -> None:
    """Read the audit log of a server, and find out whether it was changed."""


@app.command()
def verify(
    folder: Folder,
    key: Key = None,
    unkeyed: Unkeyed = False,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="SEQ:HASH",
            help="A line that was there, as `audit verify` or /security/status said: so a cut end shows.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Check every line against its hash and the line before it; exit status 2 names the first that is wrong.

    A line that was changed, left out, put in or moved is named by file and line. That lines are missing at
    the end shows only to somebody who knows how far it went: keep what this prints, and give it back as
    `--head`.
    """
    from tercet.cli import console
    from tercet.security.audit_chain import verify as verify_chain

    verdict = verify_chain(folder, key=_chain_key(key, unkeyed), expected=_parsed(head))
    if json:
        console.write_json(
            {
                "first": verdict.first,
                "seq": verdict.head.seq,
                "hash": verdict.head.hash,
                "files": verdict.num_files,
                "torn_bytes": verdict.torn_bytes,
                "closed": verdict.is_closed,
            }
        )
        return
    lines = [f"whole: lines {verdict.first} to {verdict.head.seq} in {verdict.num_files} files"]
    if verdict.torn_bytes:
        lines.append(
            f"half a line at the end, {verdict.torn_bytes} bytes: a process died there, or writes now"
        )
    elif not verdict.is_closed:
        lines.append("not closed: a process writes to it, or died")
    lines.append(f"head {verdict.head.seq}:{verdict.head.hash}")
    console.write_text("\n".join(lines) + "\n")


@app.command()
def show(
    folder: Folder,
    key: Key = None,
    unkeyed: Unkeyed = False,
    kind: Annotated[
        str | None,
        typer.Option(help="Only events of this kind, or that begin so: `request.blocked`, `request`."),
    ] = None,
    caller: Annotated[str | None, typer.Option(help="Only those of one client, by its hash.")] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="The last so many; 0 for all.")] = 50,
    json: options.Json = False,
) -> None:
    """Print events, the newest last, as rows or as the lines themselves.

    The whole log is verified first: what was changed is not shown as if it were true.
    """
    from tercet.cli import console
    from tercet.security.audit_chain import read_events
    from tercet.security.audit_chain import verify as verify_chain

    verify_chain(folder, key=_chain_key(key, unkeyed))
    found = deque(
        (
            (event, line)
            for event, line in read_events(folder)
            if (kind is None or event["kind"] == kind or event["kind"].startswith(f"{kind}."))
            and (caller is None or event["caller"] == caller)
        ),
        maxlen=last or None,
    )
    for event, line in found:
        console.write_text(_printable(line if json else _row(event)) + "\n")


def _row(event: dict[str, Any]) -> str:
    fields = " ".join(f"{name}={value}" for name, value in sorted(event["fields"].items()))
    return f"{event['seq']:>7} {event['at'][:23]} {event['kind']:<18} {event['caller'] or '-':<26} {fields}"


def _printable(text: str) -> str:
    """A log without a key may be somebody else's work: nothing in it gets to steer the terminal."""
    return "".join(one if " " <= one <= "~" else f"\\u{ord(one):04x}" for one in text)


def _chain_key(file: Path | None, unkeyed: bool) -> bytes | None:
    from tercet.cli.audit_options import KEY_NAME
    from tercet.environment import config_directory
    from tercet.errors import ParameterError
    from tercet.security.secret_file import derived_key, load_secret

    if unkeyed:
        if file is not None:
            raise ParameterError("--unkeyed and --key exclude each other")
        return None
    usual = config_directory() / KEY_NAME
    if file is None and not usual.exists():
        raise ParameterError(
            f"there is no {usual}: name the file of `tercet serve --security-key` with --key, "
            "or say --unkeyed if the log was written without one"
        )
    return derived_key(load_secret(file or usual, make=False), "audit chain")


def _parsed(head: str | None) -> Head | None:
    from tercet.errors import ParameterError
    from tercet.security.audit_chain import Head

    if head is None:
        return None
    seq, _, digest = head.partition(":")
    if not seq.isdecimal() or not seq.isascii() or len(digest) != 64:
        raise ParameterError(f"--head is the number of a line and its hash, SEQ:HASH, not {head[:100]!r}")
    return Head(int(seq), digest.lower())
