"""HTTP: the routes of OpenAI, llama.cpp and Ollama, the page, and the operator's routes, over one service.

    app          the application: middleware, error objects, routers
    routes       the list of routers
    access       who may come in: keys, or anybody where that is said; `authorization`: which route for whom
    certificates HTTPS
    settings     limits and deadlines of the front door; `weaknesses` finds what is weak about them
    protocol     HTTP/1.1 that cannot be held open: deadlines and sizes of headers, slow readers
    serving      the process: open the port, load the model behind it, drain on SIGTERM
    bodies       JSON that means one thing only, checked against a model of the request
    json_text    reading such JSON
    errors       errors as OpenAI writes them
    middleware   request ids, upload limits, clients that go away
    operations   health, metrics, models, version
    openapi      the description of all that

It is the only package that imports FastAPI, Starlette, uvicorn and h11, and it decides nothing about
generation: a route reads a request, asks `tercet.service`, and writes the answer.
"""
