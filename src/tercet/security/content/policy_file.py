"""Policies in a JSON file: lists, patterns and classifiers of one's own, and what is done about findings.

    {
      "default": "house",
      "filters": {
        "german":  {"kind": "words", "category": "violence", "language": "de", "words": ["Gewalt"]},
        "tickets": {"kind": "patterns", "category": "ticket", "reach": 40, "patterns": {"id": "T-[0-9]{6}"}},
        "mood":    {"kind": "classifier", "object": "my_package.mood:anger", "thresholds": {"anger": 0.8}},
        "own":     {"kind": "python", "object": "my_package.filters:OwnFilter"}
      },
      "policies": {
        "house": {
          "prompt":   {"use": ["words", "injection"], "actions": {"injection": "flag"}, "otherwise": "block"},
          "response": {"use": ["words", "german", "tickets"], "otherwise": "redact"}
        }
      }
    }

`words` takes `words` or a `file` beside this one, or `categories` with a list for each. Policies may use the
filters that come with the package (`words`, `injection`, `secrets`, `personal_data`); a filter of the same
name stands in their place, in the policies that come with the package, too. An `object` is imported: a file
of policies is as trusted as the program.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, cast

from tercet.errors import ParameterError
from tercet.security.content.finding import ContentFilter
from tercet.security.content.patterns import Pattern, PatternFilter
from tercet.security.content.policies import (
    BUILTIN_FILTERS,
    ContentPolicies,
    Policy,
    builtin_filter,
    builtin_policies,
    direction,
)
from tercet.security.content.scores import ScoreFilter
from tercet.security.content.screen import ACTIONS, Action, Direction
from tercet.security.content.word_lists import WordList

__all__ = ["open_policies", "read_policies"]

MAX_FILE_BYTES = 8 << 20
MOST_CATEGORIES = 16
"""Of all filters together: they become labels of metrics."""
_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def open_policies(name: str | Path) -> ContentPolicies:
    """Return the policies of a file, or those of the package with the named one as their default.

    Raises:
        ParameterError, MissingExtraError: see `read_policies` and `ContentPolicies.builtin`.
    """
    is_file = isinstance(name, Path) or name.endswith(".json")
    return read_policies(name) if is_file else ContentPolicies.builtin(str(name))


def read_policies(path: str | Path) -> ContentPolicies:
    """Read a file of policies.

    Raises:
        ParameterError: there is no such file, or something in it is not as it must be; says where.
        MissingExtraError: a filter needs a package that is not installed.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ParameterError(f"the content policies {path} are larger than {MAX_FILE_BYTES} bytes")
        told = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ParameterError(f"the content policies {path} cannot be read: {error}") from error
    try:
        return _policies(told, path.parent)
    except ParameterError as error:
        raise ParameterError(f"the content policies {path}: {error}") from error


def _policies(told: Any, folder: Path) -> ContentPolicies:
    fields = _object(told, "the file", {"default", "filters", "policies"})
    filters: dict[str, ContentFilter] = {}
    for name, described in _object(fields.get("filters", {}), "filters").items():
        _check_name(name, "a filter")
        filters[name] = _filter(described, f"filters.{name}", folder)
    used: dict[str, ContentFilter] = {}

    def of_name(name: Any, where: str) -> ContentFilter:
        if isinstance(name, str) and name in filters:
            return used.setdefault(name, filters[name])
        if isinstance(name, str) and name in BUILTIN_FILTERS:
            return used.setdefault(name, builtin_filter(name))
        known = ", ".join([*BUILTIN_FILTERS, *filters])
        raise ParameterError(f"{where} names the filter {name!r:.60}; there are {known}")

    policies = builtin_policies({name: one for name, one in filters.items() if name in BUILTIN_FILTERS})
    for name, described in _object(fields.get("policies", {}), "policies").items():
        _check_name(name, "a policy")
        where = f"policies.{name}"
        ways = _object(described, where, {"prompt", "response"})
        policies[name] = Policy(
            name,
            _direction(ways.get("prompt", {}), f"{where}.prompt", of_name),
            _direction(ways.get("response", {}), f"{where}.response", of_name),
        )
    found = ContentPolicies(policies, fields.get("default", "block"))
    if len(found.categories) > MOST_CATEGORIES:
        raise ParameterError(
            f"filters have {len(found.categories)} categories together, and at most {MOST_CATEGORIES} may be"
        )
    return found


def _direction(told: Any, where: str, of_name: Callable[[Any, str], ContentFilter]) -> Direction:
    fields = _object(told, where, {"use", "actions", "otherwise"})
    use = fields.get("use", [])
    if not isinstance(use, list):
        raise ParameterError(f"{where}.use is a list of filters")
    filters = [of_name(name, f"{where}.use") for name in use]
    categories = {category for content in filters for category in content.categories}
    actions: dict[str, Action] = {}
    for category, action in _object(fields.get("actions", {}), f"{where}.actions").items():
        if category not in categories:
            raise ParameterError(
                f"{where}.actions names {category!r:.60}, and its filters find "
                f"{', '.join(sorted(categories))}"
            )
        actions[category] = _action(action, f"{where}.actions.{category}")
    return direction(filters, actions, _action(fields.get("otherwise", "pass"), f"{where}.otherwise"))


def _action(told: Any, where: str) -> Action:
    if told not in ACTIONS:
        raise ParameterError(f"{where} is one of {', '.join(ACTIONS)}, not {told!r:.60}")
    return cast(Action, told)


def _filter(told: Any, where: str, folder: Path) -> ContentFilter:
    kind = _object(told, where).get("kind")
    makers = {"words": _words, "patterns": _patterns, "classifier": _classifier, "python": _python}
    if kind not in makers:
        raise ParameterError(f"{where}.kind is one of {', '.join(makers)}, not {kind!r:.60}")
    made = makers[kind]({name: value for name, value in told.items() if name != "kind"}, where, folder)
    if not made.categories or not all(map(_CATEGORY.fullmatch, made.categories)):
        raise ParameterError(f"{where}: a category is 1 to 40 lower-case letters, digits and _")
    return made


def _words(told: Mapping[str, Any], where: str, folder: Path) -> ContentFilter:
    fields = _object(told, where, {"category", "words", "file", "categories", "language", "whole_words"})
    options: dict[str, Any] = {
        "language": _text(fields.get("language", "en"), f"{where}.language"),
        "whole_words": fields.get("whole_words", True),
    }
    if not isinstance(options["whole_words"], bool):
        raise ParameterError(f"{where}.whole_words is true or false")
    if sum(name in fields for name in ("words", "file", "categories")) != 1:
        raise ParameterError(f"{where} has one of words, file and categories")
    if "categories" in fields:
        listed = _object(fields["categories"], f"{where}.categories")
        return WordList(
            {name: _texts(listed[name], f"{where}.categories.{name}") for name in listed}, **options
        )
    category = _text(fields.get("category"), f"{where}.category")
    if "file" in fields:
        return WordList.read(folder / _text(fields["file"], f"{where}.file"), category, **options)
    return WordList({category: _texts(fields["words"], f"{where}.words")}, **options)


def _patterns(told: Mapping[str, Any], where: str, folder: Path) -> ContentFilter:
    fields = _object(told, where, {"category", "patterns", "reach"})
    category = _text(fields.get("category"), f"{where}.category")
    reach = fields.get("reach", 200)
    if isinstance(reach, bool) or not isinstance(reach, int):
        raise ParameterError(f"{where}.reach is a number of characters")
    listed = _object(fields.get("patterns"), f"{where}.patterns")
    if not listed:
        raise ParameterError(f"{where}.patterns names at least one pattern")
    return PatternFilter(
        [
            Pattern(name, _text(regex, f"{where}.patterns.{name}"), category, reach)
            for name, regex in listed.items()
        ]
    )


def _classifier(told: Mapping[str, Any], where: str, folder: Path) -> ContentFilter:
    fields = _object(told, where, {"object", "thresholds"})
    scorer = _imported(fields.get("object"), f"{where}.object")
    thresholds = _object(fields.get("thresholds"), f"{where}.thresholds")
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in thresholds.values()):
        raise ParameterError(f"{where}.thresholds has a number for each category")
    if not callable(scorer):
        raise ParameterError(f"{where}.object is to be a function from a text to its scores")
    return ScoreFilter(scorer, thresholds)


def _python(told: Mapping[str, Any], where: str, folder: Path) -> ContentFilter:
    fields = _object(told, where, {"object"})
    found = _imported(fields.get("object"), f"{where}.object")
    made = found() if isinstance(found, type) else found
    if not _is_filter(made):
        raise ParameterError(f"{where}.object has no `categories` and `scan`, which a filter has")
    return made


def _is_filter(made: Any) -> TypeGuard[ContentFilter]:
    return isinstance(getattr(made, "categories", None), frozenset) and callable(getattr(made, "scan", None))


def _imported(told: Any, where: str) -> Any:
    module, _, name = _text(told, where).partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParameterError(f"{where} is module:name of something installed, not {told!r:.80}") from error


def _object(told: Any, where: str, known: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise ParameterError(f"{where} is an object")
    if known is not None and (unknown := sorted(set(told) - known)):
        raise ParameterError(f"{where} has no {', '.join(unknown)}; it may have {', '.join(sorted(known))}")
    return told


def _text(told: Any, where: str) -> str:
    if not isinstance(told, str) or not told:
        raise ParameterError(f"{where} is text")
    return told


def _texts(told: Any, where: str) -> list[str]:
    if not isinstance(told, list):
        raise ParameterError(f"{where} is a list of words")
    return [_text(one, where) for one in told]


def _check_name(name: str, what: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ParameterError(
            f"{what} has a name of 1 to 40 lower-case letters, digits, _ and -, not {name!r:.60}"
        )
