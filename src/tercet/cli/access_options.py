"""Options of `tercet serve` about who may call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ACCESS = "Who may call"

Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="The API keys of `tercet keys`: whoever has none of them is refused "
        "(default: keys.jsonl in the folder of settings, if it is there).",
        show_default=False,
        rich_help_panel=ACCESS,
    ),
]
AllowUnauthenticated = Annotated[
    bool,
    typer.Option(
        "--allow-unauthenticated",
        help="Let in whoever has no key, from other machines, too; for operators' routes it takes one still.",
        rich_help_panel=ACCESS,
    ),
]
OpenHealth = Annotated[
    bool,
    typer.Option(
        "--open-health", help="Answer /livez, /readyz and /health without a key.", rich_help_panel=ACCESS
    ),
]
OpenMetrics = Annotated[
    bool,
    typer.Option(
        "--open-metrics",
        help="Answer /metrics without a key, for endpoint pickers that send none; it tells what is asked.",
        rich_help_panel=ACCESS,
    ),
]
AllowedHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allowed-host",
        metavar="NAME",
        help="A name by which the server may be asked for, besides localhost, addresses and names without a "
        "dot; .example.com has all below it. May be given several times.",
        show_default=False,
        rich_help_panel=ACCESS,
    ),
]
CorsOrigin = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin",
        metavar="ORIGIN",
        help="Web pages of this server, as https://example.com, may use this one, besides its own; * is all. "
        "May be given several times.",
        show_default=False,
        rich_help_panel=ACCESS,
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        help="HTTPS with this certificate (PEM); a file that changes is taken up.",
        show_default=False,
        rich_help_panel=ACCESS,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(
        "--tls-key",
        metavar="FILE",
        help="Its key (PEM), where that is in a file of its own.",
        show_default=False,
        rich_help_panel=ACCESS,
    ),
]


def keys_file(chosen: Path | None) -> Path | None:
    """The file of keys to use: the one that was named, or the usual one if it is there."""
    from tercet.environment import config_directory
    from tercet.security.api_keys import DEFAULT_NAME

    usual = config_directory() / DEFAULT_NAME
    return chosen or (usual if usual.exists() else None)
