"""How much a stranger may ask for, and what is done with it: one object, two profiles.

    SecurityConfig()            strict: for whoever can be reached by others, or has given out keys
    SecurityConfig.local()      for one's own machine: the model's context is the limit
    SecurityConfig.of("strict", max_input_length=20_000)

A limit is a number above 0; None is no limit. What is beyond a limit is refused, never cut: a prompt
without its end is another prompt. The server chooses `strict` where keys are on or it can be reached from
elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tercet.errors import ParameterError

__all__ = ["PROFILES", "FailMode", "Profile", "SecurityConfig"]

Profile = Literal["strict", "local"]
FailMode = Literal["closed", "open"]
PROFILES: tuple[Profile, ...] = ("strict", "local")


@dataclass(frozen=True, kw_only=True)
class SecurityConfig:
    """The settings in force; the defaults are those of the profile `strict`.

    Raises:
        ParameterError: a limit is not above 0, or a word is none of those that there are.
    """

    profile: Profile = "strict"
    """Where the values come from that nobody named."""
    max_input_length: int | None = 4_096
    """Characters that the model is to read for one answer: of the prompt, or all messages and tools."""
    max_output_tokens: int | None = 1_024
    """Tokens of one answer; one that names no number may have so many."""
    rate_limit_requests_per_minute: int | None = 60
    """Requests of one client in any minute."""
    rate_limit_tokens_per_minute: int | None = 60_000
    """Tokens of one client in any minute: those of its prompts, and those that its answers may have."""
    rate_limit_storage: str = "memory"
    """Where it is counted: "memory" of this process, or redis://... for all processes together."""
    rate_limit_fail_mode: FailMode = "closed"
    """Without its Redis a server refuses requests ("closed", 503), or counts in its own memory ("open")."""
    max_parallel_requests: int | None = 8
    """Requests of one client at one time."""
    max_choices: int | None = 4
    """Answers of one request: `n` or `best_of`, for each of its prompts."""
    max_stop_sequences: int | None = 4
    """Strings at which one request has its answers end."""
    max_stop_length: int | None = 100
    """Characters of one of them."""
    max_logit_bias: int | None = 300
    """Tokens that one request may favour or disfavour."""
    max_schema_bytes: int | None = 16_384
    """Of a JSON schema, or a grammar; of all tools together."""
    max_schema_depth: int | None = 16
    """Levels of objects and lists in a JSON schema."""
    max_regex_length: int | None = 512
    """Characters of a regular expression that an answer is to match."""
    enable_content_filtering: bool = True
    """Whether prompts and answers go through the filters."""
    log_requests: bool = True
    """Whether a line for each request is logged: ids and counts, never text."""
    sanitize_inputs: bool = True
    """Whether control characters are refused, and what a browser would run is taken out."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @classmethod
    def local(cls, **changes: Any) -> SecurityConfig:
        """Return the settings of one's own machine: no limit but the model's, no filter."""
        open_ended: dict[str, Any] = dict.fromkeys(_LIMITS)
        return cls(
            **{
                **open_ended,
                "profile": "local",
                "enable_content_filtering": False,
                "sanitize_inputs": False,
                **changes,
            }
        )

    @classmethod
    def of(cls, profile: Profile, **changes: Any) -> SecurityConfig:
        """Return the settings of a profile, with some of them changed.

        Raises:
            ParameterError: there is no such profile, no such setting, or a value is not valid.
        """
        if profile not in PROFILES:
            raise ParameterError(f"the profiles are {' and '.join(PROFILES)}, not {profile!r}")
        if unknown := sorted(set(changes) - set(_NAMES)):
            raise ParameterError(
                f"there is no security setting {', '.join(unknown)}; there are {', '.join(_NAMES)}"
            )
        return cls.local(**changes) if profile == "local" else cls(**changes)

    def to_dict(self) -> Mapping[str, Any]:
        """Return the settings in force, as names and values; a password in an address is left out."""
        values = dataclasses.asdict(self)
        values["rate_limit_storage"] = self.rate_limit_storage.partition(":")[0]
        return values

    @property
    def limits_requests(self) -> bool:
        """Whether there is a limit on what one request may ask for."""
        return any(getattr(self, name) is not None for name in _LIMITS if name.startswith("max_"))

    @property
    def counts_requests(self) -> bool:
        """Whether there is a limit for each minute."""
        return not (self.rate_limit_requests_per_minute is None and self.rate_limit_tokens_per_minute is None)


_NAMES = tuple(field.name for field in dataclasses.fields(SecurityConfig) if field.name != "profile")
_LIMITS = tuple(name for name in _NAMES if name.startswith("max_") or name.endswith("_per_minute"))
_WORDS: Mapping[str, tuple[str, ...]] = {"profile": PROFILES, "rate_limit_fail_mode": ("closed", "open")}
_STORAGES = ("memory", "redis://", "rediss://", "unix://")


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    name = field.name
    if name in _LIMITS:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ParameterError(f"{name} is a whole number above 0, or None for no limit, not {value!r}")
    elif name in _WORDS:
        if value not in _WORDS[name]:
            raise ParameterError(f"{name} is {' or '.join(_WORDS[name])}, not {value!r}")
    elif name == "rate_limit_storage":
        known = isinstance(value, str) and (value == "memory" or value.startswith(_STORAGES[1:]))
        if not known:
            raise ParameterError(f'{name} is "memory" or an address redis://..., not {str(value)[:60]!r}')
    elif not isinstance(value, bool):
        raise ParameterError(f"{name} is True or False, not {value!r}")
