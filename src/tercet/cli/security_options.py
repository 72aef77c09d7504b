"""The options of `tercet serve` that say how much a client may ask for: the fields of `SecurityConfig`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from tercet.security.config import SecurityConfig

__all__ = ["changes"]

PANEL = "Security: what one client may use (default: as the profile says; `none` is no limit)"
NO_LIMIT = 0
"""What `none` is read as; no limit is a number of that size."""


def changes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `SecurityConfig` among the values of options that somebody has named."""
    names = {field.name for field in dataclasses.fields(SecurityConfig)} - {"profile"}
    given = {name: value for name, value in values.items() if name in names and value is not None}
    return {
        name: None if value == NO_LIMIT and value is not False else value for name, value in given.items()
    }


def _limit(text: str | int) -> int:
    """A number above 0, or none."""
    if str(text).lower() == "none":
        return NO_LIMIT
    number = int(text) if str(text).isascii() and str(text).isdigit() else 0
    if number < 1:
        raise typer.BadParameter(f"{text!r} is neither a whole number above 0 nor 'none'")
    return number


def _limited(flag: str, help: str) -> Any:
    return typer.Option(
        flag, metavar="N|none", parser=_limit, help=help, show_default=False, rich_help_panel=PANEL
    )


def _chosen(flag: str, help: str) -> Any:
    return typer.Option(flag, help=help, show_default=False, rich_help_panel=PANEL)


SecurityProfile = Annotated[
    Literal["strict", "local"] | None,
    _chosen(
        "--security-profile",
        "Limits and filters for strangers, or for one's own machine (default: strict where there are "
        "keys, or the address is not loopback).",
    ),
]
MaxInputLength = Annotated[
    int | None, _limited("--max-input-length", "Characters that the model reads for one answer (4096; none).")
]
MaxOutputTokens = Annotated[int | None, _limited("--max-output-tokens", "Tokens of one answer (1024; none).")]
RateLimitRequests = Annotated[
    int | None, _limited("--rate-limit-requests", "Requests of one client in any minute (60; none).")
]
RateLimitTokens = Annotated[
    int | None,
    _limited("--rate-limit-tokens", "Tokens, read and written, of one client in any minute (60000; none)."),
]
RateLimitStorage = Annotated[
    str | None,
    typer.Option(
        "--rate-limit-storage",
        metavar="memory|redis://...",
        help="Where that is counted: in this process, or in Redis for several (memory).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
RateLimitFailMode = Annotated[
    Literal["closed", "open"] | None,
    _chosen(
        "--rate-limit-fail-mode",
        "While Redis does not answer: refuse requests, or count in this process (closed).",
    ),
]
MaxParallelRequests = Annotated[
    int | None, _limited("--max-parallel-requests", "Requests of one client at one time (8; none).")
]
MaxChoices = Annotated[
    int | None, _limited("--max-choices", "Answers of one request: n or best_of, for each prompt (4; none).")
]
MaxStopSequences = Annotated[
    int | None, _limited("--max-stop-sequences", "Stop strings of one request (4; none).")
]
MaxStopLength = Annotated[int | None, _limited("--max-stop-length", "Characters of one of them (100; none).")]
MaxLogitBias = Annotated[int | None, _limited("--max-logit-bias", "Tokens in logit_bias (300; none).")]
MaxSchemaBytes = Annotated[
    int | None, _limited("--max-schema-bytes", "Bytes of a JSON schema, a grammar, all tools (16384; none).")
]
MaxSchemaDepth = Annotated[int | None, _limited("--max-schema-depth", "Levels of a JSON schema (16; none).")]
MaxRegexLength = Annotated[
    int | None, _limited("--max-regex-length", "Characters of a regular expression (512; none).")
]
ContentFiltering = Annotated[
    bool | None,
    _chosen("--content-filtering/--no-content-filtering", "Filter prompts and answers (on; off)."),
]
ContentPolicy = Annotated[
    str,
    typer.Option(
        "--content-policy",
        metavar="block|flag|redact|off|FILE.json",
        help="What filters do with what they find, where the caller's key says nothing.",
        rich_help_panel=PANEL,
    ),
]
LogRequests = Annotated[
    bool | None,
    _chosen("--log-requests/--no-log-requests", "A line for each request: ids and counts, no text (on; on)."),
]
SanitizeInputs = Annotated[
    bool | None,
    _chosen(
        "--sanitize-inputs/--no-sanitize-inputs",
        "Refuse control characters, take out what a browser would run (on; off).",
    ),
]
