"""Constraints: which tokens they let through, and what of a spec is refused."""

from __future__ import annotations

import gc
import json
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers

from tercet.errors import MissingExtraError, OverloadedError, ParameterError
from tercet.sampling import constraints
from tercet.sampling.constraints import ConstraintSpec, TextConstraint, compile_constraint
from tercet.tokenization import Tokenizer
from tiny_models import tiny_tokenizer_json


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_tokenizer_json())


def accepts(tokenizer: Tokenizer, spec: ConstraintSpec, text: str) -> bool:
    """Whether a text gets through, token by token, and is complete at its end."""
    constraint = compile_constraint(spec, tokenizer)
    for token in tokenizer.encode(text):
        if constraint.is_finished or not constraint.mask()[token]:
            return False
        constraint.accept(token)
    return constraint.is_complete


def regex(value: str) -> ConstraintSpec:
    return ConstraintSpec("regex", value)


def schema(value: Any) -> ConstraintSpec:
    return ConstraintSpec("json_schema", value)


def grammar(value: str) -> ConstraintSpec:
    return ConstraintSpec("grammar", value)


NESTED = {"type": "array", "items": {"$ref": "#/$defs/a~1b"}}


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (regex("a+b?"), ["a", "aaab"], ["", "b", "abb", "a "]),
        (regex("^(yes|no)$"), ["yes", "no"], ["^yes", "yes$", "yesno"]),
        (regex("[é🙂]{2}"), ["é🙂"], ["é", "ee"]),
        (
            ConstraintSpec("json_object"),
            ['{"a":[1,null,{}]}', "{}", '{\n  "a": 1\n}'],
            ["[]", "1", " {}", "{} "],
        ),
        (schema({"type": "integer", "minimum": 7, "maximum": 12}), ["7", "12"], ["6", "13", "7.0", "07"]),
        (schema('{"enum": ["a", 1, null]}'), ['"a"', "1", "null"], ["a", "2"]),
        (schema(True), ["1", '"a"', "[]"], ["a"]),
        (
            schema({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}),
            ['{"a":true}', '{"a": false, "b": 2}'],
            ["{}", '{"a":1}', '{"b":2}'],
        ),
        (
            schema({"$ref": "#/$defs/a~1b", "$defs": {"a/b": NESTED}}),
            ["[]", "[[],[[]]]"],
            ["[1]"],
        ),
        (schema({"type": "string", "x-order": 1, "title": "t", "default": 5}), ['"a"'], ["1"]),
        (grammar('start: "a" b+\nb: /[0-9]/ "&~"'), ["a1&~", "a1&~2&~"], ["a", "a1"]),
        (grammar('root ::= "a" [0-9]+ end\nend ::= "." | "!"'), ["a12.", "a1!"], ["a.", "a1"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_fits(tokenizer: Tokenizer, spec: ConstraintSpec, good: list[str], bad: list[str]) -> None:
    assert all(accepts(tokenizer, spec, text) for text in good)
    assert not any(accepts(tokenizer, spec, text) for text in bad)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (ConstraintSpec("xml"), "there is no constraint 'xml'"),  # type: ignore[arg-type]
        (regex("("), "unclosed group"),
        (regex("a(?=b)"), "look-ahead"),
        (regex(r"(a)\1"), "backreferences are not supported"),
        (regex(""), "not empty"),
        (regex(None), "a string that is not empty, not None"),  # type: ignore[arg-type]
        (regex("a" * 8193), "8,193 characters, and may have 8,192"),
        (regex("a\udc00"), "surrogate"),
        (schema("{"), "not JSON"),
        (schema({"type": {1, 2}}), "not JSON"),
        (schema({"minimum": float("nan")}), "not JSON"),
        (schema([]), r"a JSON object, not \[\]"),
        (schema(False), "a JSON object, not false"),
        (schema({"type": "array", "uniqueItems": True}), '"uniqueItems" at #, which cannot be enforced'),
        (schema({"properties": {"a": {"minLenght": 1}}}), '"minLenght" at #/properties/a'),
        (schema({"x-guidance": {"lenient": True}}), '"x-guidance" at #'),
        (schema({"items": [{}]}), r"has \[\{\}\] at #/items, expected an object"),
        (schema({"anyOf": {}}), "has {} as anyOf at #, expected a list"),
        (schema({"properties": []}), r"has \[\] as properties at #, expected an object"),
        (schema({"$ref": "http://example.com/a"}), "example.com/a.* which it does not hold"),
        (schema({"$ref": "#/$defs/a"}), "which it does not hold"),
        (schema({"$ref": 5}), "refers to 5"),
        (schema({"type": "string", "format": "odd"}), "Unknown format: odd"),
        (schema({"type": "integer", "minimum": 5, "maximum": 3}), r"minimum \(5\) is greater than maximum"),
        (schema({"oneOf": [{"type": "number"}, {"type": "integer"}]}), "oneOf constraints are not supported"),
        (schema({"$ref": "#"}), "cannot be enforced"),
        (schema({"type": "string", "description": "d" * 65536}), "characters, and may have 65,536"),
        (schema({"properties": {f"p{i}": {} for i in range(401)}}), "401 properties at #, and may have 400"),
        (grammar('start: "a" missing'), 'unknown name: "missing"'),
        (grammar("start: A\nA: /a/ & /b/"), "uses &, the intersection"),
        (grammar("start: A\nA: ~/a/"), "uses ~, the intersection or complement"),
        (grammar('start: %json {"x-guidance": {"lenient": true}, "not": {}}'), "Unimplemented keys"),
        (grammar("start: <|end_of_text|>"), "constraint"),
        (grammar("root ::= ("), "neither Lark nor GBNF"),
        (grammar("hello"), "constraint|GBNF"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_is_refused(tokenizer: Tokenizer, spec: ConstraintSpec, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        compile_constraint(spec, tokenizer)


def test_control_tokens_never_fit(tokenizer: Tokenizer) -> None:
    constraint = compile_constraint(regex(".*"), tokenizer)
    mask = constraint.mask()
    assert len(mask) == tokenizer.vocab_size
    assert mask.sum() > 200
    assert not mask[list(tokenizer.special_ids)].any()
    assert accepts(tokenizer, regex(".*"), "<|end_of_text|>"), "spelled out it is text"


def test_where_an_answer_may_end_and_where_it_must(tokenizer: Tokenizer) -> None:
    constraint = compile_constraint(regex("ab?"), tokenizer)
    a, b = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    assert not constraint.is_complete
    constraint.accept(a)
    assert (constraint.is_complete, constraint.is_finished) == (True, False)
    constraint.accept(b)
    assert (constraint.is_complete, constraint.is_finished) == (True, True)
    assert not constraint.mask().any()
    with pytest.raises(ParameterError, match="cannot be enforced"):
        constraint.accept(a)


def test_what_was_compiled_is_kept_and_answers_do_not_share_it(tokenizer: Tokenizer) -> None:
    spec = regex("ab")
    first, second = compile_constraint(spec, tokenizer), compile_constraint(spec, tokenizer)
    first.accept(tokenizer.encode("a")[0])
    assert accepts(tokenizer, spec, "ab")
    assert np.array_equal(second.mask(), compile_constraint(spec, tokenizer).mask())
    kept = constraints._vocabulary(tokenizer)._compiled
    assert list(kept)[-1] == ("regex", "ab")
    for index in range(constraints.KEPT_CONSTRAINTS + 3):
        compile_constraint(regex(f"a{index}"), tokenizer)
    assert len(kept) == constraints.KEPT_CONSTRAINTS
    third = compile_constraint(spec, tokenizer)
    assert ("regex", "ab") in kept
    with pytest.raises(ParameterError, match="cannot be enforced"):
        third.accept(tokenizer.encode("b")[0])
    assert ("regex", "ab") not in kept, "what failed is not used again"


def test_tokens_with_the_space_that_decoding_drops_do_not_come_first() -> None:
    vocab = {"<unk>": 0, "▁": 1, "a": 2, "▁a": 3, "b": 4}
    library = tokenizers.Tokenizer(models.BPE(vocab, [("▁", "a")], unk_token="<unk>"))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = Tokenizer(library.to_str().encode())
    constraint = compile_constraint(regex(" ?a a?b"), tokenizer)
    assert np.flatnonzero(constraint.mask()).tolist() == [2]
    constraint.accept(2)
    assert {1, 3} & set(np.flatnonzero(constraint.mask()).tolist())
    for token in (3, 4):
        assert constraint.mask()[token]
        constraint.accept(token)
    assert constraint.is_finished
    assert tokenizer.decode([2, 3, 4]) == "a ab"


HOSTILE = {
    "chain of rules": grammar(
        "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(4900)) + '\nr4900: "a"'
    ),
    "chain of references": schema(
        {"$ref": "#/$defs/0", "$defs": {str(i): {"items": {"$ref": f"#/$defs/{i + 1}"}} for i in range(399)}
         | {"399": {}}}
    ),
    "nested groups": regex("(" * 4000 + ")" * 4000),
    "nested parentheses": grammar("start: " + "(" * 30000 + '"a"' + ")" * 30000),
    "nested parentheses, GBNF": grammar("root ::= " + "(" * 30000 + '"a"' + ")" * 30000),
    "nested schema": schema('{"items":' * 7000 + "{}" + "}" * 7000),
    "repeated repetitions": regex("(" * 8 + "a" + "){1000}" * 8),
    "doubling": grammar(
        "start: R0\n" + "\n".join(f"R{i}: R{i + 1} R{i + 1}" for i in range(40)) + '\nR40: "a"'
    ),
    "product of alternatives": schema(
        {"allOf": [
            {"anyOf": [{"properties": {f"{i}{j}": {}}, "required": [f"{i}{j}"]} for j in range(6)]}
            for i in range(12)
        ]}
    ),
    "a huge multiple": schema({"type": "integer", "multipleOf": 99991}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_specs_are_refused_or_compiled_but_end(tokenizer: Tokenizer, name: str) -> None:
    message = ""
    try:
        compile_constraint(HOSTILE[name], tokenizer)
    except ParameterError as error:
        message = str(error)
    assert len(message) < 700


def test_an_ambiguous_grammar_ends_its_answer_and_not_the_process(tokenizer: Tokenizer) -> None:
    """Every token of it takes longer than the one before."""
    constraint = compile_constraint(grammar('start: s\ns: s s | s s s | "a" | '), tokenizer)
    a = tokenizer.encode("a")[0]

    def go_on() -> None:
        for _ in range(2000):
            assert constraint.mask()[a]
            constraint.accept(a)

    with pytest.raises(ParameterError, match=r"too complex|cannot be enforced"):
        go_on()


def test_compiling_may_not_take_forever(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(constraints, "COMPILE_SECONDS", 0.05)
    monkeypatch.setattr(constraints, "_grammar", lambda kind, text: goes_on.wait(10) and "")
    try:
        for _ in range(constraints.COMPILE_THREADS):
            with pytest.raises(ParameterError, match=re.escape("takes more than 0.05 s to compile")):
                compile_constraint(regex("new"), tokenizer)
        with pytest.raises(OverloadedError, match="other constraints are being compiled"):
            compile_constraint(regex("newer"), tokenizer)
    finally:
        goes_on.set()


def test_no_thread_to_compile_in(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = threading.stack_size()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(constraints.COMPILE_THREADS + 1):
            with pytest.raises(OverloadedError, match="no thread can be started"):
                compile_constraint(regex("never"), tokenizer)
    assert threading.stack_size() == before
    assert compile_constraint(regex("never"), tokenizer).mask().any()


def test_what_is_being_compiled_is_waited_for(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many requests as there may be with the same new spec, at once: it is compiled for the first."""
    count, compiled = 12, []
    original = constraints._grammar

    def slow(kind: str, text: str) -> str:
        compiled.append(text)
        time.sleep(0.1)
        return original(kind, text)

    monkeypatch.setattr(constraints, "_grammar", slow)
    with ThreadPoolExecutor(count) as threads:
        made = list(threads.map(lambda _: compile_constraint(regex("new{1,3}"), tokenizer), range(count)))
        failed = [threads.submit(compile_constraint, regex("(a"), tokenizer) for _ in range(count)]
    assert len({id(one) for one in made}) == count
    assert all(isinstance(one.exception(), ParameterError) for one in failed)
    assert compiled.count("new{1,3}") == 1
    assert ("regex", "(a") not in constraints._vocabulary(tokenizer)._compiled


def test_a_tokenizer_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(tiny_tokenizer_json())
    constraints.prepare_constraints(tokenizer)
    prepared = constraints._vocabulary(tokenizer)
    compile_constraint(regex("a"), tokenizer)
    assert constraints._vocabulary(tokenizer) is prepared
    monkeypatch.setitem(sys.modules, "llguidance", None)
    other = Tokenizer(tiny_tokenizer_json())
    constraints.prepare_constraints(other)
    with pytest.raises(MissingExtraError, match=r"pip install 'tercet\[server\]'"):
        compile_constraint(regex("a"), other)


def test_a_vocabulary_goes_with_its_tokenizer_and_its_constraints() -> None:
    tokenizer = Tokenizer(tiny_tokenizer_json())
    constraint = compile_constraint(regex("aé"), tokenizer)
    count = len(constraints._vocabularies)
    del tokenizer
    gc.collect()
    assert constraint.mask().any()
    assert len(constraints._vocabularies) == count
    del constraint
    gc.collect()
    assert len(constraints._vocabularies) == count - 1


def test_masks_are_fast_with_a_large_vocabulary() -> None:
    """128,000 tokens: far below a millisecond each (0.1 ms on the machine that this was written on)."""
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    words = {letter: i for i, letter in enumerate(sorted(alphabet))}
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    for n in range(128_000 - len(words)):
        word = "".join(letters[n // 26**k % 26] for k in range(4))
        words.setdefault(word, len(words))
    library = tokenizers.Tokenizer(models.BPE(words, []))
    library.decoder = decoders.ByteLevel()
    tokenizer = Tokenizer(library.to_str().encode())
    constraint = compile_constraint(ConstraintSpec("json_object"), tokenizer)
    assert isinstance(constraint, TextConstraint)
    for token in tokenizer.encode(json.dumps({"abcd": "efgh" * 60})):
        assert constraint.mask()[token]
        constraint.accept(token)
    assert constraint.is_finished
    assert constraint.seconds_per_token < 0.002


@pytest.mark.parametrize(
    "schema", ['{"const": NaN}', '{"minimum": -Infinity}', '{"maximum": 1e999}', '{"const": "\\ud800"}']
)
def test_a_schema_that_only_python_reads_is_refused(tokenizer: Tokenizer, schema: str) -> None:
    """Found by fuzzing: what Python takes for JSON and llguidance does not was an error of ours."""
    with pytest.raises(constraints.ConstraintError):
        compile_constraint(ConstraintSpec("json_schema", schema), tokenizer)
