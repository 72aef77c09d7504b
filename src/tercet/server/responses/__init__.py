"""OpenAI's Responses API, without its memory: every request brings the whole conversation.

body       the fields of a request
requests   what they ask of the service
output     items while they are written, and the events that tell of it
answer     responses, and the events of a stream
routes     the route itself
"""

from __future__ import annotations

from tercet.server.responses.routes import router

__all__ = ["router"]
