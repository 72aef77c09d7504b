"""Thousands of requests from a file of JSON lines, answered into another; a kill costs nothing.

`lines` reads the input: a request a line, in OpenAI's form or in a plain one. `inventory` looks it through
once and knows how many there are and which ids stand there twice. `results` is the output: a record is
appended and synchronized when its request ends, and what is there already is not done again. `run` keeps as
many requests in flight as the engine takes. It asks an `answer` for each of them, so it knows nothing of
models: `generation` answers by a model in this process, `tercet.server.batches` as the server would. `store`
keeps the files and batches of `/v1/files` and `/v1/batches`.

Memory does not grow with the text of the requests: 17 bytes for each line of the input.
"""
