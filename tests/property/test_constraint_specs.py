"""Specs of constraints come from anybody: whatever they are, they are compiled or refused in our words."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.errors import ParameterError
from tercet.sampling.constraints import ConstraintSpec, compile_constraint
from tercet.tokenization import Tokenizer
from tiny_models import tiny_tokenizer_json


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_tokenizer_json())


def follow(spec: ConstraintSpec, tokenizer: Tokenizer, num_tokens: int = 12) -> None:
    """Compile a spec and let it choose some tokens; ParameterError is the only way to fail."""
    with contextlib.suppress(ParameterError):
        constraint = compile_constraint(spec, tokenizer)
        for position in range(num_tokens):
            choices = constraint.mask().nonzero()[0]
            if constraint.is_finished or not len(choices):
                assert constraint.is_complete
                return
            constraint.accept(int(choices[(7 * position) % len(choices)]))


REGEX_PARTS = (
    *"ab.()[]-|*+?{}^$\\/é🙂\n", "(?:", "[^", "a-z", "{2,}", "{3}", "{1,400}", "(?i)", "(?=", "(?P<x>",
    "\\d", "\\w", "\\s", "\\b", "\\1", "\\p{L}", "\\x", "\\u{1F600}",
)  # fmt: skip
GRAMMAR_PARTS = (
    "start: ", "root ::= ", "a ", "A ", "a: ", "A: ", "a ::= ", '"x" ', "/[a-z]+/ ", "/", '"', "[a-z] ",
    "( ", ") ", "| ", "* ", "+ ", "? ", "{2,3} ", "~ ", "& ", "\n", "%json {} ", "%json { ", "%import ",
    "%ignore A\n", "// c\n", "# c\n", "<|end_of_text|> ", "<[3]> ", "[lazy]", "[max_tokens=2]", "\\", "é",
)  # fmt: skip
KEYWORDS = (
    "type", "properties", "required", "items", "prefixItems", "anyOf", "oneOf", "allOf", "$ref", "$defs",
    "enum", "const", "minimum", "maximum", "multipleOf", "minLength", "maxLength", "pattern", "format",
    "minItems", "maxItems", "title", "additionalProperties", "patternProperties", "minProperties",
    "maxProperties", "not", "nullable", "x-guidance",
)  # fmt: skip
regex_parts, grammar_parts, keywords = map(st.sampled_from, (REGEX_PARTS, GRAMMAR_PARTS, KEYWORDS))
words = st.sampled_from(
    ["object", "array", "string", "integer", "number", "#", "#/$defs/a", "#/properties/a", "date", "^a+$"]
)
values = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=5), words
)
schemas = st.recursive(
    values,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(keywords, inner, max_size=4),
        st.dictionaries(st.sampled_from(["a", "b", "^a", "é"]), inner, max_size=3),
    ),
    max_leaves=12,
)


@given(st.one_of(st.lists(regex_parts, max_size=14).map("".join), st.text(max_size=20)))
@settings(max_examples=150)
def test_any_regular_expression(tokenizer: Tokenizer, text: str) -> None:
    follow(ConstraintSpec("regex", text), tokenizer)


@given(st.one_of(st.lists(grammar_parts, max_size=16).map("".join), st.text(max_size=20)))
@settings(max_examples=150)
def test_any_grammar(tokenizer: Tokenizer, text: str) -> None:
    follow(ConstraintSpec("grammar", text), tokenizer)


@given(st.one_of(st.dictionaries(keywords, schemas, max_size=5), schemas, st.text(max_size=12)))
@settings(max_examples=200)
def test_any_schema(tokenizer: Tokenizer, schema: Any) -> None:
    follow(ConstraintSpec("json_schema", schema), tokenizer)
