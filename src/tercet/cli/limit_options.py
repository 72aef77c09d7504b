"""Bounds of `tercet serve` that are seldom changed: of the port, and of what waits behind it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

LIMITS = "Limits"


def _bound(flag: str, help: str, least: float = 1, shown: bool = True) -> Any:
    return typer.Option(flag, min=least, help=help, rich_help_panel=LIMITS, show_default=shown)


MaxQueuedTokens = Annotated[int, _bound("--max-queued-tokens", "Tokens of prompts that may wait.")]
FirstTokenTimeout = Annotated[
    float | None,
    _bound(
        "--first-token-timeout", "Seconds to the beginning of an answer (default: no limit).", 0.001, False
    ),
]
MaxCachedResponses = Annotated[int, _bound("--max-cached-responses", "Most answers that are remembered.")]
MaxFile = Annotated[int, _bound("--max-file", "Bytes of a file for a batch.")]
MaxUploading = Annotated[int, _bound("--max-uploading", "Bytes of all bodies that are held at one time.")]
MaxHeaderBytes = Annotated[int, _bound("--max-header-bytes", "Bytes of all headers of a request.")]
MaxHeaders = Annotated[int, _bound("--max-headers", "Headers of a request.")]
KeepAlive = Annotated[
    float, _bound("--keep-alive", "Seconds that a connection may rest between requests.", 0.001)
]
