"""Whatever the model would like to say, what it says keeps to the form: the shipped model, hot and cold."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet import LLM
from tercet.engine.request import Request
from tercet.sampling.constraints import ConstraintSpec, compile_constraint
from tercet.sampling.params import SamplingParams
from tercet.service.tool_calls import CallDelta, ToolUse
from tercet.tokenization import ChatTemplate
from tool_templates import TOOLS


@pytest.fixture(scope="module")
def llm(shipped_model: Path) -> Iterator[LLM]:
    with LLM(shipped_model, threads=1, max_context=512) as llm:
        yield llm


def answer(llm: LLM, spec: ConstraintSpec, prompt: str = "Here it is: ", **sampling: Any) -> Request:
    params = SamplingParams(**{"max_tokens": 160, "temperature": 1.5, "top_p": 1.0} | sampling)
    request = llm.request(llm.prompt_tokens(prompt), params)
    request.constraint = compile_constraint(spec, llm.tokenizer)
    llm.engine.complete([request])
    return request


def text_of(request: Request) -> str:
    assert request.output is not None
    return request.output.text


# Short strings and lists, so that a model that babbles comes to an end.
names = st.text('abc é"\\', min_size=1, max_size=4)
leaves = st.one_of(
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"enum": ["x", 'y"\\', 7, None, [1]]},
            {"const": {"k": 1}},
            {"type": "string", "pattern": "^[a-c]{1,3}(-[0-9])?$"},
            {"type": "string", "format": "date"},
            {"type": "string", "format": "uuid"},
            {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 99},
        ]
    ),
    st.builds(
        lambda kind, low, more: {"type": kind, "minimum": low, "maximum": low + more},
        st.sampled_from(["integer", "number"]),
        st.integers(-200, 200),
        st.integers(0, 300),
    ),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 4),
        st.integers(0, 8),
    ),
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    members = draw(st.dictionaries(names, inner, max_size=3))
    required = draw(st.lists(st.sampled_from(sorted(members)), unique=True)) if members else []
    return {"type": "object", "properties": members, "required": required, "additionalProperties": False}


@st.composite
def maps(draw: st.DrawFn) -> dict[str, Any]:
    """Members that nobody has named, and a reference."""
    return {
        "$defs": {"it": draw(leaves)},
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/it"}},
        "required": ["a"],
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 3,
    }


def grown(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    arrays = st.builds(
        lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
        inner,
        st.integers(0, 1),
        st.integers(0, 2),
    )
    tuples = st.builds(
        lambda items: {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)},
        st.lists(inner, min_size=1, max_size=2),
    )
    either = st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3))
    return st.one_of(objects(inner), arrays, tuples, either)


schemas = st.recursive(leaves, grown, max_leaves=4)


@given(st.one_of(schemas, maps()), st.integers(0, 2**32), st.sampled_from([0.0, 0.7, 1.5]))
@settings(max_examples=60)
def test_answers_keep_to_their_schema(
    llm: LLM, schema: dict[str, Any], seed: int, temperature: float
) -> None:
    request = answer(llm, ConstraintSpec("json_schema", schema), seed=seed, temperature=temperature)
    if request.finish_reason == "length":
        assert len(request.generated_ids) == 160
        return
    assert request.finish_reason == "stop"
    jsonschema.validate(json.loads(text_of(request)), schema)


PATTERNS = [
    "[a-z]{1,12}",
    "(yes|no|maybe)",
    r"\d{3}-\d{4}",
    r"[A-Z][a-z]+( [A-Z][a-z]+){0,2}\.",
    "a*b{2,5}c?",
    "[^a]{3,9}",
    "[é🙂ñ]{1,5}",
    "(?i)once upon a time,? [a-z ]{5,20}",
    ".{4}",
    "x(y(z|w)*)?",
    r"\w+@\w+\.(com|org)",
    "(|a)",
    "^ab+$",
]


@given(st.sampled_from(PATTERNS), st.integers(0, 2**32), st.sampled_from([0.0, 1.5]), st.integers(1, 40))
@settings(max_examples=60)
def test_answers_match_their_regular_expression(
    llm: LLM, pattern: str, seed: int, temperature: float, max_tokens: int
) -> None:
    request = answer(
        llm, ConstraintSpec("regex", pattern), seed=seed, temperature=temperature, max_tokens=max_tokens
    )
    if request.finish_reason == "stop":
        assert re.fullmatch(pattern, text_of(request))
    else:
        assert (request.finish_reason, len(request.generated_ids)) == ("length", max_tokens)


@given(st.sampled_from(["required", "get_weather", "now"]), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=30)
def test_forced_calls_are_calls(llm: LLM, choice: str, parallel: bool, seed: int) -> None:
    template = llm.chat_template
    assert isinstance(template, ChatTemplate)
    forced = choice if choice == "required" else {"type": "function", "function": {"name": choice}}
    weather = copy.deepcopy(TOOLS[0])
    schema = weather["function"]["parameters"]
    schema["properties"]["city"]["maxLength"] = 8
    use = ToolUse([weather, TOOLS[1]], forced, parallel)
    spec = use.constraint(template)
    assert spec is not None
    messages, tools = use.conversation([{"role": "user", "content": "Paris?"}], template)
    ids = template.encode(messages, tools=tools)[-200:]
    request = llm.request(ids, SamplingParams(max_tokens=300, temperature=1.5, seed=seed))
    request.constraint = compile_constraint(spec, llm.tokenizer)
    llm.engine.complete([request])
    parser = use.parser()
    calls: dict[int, tuple[str | None, str]] = {}
    for delta in [*parser.push(text_of(request)), *parser.finish()]:
        if isinstance(delta, CallDelta):
            name, arguments = calls.get(delta.index, (delta.name, ""))
            calls[delta.index] = (name, arguments + delta.arguments)
        else:
            assert request.finish_reason == "length", "a call that has not become one"
    assert len(calls) <= (16 if parallel else 1)
    if request.finish_reason == "stop":
        assert calls
        for name, arguments in calls.values():
            assert choice in ("required", name)
            assert name in ("get_weather", "now")
            jsonschema.validate(
                json.loads(arguments), schema if name == "get_weather" else {"maxProperties": 0}
            )
