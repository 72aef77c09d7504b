"""Conversations as OpenAI has them.

body       the fields of a request
requests   what they ask of the service
answer     chat completions, and the chunks of a stream
routes     the route itself
"""

from __future__ import annotations

from tercet.server.chat.routes import router

__all__ = ["router"]
