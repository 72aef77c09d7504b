"""Generation as a service: many callers, several models, bounds on everything, and an account of it all.

    request        what a caller asks for
    generation     an answer that is on its way: read it piece by piece, cancel it, take the result
    served_model   one model with its engine thread: text to tokens, limits, submission
    pool           several models by name: load, unload, replace without a gap
    service        the pool and everything around it: what a server holds
    settings       the bounds, with their defaults

A server and `AsyncLLM` stand on `Service`; a program that only wants many generations at once can do with
`ServedModel`, which needs nothing beyond the base install.
"""
