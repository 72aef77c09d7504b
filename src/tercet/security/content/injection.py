"""Sentences by which a text tries to become an instruction.

They catch what is copied from lists of such sentences, and nothing that was thought up with the rules in
view. What protects against the rest is elsewhere: a user's text never becomes a special token, roles are
written by the template alone, and the server runs no tool and fetches nothing.
"""

from __future__ import annotations

from tercet.security.content.patterns import Pattern

__all__ = ["INJECTION_PATTERNS"]

_GAP = r"[\s,;:*\"'-]{1,5}"
_INSTRUCTIONS = r"(?:instructions?|prompts?|rules|guidelines|directions|context|messages)"


def _phrase(name: str, *words: str) -> Pattern:
    return Pattern(name, r"(?i)\b" + _GAP.join(words) + r"\b", "injection", reach=160)


INJECTION_PATTERNS: tuple[Pattern, ...] = (
    _phrase(
        "ignore_instructions",
        r"(?:ignore|disregard|forget|override|bypass)(?:[\s,]{1,5}(?:all|any|every|of|the|your|my|these|those))"
        r"{0,4}",
        rf"(?:previous|prior|above|earlier|preceding|former|system|initial|original)(?:[\s,]{{1,5}}\w{{1,20}})"
        rf"{{0,2}}?[\s,]{{1,5}}{_INSTRUCTIONS}",
    ),
    _phrase(
        "ignore_everything",
        r"(?:ignore|disregard|forget)",
        r"everything",
        r"(?:above|before|you(?:'ve| have| were))",
    ),
    _phrase(
        "show_system_prompt",
        r"(?:reveal|show|print|repeat|output|display|tell\s{1,3}me|give\s{1,3}me|what\s{1,3}(?:is|are|was|were))",
        r"(?:(?:the|your|all|me|of|exact|full|hidden|initial)[\s,]{1,5}){0,4}(?:system\s{1,3}(?:prompt|message)|"
        r"(?:initial|hidden|original)\s{1,3}(?:prompt|instructions))",
    ),
    _phrase(
        "new_identity",
        r"you",
        r"are",
        r"(?:now|no\s{1,3}longer)",
        r"(?:in\s{1,3})?(?:DAN|developer\s{1,3}mode|jailbroken|unrestricted|unfiltered|bound)",
    ),
    _phrase(
        "no_rules",
        r"(?:act|respond|answer|behave|pretend)[^.\n]{0,60}\b(?:without|no)",
        r"(?:any[\s,]{1,5})?(?:restrictions?|rules|filters?|limitations|guidelines|ethics)",
    ),
    Pattern(
        "written_role",
        r"(?i)(?:<\|(?:im_start|start_header_id|system|assistant|endoftext|eot_id)[^>\n]{0,20}\|?>|\[/?INST\]|<</?SYS>>)",
        "injection",
        reach=60,
    ),
)
