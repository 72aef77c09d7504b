"""How byte-level vocabularies cut a text into words before they merge bytes: the names that GGUF files use.

A GGUF file holds no rule, only a name (`tokenizer.ggml.pre`) that some release of llama.cpp knew. The rules
below are those of the `tokenizer.json` files that these names stand for, which is what the models were
trained on. A wrong rule gives text that looks right and a model that answers worse, so that an unknown name
is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tercet.errors import UnsupportedFormatError

__all__ = ["BYTE_LEVEL", "DEFAULT", "PreTokenizer", "name_of_rule", "pre_tokenizer"]

DEFAULT = "default"
"""What llama.cpp does with files that name no rule. It is right for no model in particular."""

Step = Mapping[str, Any]

_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
# Capitals then small letters, as a word of the o200k and Tekken vocabularies may look.
_CAPITALIZED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_CAPITALS = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"


def _cl100k(letters: str, digits: str) -> str:
    """The pattern of cl100k and its descendants, which differ in what is a letter and how digits group."""
    word = letters if letters.count("p") == 1 else f"[{letters}]"
    return rf"{_ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?{word}+|{digits}| ?[^\s{letters}\p{{N}}]+[\r\n]*|{_BLANKS}"


def _byte_level(splits_words: bool) -> Step:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": splits_words,  # the pattern of GPT-2
    }


def _split(pattern: str) -> Step:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


BYTE_LEVEL = _byte_level(splits_words=False)
"""Turns the bytes of each word into characters of the vocabulary's alphabet, and cuts nothing."""
_GPT2 = _byte_level(splits_words=True)


@dataclasses.dataclass(frozen=True)
class PreTokenizer:
    """A rule with a name."""

    name: str
    steps: tuple[Step, ...]
    whole_words: bool = False
    """Whether a word that is a token is that token, even if merges would not make it (`ignore_merges`)."""
    add_bos: bool = False
    """Whether a text begins with the begin-of-text token, when the file does not say."""


def _rules() -> dict[str, PreTokenizer]:
    llama3 = (_split(_cl100k(r"\p{L}", r"\p{N}{1,3}")), BYTE_LEVEL)
    qwen2 = (_split(_cl100k(r"\p{L}", r"\p{N}")), BYTE_LEVEL)
    qwen35 = (_split(_cl100k(r"\p{L}\p{M}", r"\p{N}")), BYTE_LEVEL)
    digits = ({"type": "Digits", "individual_digits": True}, _GPT2)
    falcon = (
        {"type": "Punctuation", "behavior": "Contiguous"},
        _GPT2,
        {"type": "Digits", "individual_digits": False},
        _split("[0-9][0-9][0-9]"),
    )
    o200k_tail = rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
    o200k = rf"{_CAPITALIZED}{_ENGLISH}?|{_CAPITALS}{_ENGLISH}?|\p{{N}}{{1,3}}{o200k_tail}"
    tekken = rf"{_CAPITALIZED}|{_CAPITALS}|\p{{N}}{o200k_tail}"
    default = (
        _split(r"[\p{P}$+<=>^~|]+"),
        _split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
        _split(r"\p{N}+"),
        _split("[0-9][0-9][0-9]"),
        BYTE_LEVEL,
    )
    minicpm5 = (_split(r"\p{N}{1,3}"), _split(_cl100k(r"\p{L}", r"\p{N}+")), BYTE_LEVEL)
    families: list[tuple[str, tuple[Step, ...], bool, bool]] = [
        ("llama-bpe llama3 llama-v3 falcon3 falcon_e falcon-h1 pixtral midm-2.0 lfm2", llama3, True, True),
        ("glm4", llama3, True, False),
        ("chatglm-bpe dbrx smaug-bpe", llama3, False, False),
        ("gpt-2 phi-2 olmo mpt jais exaone4 trillion modern-bert", (_GPT2,), False, False),
        ("smollm starcoder refact command-r codeshell exaone minerva-7b", digits, False, False),
        ("qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez", qwen2, False, False),
        ("qwen35", qwen35, False, False),
        ("falcon", falcon, False, False),
        ("gpt-4o llama4", (_split(o200k), BYTE_LEVEL), False, False),
        ("tekken", (_split(tekken), BYTE_LEVEL), True, True),
        ("minicpm5", minicpm5, True, False),
        (DEFAULT, default, False, False),
    ]
    return {
        name: PreTokenizer(name, steps, whole_words, add_bos)
        for names, steps, whole_words, add_bos in families
        for name in names.split()
    }


_RULES = _rules()


def pre_tokenizer(name: str, source: str) -> PreTokenizer:
    """Return the rule of this name.

    Args:
        name: the value of `tokenizer.ggml.pre`.
        source: what was read, for messages.

    Raises:
        UnsupportedFormatError: the name is not known; the message lists those that are.
    """
    if name not in _RULES:
        raise UnsupportedFormatError(
            f"{source} asks for the pre-tokenizer {name[:40]!r}, which this release does not know; "
            f"it knows {', '.join(sorted(_RULES))}. With another rule the model would read other words than "
            "it was trained on. Use the tokenizer.json of the original model."
        )
    return _RULES[name]


def name_of_rule(steps: Sequence[Step], whole_words: bool) -> str | None:
    """Return the name of a rule as a tokenizer.json has it, or None if nobody has named it.

    Args:
        steps: the `pre_tokenizer` of the file, as a list.
        whole_words: its model's `ignore_merges`.
    """
    wanted = [_significant(step) for step in steps]
    for rule in _RULES.values():
        if rule.whole_words == whole_words and [_significant(step) for step in rule.steps] == wanted:
            return rule.name
    return None


def _significant(step: Step) -> Step:
    """Leave out what changes no token: offsets, and settings that say what is usual."""
    usual = {"trim_offsets": step.get("trim_offsets"), "invert": False}
    return {key: value for key, value in step.items() if key not in usual or usual[key] != value}
