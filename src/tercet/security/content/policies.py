"""Policies: which filters look at prompts and at answers, and what is done about what they find.

    policies = ContentPolicies.builtin()
    policies.of("redact").response          a `Direction`, for `Screen`

Three come with the package, beside `off`. They look for the same and do different things:

    category                          block            flag     redact
    violence, hate, illegal, harm     block            flag     redact
    injection (prompts)               flag             flag     flag
    secret                            redact answers   flag     redact
    personal data (presidio)          -                -        redact

Personal data are looked for where presidio-analyzer is installed (`pip install tercet[pii]`). A file
(`policy_file`) adds lists, patterns and policies of one's own, or puts others in the place of these.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tercet.errors import ParameterError
from tercet.security.content.finding import ContentFilter
from tercet.security.content.injection import INJECTION_PATTERNS
from tercet.security.content.patterns import PatternFilter
from tercet.security.content.personal_data import PersonalData
from tercet.security.content.screen import Action, Direction
from tercet.security.content.secrets import SECRET_PATTERNS
from tercet.security.content.word_lists import DEFAULT_WORDS, WordList

__all__ = ["BUILTIN_FILTERS", "ContentPolicies", "Policy", "builtin_filter", "builtin_policies", "direction"]


@dataclass(frozen=True)
class Policy:
    """What is done with texts, on their way in and on their way out."""

    name: str
    prompt: Direction
    response: Direction

    @property
    def is_open(self) -> bool:
        """Whether its filters can work at once."""
        return all(getattr(content, "is_open", True) for content in self._filters)

    def open(self) -> None:
        """Have those filters ready that take seconds for it (they have `open` and `is_open`)."""
        for content in self._filters:
            if not getattr(content, "is_open", True):
                content.open()  # type: ignore[attr-defined]

    @property
    def _filters(self) -> tuple[ContentFilter, ...]:
        return (*self.prompt.filters, *self.response.filters)


class ContentPolicies:
    """Policies by name, and the one that holds where nobody names one.

    Raises:
        ParameterError: the default is none of them.
    """

    def __init__(self, policies: Mapping[str, Policy], default: str) -> None:
        if default not in policies:
            raise ParameterError(
                f"the default policy {default!r} is none of those that there are: {', '.join(policies)}"
            )
        self._policies = dict(policies)
        self.default = default

    @classmethod
    def builtin(cls, default: str = "block") -> ContentPolicies:
        """Return those that come with the package.

        Raises:
            ParameterError: the default is none of them.
            MissingExtraError: the extra `security` is not installed.
        """
        return cls(builtin_policies(), default)

    @property
    def names(self) -> list[str]:
        """The names that there are."""
        return list(self._policies)

    def of(self, name: str | None) -> Policy:
        """Return a policy; None is the default.

        Raises:
            ParameterError: there is none of this name.
        """
        policy = self._policies.get(self.default if name is None else name)
        if policy is None:
            raise ParameterError(
                f"there is no content policy {str(name)[:60]!r}; there are {', '.join(self._policies)}"
            )
        return policy

    @property
    def categories(self) -> frozenset[str]:
        """All categories that findings may have."""
        return frozenset(
            category
            for policy in self._policies.values()
            for way in (policy.prompt, policy.response)
            for content in way.filters
            for category in content.categories
        )


BUILTIN_FILTERS: Mapping[str, Callable[[], ContentFilter]] = {
    "words": lambda: WordList(DEFAULT_WORDS),
    "injection": lambda: PatternFilter(INJECTION_PATTERNS),
    "secrets": lambda: PatternFilter(SECRET_PATTERNS),
    "personal_data": PersonalData,
}
_ALWAYS = ("words", "injection", "secrets")


@lru_cache(maxsize=len(BUILTIN_FILTERS))
def builtin_filter(name: str) -> ContentFilter:
    """Return one of `BUILTIN_FILTERS`, made once."""
    return BUILTIN_FILTERS[name]()


def direction(
    filters: Sequence[ContentFilter], actions: Mapping[str, Action], otherwise: Action = "pass"
) -> Direction:
    """Return a direction with those filters alone whose findings something is done about."""
    whole = Direction(tuple(filters), actions, otherwise)
    needed = [
        content
        for content in filters
        if any(whole.action(category) != "pass" for category in content.categories)
    ]
    return Direction(tuple(needed), actions, otherwise)


def builtin_policies(replaced: Mapping[str, ContentFilter] | None = None) -> dict[str, Policy]:
    """Return the policies that come with the package, by name; filters may stand in the place of theirs."""
    chosen = {**{name: builtin_filter(name) for name in _ALWAYS}, **(replaced or {})}
    filters = [chosen[name] for name in _ALWAYS]
    words = chosen["words"].categories
    found = words | chosen["secrets"].categories
    injection: dict[str, Action] = dict.fromkeys(chosen["injection"].categories, "flag")
    block: dict[str, Action] = dict.fromkeys(words, "block")
    flag: dict[str, Action] = dict.fromkeys(found, "flag")
    redact: dict[str, Action] = dict.fromkeys(found, "redact")
    answers: dict[str, Action] = {**dict.fromkeys(chosen["secrets"].categories, "redact"), **block}
    personal = list(filters)
    if "personal_data" in chosen or _has_presidio():
        personal.append(chosen.get("personal_data") or builtin_filter("personal_data"))
        redact.update(dict.fromkeys(personal[-1].categories, "redact"))
    return {
        "block": Policy("block", direction(filters, {**block, **injection}), direction(filters, answers)),
        "flag": Policy("flag", direction(filters, {**flag, **injection}), direction(filters, flag)),
        "off": Policy("off", direction([], {}), direction([], {})),
        "redact": Policy("redact", direction(personal, {**redact, **injection}), direction(personal, redact)),
    }


def _has_presidio() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("presidio_analyzer", "tldextract"))
