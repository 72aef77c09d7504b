"""How the next token is chosen.

params             the parameters of a request, checked
reference          the arithmetic as a NumPy specification; `tercet.kernels.sampling` does the same in C++
token_constraint   what else is done to logits before a token is drawn
constraints        answers that keep to a schema, an expression or a grammar; `json_schemas` checks schemas
logprobs           how likely the chosen tokens were
"""
