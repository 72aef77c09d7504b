"""What goes in and what comes out, looked at by rules: find, then block, redact or flag.

finding          what a filter has found, and the protocol of filters
folding          text as filters compare it: without case, accents, width and invisible characters
word_lists       words and phrases, whole, of any language; a list of four categories comes with it
patterns         regular expressions of linear time (RE2)
injection        patterns of prompts that try to take over a conversation
secrets          patterns of keys and passwords
personal_data    names, numbers and addresses of people, found by presidio
scores           any classifier; it gets `sentences`
policies         which filters, and what is done about each category
policy_file      policies in a JSON file
screen           the pass over a text that is whole, or still being written

A screen of a stream gives exactly the text that a screen of the whole would have given, however the stream
was cut: each filter says up to where its findings can no longer change, and nothing beyond that leaves.

Rules find what they name. They do not understand: a synonym, a metaphor, another language, a letter put
between two others pass them by, and a sentence that only mentions a word is stopped by it.
"""
