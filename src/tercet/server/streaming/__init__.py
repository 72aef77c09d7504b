"""Answers that arrive piece by piece.

    events     one server-sent event
    response   many of them
    options    what a client may ask of a stream

That a client leaves is noticed by `tercet.server.middleware.departure`, which cancels the route.
"""
