"""The model card says what the shipped model does: its validation figure is measured again here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tercet import LLM
from tercet.evaluation.documents import read_documents
from tercet.evaluation.perplexity import measure_perplexity

ROOT = Path(__file__).parents[2]
CARD = ROOT / "docs" / "models" / "llama-tercet-tiny.md"
TEXT = ROOT / "recipes" / "llama_tercet_tiny" / "tinystories_valid.jsonl"


def test_the_validation_figure() -> None:
    stated = re.search(
        r"^\| \*\*Llama-Tercet-Tiny\*\* \| \*\*([0-9.]+)\*\* \|$", CARD.read_text("utf-8"), re.M
    )
    assert stated is not None
    with LLM(threads=2) as llm:
        measured = measure_perplexity(llm, read_documents(TEXT))
    assert measured.nats_per_byte == pytest.approx(float(stated[1]), abs=1e-4)


def test_the_bar() -> None:
    """Better than the public model of its kind, whose figure on the same text stands in the card."""
    figures = [float(x) for x in re.findall(r"\| \**([0-9]\.[0-9]{4})\** \|$", CARD.read_text("utf-8"), re.M)]
    ours, theirs = figures[:2]
    assert ours < min(theirs, 0.68)
