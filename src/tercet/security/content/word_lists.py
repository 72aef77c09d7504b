"""Words and phrases, found whole, in one pass over the text however long the list is (Aho-Corasick).

    WordList({"hate": ["hate", "hateful"]})
    WordList.read("words/de.txt", category="gewalt")        one word or phrase a line, # begins a comment

Both the list and the text are folded first (`folding`). Scripts that write no spaces need
`whole_words=False`, which finds a word inside others, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tercet.environment import optional_import
from tercet.errors import ParameterError
from tercet.security.content.finding import CONTEXT, Finding, Scan
from tercet.security.content.folding import fold

__all__ = ["DEFAULT_WORDS", "WordList"]

MOST_WORDS = 200_000
LONGEST_WORD = 200

DEFAULT_WORDS: dict[str, tuple[str, ...]] = {
    "violence": ("violence", "violent", "violently"),
    "hate": ("hate", "hateful", "hatred"),
    "illegal": ("illegal", "illegally"),
    "harm": ("harm", "harms", "harmed", "harmful", "harmfully", "harming", "self-harm"),
}
"""English. What the profile `strict` blocks when nobody has written a list of their own."""


class WordList:
    """A filter of words by category.

    Args:
        words: categories, and the words and phrases of each.
        language: of the words; names the rule in logs, and changes nothing else.
        whole_words: whether a word must stand alone, between characters that are no letters or digits.

    Raises:
        ParameterError: a word is empty or too long, or there are too many or none.
        MissingExtraError: pyahocorasick is not installed.
    """

    def __init__(
        self, words: Mapping[str, Iterable[str]], *, language: str = "en", whole_words: bool = True
    ) -> None:
        automaton = optional_import("ahocorasick", "security").Automaton()
        beginnings: set[str] = set()
        self._longest = 0
        count = 0
        for category, listed in words.items():
            for word in listed:
                folded = fold(word)[0].strip()
                if not folded or len(folded) > LONGEST_WORD:
                    raise ParameterError(
                        f"a word of a filter has 1 to {LONGEST_WORD} characters, not {word[:40]!r}"
                    )
                known = automaton.get(folded, (len(folded), ()))[1]
                automaton.add_word(folded, (len(folded), (*known, category)))
                beginnings.update(folded[:length] for length in range(1, len(folded) + 1))
                self._longest = max(self._longest, len(folded))
                count += 1
        if not 0 < count <= MOST_WORDS:
            raise ParameterError(f"a list of words has 1 to {MOST_WORDS} of them, not {count}")
        automaton.make_automaton()
        self.categories = frozenset(words)
        self._automaton = automaton
        self._beginnings = beginnings
        self._rule = f"words:{language}"
        self._whole = whole_words

    @classmethod
    def read(
        cls, path: str | Path, category: str, *, language: str = "en", whole_words: bool = True
    ) -> WordList:
        """Read a list of one category: UTF-8, a word or phrase a line.

        Raises:
            ParameterError: there is no such file, or it is not such a list.
        """
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"the list of words {path} cannot be read: {error}") from error
        words = [line.partition("#")[0].strip() for line in lines]
        listed = [word for word in words if word]
        return cls({category: listed}, language=language, whole_words=whole_words)

    def scan(self, text: str, begin: int, final: bool) -> Scan:
        """See `ContentFilter.scan`."""
        offset = max(begin - CONTEXT, 0)
        folded, origins = fold(text[offset:])
        decided = len(text) if final else offset + self._undecided(folded, origins, len(text) - offset)
        findings = []
        for last, (length, categories) in self._automaton.iter(folded):
            first = last - length + 1
            start = offset + origins[first]
            if begin <= start < decided and self._stands_alone(folded, first, last):
                end = offset + origins[last] + 1
                findings += [Finding(start, end, category, self._rule) for category in categories]
        return Scan(findings, max(decided, begin))

    def _stands_alone(self, folded: str, first: int, last: int) -> bool:
        if not self._whole:
            return True
        before = folded[first - 1] if first else " "
        behind = folded[last + 1] if last + 1 < len(folded) else " "
        return not (before.isalnum() or behind.isalnum())

    def _undecided(self, folded: str, origins: list[int], length: int) -> int:
        """Where the longest end of the text begins that may become a word, or has to be seen to stand alone.

        What follows the last visible character is undecided, too: the next word may stand behind it.
        """
        if not folded:
            return 0
        for size in range(min(self._longest, len(folded)), 0, -1):
            if folded[-size:] in self._beginnings:
                first = len(folded) - size
                if not self._whole or first == 0 or not folded[first - 1].isalnum():
                    return origins[first]
        return length if origins[-1] == length - 1 else origins[-1]
