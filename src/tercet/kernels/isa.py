"""Instruction sets: what this build has, what this machine runs, what is chosen and why.

The one list is cpp/isa.cmake; compiler flags and the run-time check both come from it. `reference` runs
everywhere and is the definition of every operation; all the others give the same bits, faster.
"""

from __future__ import annotations

from tercet import _core

__all__ = ["available_isas", "choose_isa", "known_isas"]


def known_isas() -> list[str]:
    """Return the instruction sets of this build, `reference` first, the most wanted last."""
    return _core.known_isas()


def available_isas() -> list[str]:
    """Return those of `known_isas` that this processor and operating system support, in the same order."""
    return _core.available_isas()


def choose_isa(isa: str | None = None) -> tuple[str, str]:
    """Return the instruction set to use and the reason for it.

    `isa` wins over the environment variable TERCET_ISA, which wins over the best available one.

    Raises:
        IsaError: an unknown name, or an instruction set that this machine lacks; the message lists what it
        has.
    """
    return _core.choose_isa(isa)
