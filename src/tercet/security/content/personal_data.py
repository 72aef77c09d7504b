"""Numbers and addresses of people, found by the patterns of Presidio: e-mail, telephone, card, IBAN, IP, ...

Only recognizers that are patterns and check sums are used, one by one, without Presidio's language models:
nothing is downloaded, and names and places of people, which need such a model, are not found. Sentences are
looked at one by one, so a number that goes on behind a line break is not found either.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from tercet.environment import optional_import
from tercet.errors import ParameterError
from tercet.security.content.finding import Finding, Scan
from tercet.security.content.sentences import sentences

__all__ = ["PERSONAL_DATA", "PersonalData"]

_RECOGNIZERS: Mapping[str, tuple[str, float]] = {
    "credit_card": ("CreditCardRecognizer", 0.9),
    "crypto_address": ("CryptoRecognizer", 0.9),
    "email": ("EmailRecognizer", 0.9),
    "iban": ("IbanRecognizer", 0.9),
    "ip_address": ("IpRecognizer", 0.5),
    "phone": ("PhoneRecognizer", 0.4),
    "us_ssn": ("UsSsnRecognizer", 0.5),
}
"""Category: Presidio's recognizer, and the score from which on it is believed."""
PERSONAL_DATA = frozenset(_RECOGNIZERS)


class PersonalData:
    """A filter of personal data.

    Presidio is imported when it is first asked, which takes seconds; `open` does so before.

    Args:
        categories: what is looked for; any of `PERSONAL_DATA`.

    Raises:
        ParameterError: there is no such category.
        MissingExtraError: presidio-analyzer or tldextract is not installed.
    """

    def __init__(self, categories: frozenset[str] = PERSONAL_DATA) -> None:
        if not categories or categories - PERSONAL_DATA:
            raise ParameterError(
                f"personal data are {', '.join(sorted(PERSONAL_DATA))}, not {', '.join(sorted(categories))}"
            )
        for module in ("presidio_analyzer", "tldextract"):
            if importlib.util.find_spec(module) is None:
                optional_import(module, "pii")
        self.categories = categories
        self.is_open = False

    def open(self) -> None:
        """Import Presidio now."""
        for category in self.categories:
            _recognizer(category)
        self.is_open = True

    def scan(self, text: str, begin: int, final: bool) -> Scan:
        """See `ContentFilter.scan`."""
        findings, decided = [], begin
        for first, decided in sentences(text, begin, final):
            sentence = text[first:decided]
            for category in sorted(self.categories):
                recognizer, threshold = _recognizer(category), _RECOGNIZERS[category][1]
                results = recognizer.analyze(sentence, recognizer.supported_entities, None) or ()
                found = {(one.start, one.end) for one in results if one.score >= threshold}
                findings += [
                    Finding(first + start, first + end, category, "presidio") for start, end in sorted(found)
                ]
        return Scan(findings, decided)


@contextlib.contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """Have modules not found, unless they are there: Presidio loads all that it might use, torch among it.

    That is 1.8 instead of 9.6 seconds, and 116 MB instead of 438, for what no pattern needs.
    """
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]


@lru_cache(maxsize=len(_RECOGNIZERS))
def _recognizer(category: str) -> Any:
    """A recognizer, made once: importing Presidio takes seconds."""
    with _hidden("torch", "transformers", "stanza", "gliner"):
        optional_import("presidio_analyzer", "pii")
    extract = optional_import("tldextract", "pii").TLDExtract(cache_dir=None, suffix_list_urls=())
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    recognizers = importlib.import_module("presidio_analyzer.predefined_recognizers")
    kind: Any = getattr(recognizers, _RECOGNIZERS[category][0])
    if category != "email":
        return kind()

    email = kind()
    # Its own way asks a list of domains that it downloads; this is the list within tldextract.
    email.validate_result = lambda pattern_text: bool(extract(pattern_text).fqdn)
    return email
