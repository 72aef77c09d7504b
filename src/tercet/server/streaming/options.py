"""What a client may ask of a stream."""

from __future__ import annotations

from typing import Annotated, Literal

from tercet.server.bodies import StrictModel
from tercet.server.generation.refusals import refused_unless

__all__ = ["StreamOptions"]


class StreamOptions(StrictModel):
    """What a stream carries besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[
        Literal[False] | None, refused_unless("events are not padded; encrypt the connection", False)
    ] = None
