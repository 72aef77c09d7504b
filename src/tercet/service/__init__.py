"""Generation as a service: many callers, several models, bounds on everything, and an account of it all.

    request          what a caller asks for
    preparation      from that to tokens, sampling and constraint; `tool_calls` has tools in both directions
    generation       an answer on its way: read it piece by piece, cancel it, take the result
    answer_source    where it comes from: the engine, or memory
    served_model     one model with its engine thread: limits, submission; `embedding` for vectors
    pool             several models by name: load, unload, replace without a gap
    service          the pool and everything around it: what a server holds; `settings` has the bounds
    guard            what a client may use, asked by whatever runs for it; `screening` does that for texts
    response_cache   whole responses, remembered in one of `cache_stores` or in `redis_store`
    observation      what happens to requests, told to the metrics and to the log (`logs`)
    health           whether all that works, found out by asking
    async_llm        the whole as a Python object; `text_request` has its requests and responses
    secure_llm       the same for clients whom one does not trust
    batch            thousands of requests from a file

A server and `AsyncLLM` stand on `Service`; a program that only wants many generations at once can do with
`ServedModel`, which needs nothing beyond the base install.
"""
