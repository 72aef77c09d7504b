"""Answers that keep to a form: JSON, a JSON schema, a regular expression, a grammar. On llguidance.

    spec = ConstraintSpec("json_schema", {"type": "object", "properties": {"age": {"type": "integer"}}})
    constraint = compile_constraint(spec, tokenizer)        # may take a while: not in an event loop
    constraint.mask(); constraint.accept(token_id); ...     # for one answer

Specs come from anybody. Three things keep them from doing harm: their size is limited before anything reads
them; they are compiled in a thread of their own, with a large stack (chains of references recurse) and a time
limit; and the processor time that the masks of one answer take is counted, since a grammar may be cheap to
read and dear to follow. What cannot be enforced is refused and never ignored.

A constraint is about text. Control tokens are never part of it, and the tokens that end an answer are let
through by whoever draws, when `is_complete` says so.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tercet.environment import optional_import
from tercet.errors import MissingExtraError, OverloadedError
from tercet.sampling.json_schemas import checked_schema
from tercet.sampling.token_constraint import ConstraintError
from tercet.tokenization.tokenizer import Tokenizer, check_text

if TYPE_CHECKING:
    from llguidance import LLMatcher

__all__ = ["ConstraintSpec", "TextConstraint", "compile_constraint", "prepare_constraints"]

MOST_CHARACTERS = {"regex": 8_192, "grammar": 65_536}
COMPILE_SECONDS = 5.0
COMPILE_THREADS = 2
COMPILE_STACK_BYTES = 128 << 20  # of address space; what is not used costs nothing
KEPT_CONSTRAINTS = 16
"""Compiled ones that are kept for each tokenizer, the latest used. All answers under one share the states of
its lexer, which are computed as they are met: up to about 20 MiB."""
MASK_SECONDS = 0.25
MASK_SECONDS_PER_TOKEN = 0.002
"""Processor time for the masks of one answer: this much at once, and so much more for every token.

An ordinary mask takes 0.02 to 0.2 ms."""

_LIMITS = {
    "initial_lexer_fuel": 300_000,
    "step_lexer_fuel": 50_000,
    "step_max_items": 20_000,
    "max_lexer_states": 10_000,
}
_JSON_OPTIONS = {"whitespace_pattern": r"( |\n {0,40})?"}  # compact or indented, but not white space forever
_LARK_LITERAL = re.compile(r'//[^\n]*|#[^\n]*|"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\])+/')


@dataclass(frozen=True)
class ConstraintSpec:
    """What an answer must look like.

    `value` is a JSON schema (an object, or its text), a regular expression that the whole answer matches
    (Unicode, without look-around or references back), or a grammar (Lark as llguidance reads it, or GBNF as
    llama.cpp does); for `json_object` it is None.
    """

    kind: Literal["json_object", "json_schema", "regex", "grammar"]
    value: Any = None


def compile_constraint(spec: ConstraintSpec, tokenizer: Tokenizer) -> TextConstraint:
    """Make the constraint of one answer. Takes from a millisecond to seconds: call it in a worker thread.

    Raises:
        ConstraintError: the spec is not valid, cannot be enforced, or is too complex. The message says what.
        MissingExtraError: llguidance is not installed.
    """
    vocabulary, key = _vocabulary(tokenizer), (spec.kind, _checked_text(spec))
    return TextConstraint(vocabulary.matcher(*key), vocabulary, key, tokenizer)


def prepare_constraints(tokenizer: Tokenizer) -> None:
    """Do what compiling takes once for each tokenizer, before anybody waits; nothing without llguidance.

    For a vocabulary of 128,000 tokens it takes about a second, in half of which no other Python code runs.
    Whoever must not stall calls this while a model is loaded.
    """
    with contextlib.suppress(MissingExtraError):
        _vocabulary(tokenizer)


class TextConstraint:
    """A `TokenConstraint` by a parser of llguidance, for one answer. Made by `compile_constraint`."""

    def __init__(
        self,
        matcher: LLMatcher,
        vocabulary: _Vocabulary,
        key: tuple[str, str],
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._key = key
        self._tokenizer = tokenizer  # the vocabulary does not keep it alive
        self._mask: NDArray[np.bool_] | None = None
        self._num_tokens = 0
        self._seconds = 0.0

    def mask(self) -> NDArray[np.bool_]:
        """The tokens that may come next, bool [tokens of the tokenizer]. Not to be changed."""
        if self._mask is None:
            with self._counted():
                self._mask = self._vocabulary.readable(self._matcher.compute_bitmask(), not self._num_tokens)
            if not self._mask.any() and not self.is_complete:
                raise ConstraintError("the answer cannot go on: no token of the model fits the constraint")
        return self._mask

    def accept(self, token_id: int) -> None:
        """Take the chosen token."""
        self._mask = None
        self._num_tokens += 1
        with self._counted():
            self._matcher.consume_token(token_id)

    @property
    def is_complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def is_finished(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._matcher.is_stopped())

    @property
    def seconds_per_token(self) -> float:
        """Processor time that following the constraint has taken so far, for each token."""
        return self._seconds / max(self._num_tokens, 1)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        begin = time.thread_time()
        yield
        self._seconds += time.thread_time() - begin
        if self._matcher.is_error():
            self._vocabulary.forget(*self._key)  # what is shared may be full: the next one starts afresh
        _raise_error(self._matcher)
        if self._seconds > MASK_SECONDS + MASK_SECONDS_PER_TOKEN * self._num_tokens:
            raise ConstraintError(
                f"the constraint is too complex: finding the tokens that fit has taken {self._seconds:.2f} s "
                f"in {self._num_tokens} tokens"
            )


class _Vocabulary:
    """A tokenizer as llguidance sees it, and what was compiled for it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._guidance = optional_import("llguidance", "server")
        self._size = tokenizer.vocab_size
        texts = [tokenizer.token_bytes(token_id) for token_id in range(self._size)]
        self._is_text = np.array([bool(text) for text in texts])
        self._is_text[[token_id for token_id in tokenizer.special_ids if token_id < self._size]] = False
        self._is_first_text = self._is_text.copy()
        if tokenizer.drops_leading_space:  # the space would not be in the answer
            self._is_first_text &= np.array([not text.startswith(b" ") for text in texts])
        self._tokenizer = self._guidance.LLTokenizer(_Encoder(tokenizer, texts, self._is_text))
        self._limits = self._guidance.LLParserLimits(verbose_errors=False, **_LIMITS)
        self._compiled: OrderedDict[tuple[str, str], Future[LLMatcher]] = OrderedDict()
        self._lock = threading.Lock()

    def readable(self, bits: bytes, is_first: bool) -> NDArray[np.bool_]:
        """A mask of llguidance as bool [tokens], without anything that is no text."""
        mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=self._size, bitorder="little")
        readable: NDArray[np.bool_] = mask.view(np.bool_)
        readable &= self._is_first_text if is_first else self._is_text
        return readable

    def matcher(self, kind: str, text: str) -> LLMatcher:
        """Compile a spec, unless that has been done or is being done; return a copy for one answer."""
        key = (kind, text)
        with self._lock:
            compiled = self._compiled.pop(key, None)
            is_new = compiled is None
            if compiled is None:
                compiled = Future()
            self._compiled[key] = compiled  # the latest one stands last
            while len(self._compiled) > KEPT_CONSTRAINTS:
                self._compiled.popitem(last=False)
        if is_new:
            try:
                compiled.set_result(_in_compile_thread(lambda: self._compile(kind, text)))
            except BaseException as error:
                compiled.set_exception(error)
                self.forget(kind, text)
        matcher = compiled.result()  # raises what its compilation has raised
        with self._lock:
            return matcher.deep_copy()

    def forget(self, kind: str, text: str) -> None:
        """Compile this spec anew the next time."""
        with self._lock:
            self._compiled.pop((kind, text), None)

    def _compile(self, kind: str, text: str) -> LLMatcher:
        grammar = _grammar(kind, text)
        matcher: LLMatcher = self._guidance.LLMatcher(
            self._tokenizer, grammar, log_level=0, limits=self._limits
        )
        _raise_error(matcher)
        if warnings := matcher.get_grammar_warnings():
            raise ConstraintError(f"the constraint cannot be kept in full: {warnings[0]}")
        TextConstraint(matcher.deep_copy(), self, (kind, text)).mask()  # many a fault shows only here
        return matcher


class _Encoder:
    """The face of a tokenizer that llguidance asks for. Its own end token stands behind all of ours."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, texts: list[bytes], is_text: NDArray[np.bool_]) -> None:
        self.eos_token_id = len(texts)
        self.tokens = [*texts, b"<|end of constraint|>"]
        self.special_token_ids = [*np.flatnonzero(~is_text).tolist(), self.eos_token_id]
        self._tokenizer = weakref.proxy(tokenizer)  # it is the key under which this is kept
        self._ids = {text: token_id for token_id, text in enumerate(texts) if is_text[token_id]}
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, text: str | bytes) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        ids: list[int] = self._tokenizer.encode(data.decode("utf-8", "replace"))
        if b"".join(self.tokens[token_id] for token_id in ids) == data:
            return ids
        return list(self._longest_matches(data))  # SentencePiece puts a space in front

    def _longest_matches(self, data: bytes) -> Iterator[int]:
        begin = 0
        while begin < len(data):
            for end in range(min(begin + self._longest, len(data)), begin, -1):
                if (token_id := self._ids.get(data[begin:end])) is not None:
                    yield token_id
                    break
            else:
                raise ConstraintError(f"the model has no token for {data[begin : begin + 1]!r}")
            begin = end


_vocabularies: weakref.WeakKeyDictionary[Tokenizer, _Vocabulary] = weakref.WeakKeyDictionary()
_vocabularies_lock = threading.Lock()
_compile_slots = threading.BoundedSemaphore(COMPILE_THREADS)
_stack_size_lock = threading.Lock()


def _vocabulary(tokenizer: Tokenizer) -> _Vocabulary:
    with _vocabularies_lock:
        if tokenizer not in _vocabularies:
            _vocabularies[tokenizer] = _Vocabulary(tokenizer)
        return _vocabularies[tokenizer]


def _checked_text(spec: ConstraintSpec) -> str:
    """The text of a spec, as far as that can be checked without compiling it."""
    if spec.kind in ("json_object", "json_schema"):
        return checked_schema({"type": "object"} if spec.kind == "json_object" else spec.value)
    if spec.kind not in MOST_CHARACTERS:
        raise ConstraintError(
            f"there is no constraint {spec.kind!r}; there are json_object, json_schema, regex and grammar"
        )
    text = spec.value
    if not isinstance(text, str) or not text:
        raise ConstraintError(f"a {spec.kind} is a string that is not empty, not {text!r:.80}")
    if len(text) > MOST_CHARACTERS[spec.kind]:
        raise ConstraintError(
            f"the {spec.kind} has {len(text):,} characters, and may have {MOST_CHARACTERS[spec.kind]:,}"
        )
    check_text(text, f"the {spec.kind}")
    return text


def _grammar(kind: str, text: str) -> str:
    """The text of a spec as llguidance reads it."""
    matcher = optional_import("llguidance", "server").LLMatcher
    try:
        if kind == "regex":
            return str(matcher.grammar_from_regex(text))
        if kind == "grammar":
            return str(matcher.grammar_from_lark(_lark(text)))
        return str(matcher.grammar_from_json_schema(text, overrides=_JSON_OPTIONS))
    except ConstraintError:
        raise
    except ValueError as error:  # half a surrogate pair, for example
        raise ConstraintError(f"the {kind} cannot be read: {error}") from error


def _lark(text: str) -> str:
    conversion = optional_import("llguidance.gbnf_to_lark", "server")
    if not conversion.is_lark_syntax(text):
        try:
            return str(conversion.gbnf_to_lark(text))
        except Exception as error:  # it raises just that
            raise ConstraintError(f"the grammar is neither Lark nor GBNF: {error}") from error
    if operator := re.search("[&~]", _LARK_LITERAL.sub("", text)):
        raise ConstraintError(
            f"the grammar uses {operator[0]}, the intersection or complement of terminals, "
            "which may take forever to compute; write the terminal without it"
        )
    return text


def _raise_error(matcher: LLMatcher) -> None:
    if error := matcher.get_error():
        reason = error.split("\n<", 1)[0].strip()
        raise ConstraintError(f"the constraint cannot be enforced: {reason[:500]}")


def _in_compile_thread(work: Callable[[], LLMatcher]) -> LLMatcher:
    if not _compile_slots.acquire(timeout=COMPILE_SECONDS):
        raise OverloadedError("other constraints are being compiled, and take long", COMPILE_SECONDS)
    outcome: Future[LLMatcher] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            _compile_slots.release()

    thread = threading.Thread(target=run, name="tercet-constraint", daemon=True)
    with _stack_size_lock:
        before = threading.stack_size(COMPILE_STACK_BYTES)
        try:
            thread.start()
        except RuntimeError as error:  # no memory for its stack, or too many threads
            _compile_slots.release()
            raise OverloadedError(f"no thread can be started to compile a constraint: {error}") from error
        finally:
            threading.stack_size(before)
    try:
        return outcome.result(COMPILE_SECONDS)
    except TimeoutError:
        raise ConstraintError(f"the constraint takes more than {COMPILE_SECONDS:g} s to compile") from None
