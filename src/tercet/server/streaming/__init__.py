"""Answers that arrive piece by piece: `events` writes one server-sent event, `response` sends many.

That a client leaves is noticed by `tercet.server.middleware.departure`, which cancels the route.
"""
