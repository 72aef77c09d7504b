"""Texts to be continued, as OpenAI's older route has them.

body       the fields of a request
answer     completions, and the chunks of a stream
routes     the route itself
"""

from __future__ import annotations

from tercet.server.completions.routes import router

__all__ = ["router"]
