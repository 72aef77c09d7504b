"""What models and data sets need of `huggingface_hub` alike: where the Hub is, and what breaks below HTTP."""

from __future__ import annotations

import os
from typing import cast

__all__ = ["endpoint", "transport_error"]


def endpoint() -> str | None:
    """Return where the Hub is, if not where it usually is."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def transport_error() -> type[Exception]:
    """Return the class of what goes wrong below HTTP; it depends on the release of the client."""
    from huggingface_hub.errors import HfHubHTTPError

    return cast("type[Exception]", HfHubHTTPError.__mro__[1])
