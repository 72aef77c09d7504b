"""What the routes that generate text have in common.

refusals      fields that a request may name, but only with the value that changes nothing
sampling      the fields that say how tokens are chosen, and the `SamplingParams` they mean
constraints   the fields that say what an answer must look like, in the names of three projects
choices       the n answers to one request, generated together, ended together
accounts      usage, log probabilities, identifiers and fingerprints as OpenAI writes them
"""
