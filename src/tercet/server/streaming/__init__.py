"""Answers that arrive piece by piece: server-sent events, kept alive, ended when the client leaves.

`events` writes one event, `response` sends many, `disconnect` notices that nobody listens any more.
"""
