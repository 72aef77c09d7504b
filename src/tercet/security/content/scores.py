"""A classifier as a filter: whatever gives a text numbers, sentence by sentence.

    def anger(text: str) -> Mapping[str, float]:
        return {"anger": 1.0 if text.isupper() else 0.0}

    ScoreFilter(anger, {"anger": 0.8})

No classifier comes with the package. One that does is a few lines around what runs it (scikit-learn, ONNX
Runtime, a model of another process): a text in, a number for each category out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tercet.errors import ParameterError
from tercet.security.content.finding import Finding, Scan
from tercet.security.content.sentences import sentences

__all__ = ["ScoreFilter", "Scorer"]


class Scorer(Protocol):
    """A classifier. The same text gets the same numbers; it is called from several threads."""

    def __call__(self, text: str) -> Mapping[str, float]:
        """Return a number for each category; a category that is not there has 0."""


class ScoreFilter:
    """A filter that finds whole sentences.

    Args:
        scorer: the classifier.
        thresholds: categories, and the number from which on a sentence is of it.
        name: names the rule in logs.

    Raises:
        ParameterError: there is no threshold.
    """

    def __init__(self, scorer: Scorer, thresholds: Mapping[str, float], name: str = "classifier") -> None:
        if not thresholds:
            raise ParameterError("a classifier needs at least one category and its threshold")
        self.categories = frozenset(thresholds)
        self._scorer = scorer
        self._thresholds = dict(thresholds)
        self._rule = name

    def scan(self, text: str, begin: int, final: bool) -> Scan:
        """See `ContentFilter.scan`."""
        findings, decided = [], begin
        for first, decided in sentences(text, begin, final):
            sentence = text[first:decided]
            if not (stripped := sentence.strip()):
                continue
            scores = self._scorer(stripped)
            start = first + len(sentence) - len(sentence.lstrip())
            findings += [
                Finding(start, start + len(stripped), category, self._rule)
                for category, threshold in self._thresholds.items()
                if scores.get(category, 0.0) >= threshold
            ]
        return Scan(findings, decided)
