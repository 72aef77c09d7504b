"""The instructions of IFEval that a program can check (Zhou et al. 2023), one function each.

The rules are those of the data set's authors as lm-eval runs them. Three differ in means: sentences are told
apart by punctuation (there by NLTK's Punkt), words in capitals by spaces and punctuation (there by NLTK's
tokenizer), and languages by script and common words (there by langdetect). Where the letter to count is a
sign like #, lm-eval counts a letter drawn by chance; here it is the sign.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tercet.errors import FormatError
from tercet.evaluation.tasks.language_guess import guess_language

__all__ = ["INSTRUCTIONS", "follows", "follows_loosely"]

Arguments = Mapping[str, Any]
CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def follows(name: str, reply: str, arguments: Arguments) -> bool:
    """Say whether a reply follows an instruction; an empty one follows none.

    Raises:
        FormatError: there is no instruction of this name, or it lacks an argument.
    """
    if name not in INSTRUCTIONS:
        raise FormatError(f"IFEval has no instruction {name!r}; there are {', '.join(INSTRUCTIONS)}")
    try:
        return bool(reply.strip()) and INSTRUCTIONS[name](reply, arguments)
    except KeyError as error:
        raise FormatError(f"instruction {name!r} has no argument {error}") from error


def follows_loosely(name: str, reply: str, arguments: Arguments) -> bool:
    """Say the same if an opening or a closing line, or asterisks, may be left out."""
    lines = reply.split("\n")
    parts = [reply, *("\n".join(one).strip() for one in (lines[1:], lines[:-1], lines[1:-1]))]
    readings = [*parts, *(one.replace("*", "") for one in parts)]
    return any(follows(name, one, arguments) for one in readings)


def _compared(count: int, arguments: Arguments, limit: str, relation: str = "relation") -> bool:
    threshold = int(arguments[limit])
    return count < threshold if arguments[relation] == "less than" else count >= threshold


def _sentences(text: str) -> int:
    text = re.sub(r"\b(Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Ltd|vs|etc|[A-Z])\.", r"\1", text.strip())
    return len(re.findall(r"[^.!?\s][^.!?]*(?:[.!?](?![\s\"')\]]|$)[^.!?]*)*(?:[.!?]+|$)", text))


def _paragraphs(reply: str, arguments: Arguments) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", reply)
    if any(not part.strip() for part in parts[1:-1]):
        return False
    ends = sum(not parts[end].strip() for end in ({0, len(parts) - 1}))
    return len(parts) - ends == int(arguments["num_paragraphs"])


def _first_word(reply: str, arguments: Arguments) -> bool:
    paragraphs = reply.split("\n\n")
    count = sum(bool(one.strip()) for one in paragraphs)
    number = arguments["nth_paragraph"]
    if count != arguments["num_paragraphs"] or number > count or not paragraphs[number - 1].strip():
        return False
    word = paragraphs[number - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", word)[0].lower() == str(arguments["first_word"]).lower()


def _postscript(reply: str, arguments: Arguments) -> bool:
    marker = arguments["postscript_marker"]
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    pattern = patterns.get(marker, r"\s*" + marker.lower() + r".*$")
    return bool(re.search(pattern, reply.lower(), flags=re.MULTILINE))


def _bullets(reply: str, arguments: Arguments) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", reply, flags=re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", reply, flags=re.MULTILINE)
    return len(stars) + len(dashes) == int(arguments["num_bullets"])


def _highlights(reply: str, arguments: Arguments) -> bool:
    once = re.findall(r"\*[^\n\*]*\*", reply)
    twice = re.findall(r"\*\*[^\n\*]*\*\*", reply)
    count = sum(bool(one.strip("*").strip()) for one in once)
    count += sum(bool(one.removeprefix("**").removesuffix("**").strip()) for one in twice)
    return count >= int(arguments["num_highlights"])


def _sections(reply: str, arguments: Arguments) -> bool:
    pattern = r"\s?" + arguments["section_spliter"] + r"\s?\d+\s?"
    return len(re.split(pattern, reply)) - 1 >= int(arguments["num_sections"])


def _json(reply: str, arguments: Arguments) -> bool:
    fence = "`" * 3
    text = reply.strip()
    for opening in ("json", "Json", "JSON", ""):
        text = text.removeprefix(fence + opening)
    try:
        json.loads(text.removesuffix(fence).strip())
    except ValueError:
        return False
    return True


def _two_responses(reply: str, arguments: Arguments) -> bool:
    parts = [part.strip() for part in reply.split("*" * 6)]
    if not all(parts[1:-1]):
        return False
    said = [part for part in parts if part]
    return len(said) == 2 and said[0] != said[1]


def _quotation(reply: str, arguments: Arguments) -> bool:
    text = reply.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _is_english(text: str) -> bool:
    return guess_language(text) in ("en", None)


INSTRUCTIONS: dict[str, Callable[[str, Arguments], bool]] = {
    "keywords:existence": lambda r, a: all(re.search(one, r, re.IGNORECASE) for one in a["keywords"]),
    "keywords:frequency": lambda r, a: _compared(
        len(re.findall(a["keyword"].strip(), r, re.IGNORECASE)), a, "frequency"
    ),
    "keywords:forbidden_words": lambda r, a: (
        not any(re.search(rf"\b{one}\b", r, re.IGNORECASE) for one in a["forbidden_words"])
    ),
    "keywords:letter_frequency": lambda r, a: _compared(
        r.lower().count(a["letter"].strip().lower()), a, "let_frequency", "let_relation"
    ),
    "language:response_language": lambda r, a: guess_language(r) in (a["language"], None),
    "length_constraints:number_sentences": lambda r, a: _compared(_sentences(r), a, "num_sentences"),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": lambda r, a: _compared(len(re.findall(r"\w+", r)), a, "num_words"),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda r, a: (
        len(re.findall(r"\[.*?\]", r)) >= a["num_placeholders"]
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda r, a: any(one in r for one in CONSTRAINED),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": lambda r, a: any(
        one.lstrip("<").rstrip(">").strip() for one in re.findall(r"<<[^\n]+>>", r)
    ),
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda r, a: (
        r.strip().lower().startswith(a["prompt_to_repeat"].strip().lower())
    ),
    "startend:end_checker": lambda r, a: (
        r.strip().strip('"').lower().endswith(a["end_phrase"].strip().lower())
    ),
    "startend:quotation": _quotation,
    "change_case:capital_word_frequency": lambda r, a: _compared(
        sum(word.isupper() for word in re.findall(r"[\w'-]+", r)), a, "capital_frequency", "capital_relation"
    ),
    "change_case:english_capital": lambda r, a: r.isupper() and _is_english(r),
    "change_case:english_lowercase": lambda r, a: r.islower() and _is_english(r),
    "punctuation:no_comma": lambda r, a: "," not in r,
}
