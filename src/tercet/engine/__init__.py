"""Batched generation: many requests, one forward pass a step.

Each step is three verbs. **Plan**: the `scheduler`, a state machine without clock, arrays or threads, says
who begins (`waiting_queue`), who loses memory, whose time is up (`deadlines`), and which tokens of which
request are computed (`plan`). **Run** (`runner`): the plan becomes one `decoder.forward` call. **Commit**:
the scheduler has a token drawn for every sequence that reached its end, text comes out, finished requests
give their memory back.

`engine` turns these wheels for any number of threads, and `async_engine` in a thread of its own for
programs with an event loop, which read a `request_stream`; `stats` says what has been done.

`request` is the state of one request, `kv_blocks` the memory of all, `sequence_blocks` how one comes by its
share, some of it as earlier requests left it (`prefix_index`). `speculation` guesses tokens that a step
then checks, by `prompt_lookup` or a `draft` model. `adapters` are what requests may add to the model
(LoRA). `text_output` turns token ids into text that is never
taken back, `result` sums up, `stream` is for those who read in the thread that computes. `opening` puts an
engine together, within a budget if there is one (`memory_plan`); `memory` asks the operating system what it
all costs; `processors` and `control_groups` say what of the machine this process may use.

`mock` is a runner with faults on demand, for tests of what happens when an engine fails.
"""
