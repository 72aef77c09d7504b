"""One model on many machines: replicas of the whole server, started, watched and scaled by Ray Serve.

    application    what is deployed, and `serve_forever`
    settings       how many replicas, and how much each takes
    front_door     the HTTP side: reads a request, has it answered by a replica, passes the answer on
    model          a replica: the service and the very application that `tercet serve` runs
    routing        which replica: one that has read the same prompt before, unless it has more to do
    prefixes       what "the same prompt" means, and who remembers it

The front door does not know the routes. It hands the request to a replica as ASGI has it and gets ASGI's
messages back, so that everything the server can do, streams among it, is the same here.
"""
