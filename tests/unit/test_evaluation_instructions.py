"""IFEval: each instruction with a reply that follows it and one that does not; languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import evaluation_samples as samples
from tercet.errors import FormatError
from tercet.evaluation.tasks import TASKS
from tercet.evaluation.tasks.instructions import INSTRUCTIONS, follows, follows_loosely
from tercet.evaluation.tasks.language_guess import guess_language
from tercet.evaluation.tasks.task import Generation, Question

FENCE = "`" * 3
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["sun", "moon"]}, "Moon and sun.", "The moon."),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "at least"}, "a b a", "a b"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "The cattle.", "The Cat."),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"}, "#one", "#one #two",
    ),
    ("language:response_language", {"language": "de"}, "Das ist nicht der Hund.", "It is the dog."),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"}, "Is it 3.5? Mr. Fox says so.", "It is 3.5 of Mr. Fox",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one ***two", "one\n***\n***\ntwo"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "one two", "a b c"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"}, "Yes.\n\n'So, it is.", "So\n\nnow",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP. S. More.", "Bye. PS more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a"),
    ("detectable_format:constrained_response", {}, " My answer is no. ", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and * *"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Day", "num_sections": 2}, "Day 1\nx\nDay 2\ny", "Day 1\nx",
    ),
    ("detectable_format:json_format", {}, f'{FENCE}json\n{{"a": 1}}\n{FENCE}', "a: 1"),
    ("detectable_format:title", {}, "<<My day>>\nIt was.", "<< >>"),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. It.", "It."),
    ("startend:end_checker", {"end_phrase": "The end."}, 'So it was. "THE END."', "The end. Yes"),
    ("startend:quotation", {}, '"So."', 'He said "So."'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"}, "NO WAY", "NO way",
    ),
    ("change_case:english_capital", {}, "THIS IS IT", "This IS IT"),
    ("change_case:english_lowercase", {}, "this is it", "das ist es und die"),
    ("punctuation:no_comma", {}, "one two", "one, two"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_each_instruction(name: str, arguments: dict[str, Any], good: str, bad: str) -> None:
    assert follows(name, good, arguments)
    assert not follows(name, bad, arguments)
    assert not follows(name, "  ", arguments)


def test_all_are_tried() -> None:
    assert {case[0] for case in CASES} == set(INSTRUCTIONS)


def test_loosely_an_opening_line_or_asterisks_do_not_count() -> None:
    reply = 'Sure, here it is:\n*"So."*'
    assert not follows("startend:quotation", reply, {})
    assert follows_loosely("startend:quotation", reply, {})


def test_a_document_counts_as_a_whole_and_by_instruction(tmp_path: Path) -> None:
    samples.write_rows(tmp_path / "ifeval.jsonl", samples.IFEVAL)
    _, second = TASKS["ifeval"].read(Question(tmp_path, 0))
    assert isinstance(second, Generation)
    assert second.grade("Hello there") == {
        "prompt_level_strict_acc": 0.0,
        "inst_level_strict_acc": [1.0, 0.0],
        "prompt_level_loose_acc": 0.0,
        "inst_level_loose_acc": [1.0, 0.0],
    }


def test_wrong_instructions(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no instruction 'x:y'; there are keywords:existence"):
        follows("x:y", "z", {})
    with pytest.raises(FormatError, match="'keywords:existence' has no argument 'keywords'"):
        follows("keywords:existence", "z", {})
    samples.write_rows(tmp_path / "ifeval.jsonl", [{**samples.IFEVAL[0], "kwargs": []}])
    with pytest.raises(FormatError, match="line 1: kwargs is not a list of one object"):
        list(TASKS["ifeval"].read(Question(tmp_path, 0)))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Le chien est dans la maison.", "fr"),
        ("O cão não está em casa.", "pt"),
        ("Con chó không ở trong nhà.", "vi"),
        ("Кучето не е в къщата и това е всичко.", "bg"),
        ("کتا گھر میں نہیں ہے اور وہ بڑا ہے", "ur"),
        ("कुत्रा घरात नाही आणि तो मोठा आहे", "mr"),
        ("犬は家にいません", "ja"),
        ("狗不在家里", "zh"),
        ("ಮನೆ", "kn"),
        ("12 + 3", None),
    ],
)
def test_languages(text: str, language: str | None) -> None:
    assert guess_language(text) == language
