"""Asking a server that runs: its address, and the key of an admin where it has keys."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer

from tercet.errors import FormatError, ParameterError, UnavailableError

__all__ = ["KeyFile", "Url", "asked"]

Url = Annotated[str, typer.Option("--url", help="Of the server.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="A file with an admin's key, where the server has keys.",
        show_default=False,
    ),
]


def asked(url: str, path: str, key_file: Path | None, timeout_seconds: float) -> dict[str, Any]:
    """The JSON object that a route answers with.

    Raises:
        ParameterError: the address is none, the file of the key cannot be read, or the server refuses.
        UnavailableError: nobody answers, or not now.
        FormatError: the answer is no JSON object.
    """
    if not url.startswith(("http://", "https://")):
        raise ParameterError(f"--url is an address like http://127.0.0.1:8080, not {url!r}")
    request = urllib.request.Request(url.rstrip("/") + path)
    if key_file is not None:
        try:
            request.add_header("Authorization", f"Bearer {key_file.read_text().strip()}")
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"the key in {key_file} cannot be read: {error}") from error
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
            content = json.load(answer)
    except urllib.error.HTTPError as error:
        message = f"{url} refuses: {_words(error)}"
        raise (UnavailableError if error.code >= 500 else ParameterError)(message) from error
    except (OSError, ValueError) as error:
        if isinstance(error, json.JSONDecodeError):
            raise FormatError(f"{url}{path} did not answer with JSON") from error
        reason = getattr(error, "reason", error)
        raise UnavailableError(f"{url} does not answer: {reason}; is `tercet serve` running?") from error
    if not isinstance(content, dict):
        raise FormatError(f"{url}{path} did not answer with a JSON object")
    return content


def _words(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"status {error.code}"
