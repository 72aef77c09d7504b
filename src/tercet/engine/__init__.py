"""Batched generation: many requests, one forward pass a step.

Each step is three verbs. **Plan** (`plan`): a pure function looks at the waiting and running requests and
the free memory and says which tokens of which request to compute; it reads no clock and touches no array.
**Run** (`runner`): the plan becomes one `decoder.forward` call. **Commit** (`engine`): one token is sampled
for every sequence that reached its end, text comes out, finished requests give their memory back.

`request` is the state of one request, `kv_blocks` the memory of all, `sequence_blocks` how one comes by its
share, some of it as earlier requests left it (`prefix_index`). `speculation` guesses tokens that a step then
checks, by `prompt_lookup` or a `draft` model. `text_output` turns token ids into
text that is never taken back, `memory` asks the operating system what it all costs. `opening`
puts an engine together, within a budget if there is one (`memory_plan`); `processors` and `control_groups`
say what of the machine this process may use.

`mock` is a runner with faults on demand, for tests of what happens when an engine fails.
"""
