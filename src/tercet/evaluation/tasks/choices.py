"""Tasks that choose: ARC, BoolQ, WinoGrande, HellaSwag, PIQA, MMLU; and LAMBADA, which asks for a last word.

Prompts are those of lm-eval 0.4 (arc, super_glue/boolq, winogrande, hellaswag, piqa, lambada_openai,
mmlu/default). Each reader takes the fields of the data set on the Hugging Face Hub, and of other copies that
are about.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tercet.errors import FormatError, ModelNotFoundError
from tercet.evaluation.scoring import TokenScores
from tercet.evaluation.tasks.rows import Row, find_data, read_rows, read_tables
from tercet.evaluation.tasks.task import (
    Document,
    Figures,
    Likelihoods,
    Question,
    Task,
    choice,
    contexts_choice,
)

__all__ = ["CHOICE_TASKS", "mmlu_rows", "winogrande_rows"]

LETTERS = "ABCD"
MMLU_COLUMNS = ("question", "choice0", "choice1", "choice2", "choice3", "answer")


def read_arc(question: Question, stem: str) -> Iterator[Document]:
    """Yield the documents of ARC (Clark et al. 2018)."""
    for row in read_rows(find_data(question.folder, [stem])):
        choices = row.get("choices")
        if isinstance(choices, dict):
            options = Row(f"{row.where}, choices", choices)
            answers, labels = options.texts("text"), options.texts("label")
            if row.text("answerKey") not in labels:
                raise FormatError(f"{row.where}: answerKey is none of the labels {', '.join(labels)}")
            gold = labels.index(row.text("answerKey"))
        else:
            answers = row.texts("choices")
            gold = row.index(len(answers), "gold", "label")
        text = row.text("question", "query").removeprefix("Question: ")
        yield choice(f"Question: {text}\nAnswer:", answers, gold)


def read_boolq(question: Question) -> Iterator[Document]:
    """Yield the documents of BoolQ (Clark et al. 2019)."""
    for row in read_rows(find_data(question.folder, ["boolq"])):
        context = f"{row.text('passage')}\nQuestion: {row.text('question')}?\nAnswer:"
        yield choice(context, ("no", "yes"), row.index(2, "label", "answer"), normalized=False)


def winogrande_rows(folder: Path) -> Iterator[dict[str, str]]:
    """Yield WinoGrande (Sakaguchi et al. 2020) as sentences with a gap, two options, and "1" or "2"."""
    for row in read_rows(find_data(folder, ["winogrande"])):
        if row.has("sentence"):
            if "_" not in row.text("sentence"):
                raise FormatError(f"{row.where}: the sentence has no _ to fill")
            yield {
                "sentence": row.text("sentence"),
                "option1": row.text("option1"),
                "option2": row.text("option2"),
                "answer": str(1 + Row(row.where, {"answer": row.integer("answer") - 1}).index(2, "answer")),
            }
            continue
        contexts = row.texts("context_options")  # both beginnings, filled
        if len(contexts) != 2:
            raise FormatError(f"{row.where} has {len(contexts)} context_options, not 2")
        before = os.path.commonprefix(contexts)  # noqa: RUF071, by characters is what is meant
        yield {
            "sentence": f"{before}_ {row.text('continuation').strip()}",
            "option1": contexts[0][len(before) :],
            "option2": contexts[1][len(before) :],
            "answer": str(1 + row.index(2, "gold")),
        }


def read_winogrande(question: Question) -> Iterator[Document]:
    """Yield the documents of WinoGrande: one end, behind two beginnings."""
    for row in winogrande_rows(question.folder):
        before, _, behind = row["sentence"].partition("_")
        contexts = [before + row["option1"], before + row["option2"]]
        yield contexts_choice(contexts, behind.strip(), int(row["answer"]) - 1)


def read_hellaswag(question: Question) -> Iterator[Document]:
    """Yield the documents of HellaSwag (Zellers et al. 2019)."""
    for row in read_rows(find_data(question.folder, ["hellaswag"])):
        context = f"{row.text('ctx_a')} {row.text('ctx_b').capitalize()}"
        answers = [_without_brackets(ending) for ending in row.texts("endings")]
        query = _without_brackets(f"{row.text('activity_label')}: {context}")
        yield choice(query, answers, row.index(len(answers), "label"))


def _without_brackets(text: str) -> str:
    """Take out what WikiHow's pages left in the data: [title], [step] and the like."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def read_piqa(question: Question) -> Iterator[Document]:
    """Yield the documents of PIQA (Bisk et al. 2020)."""
    for row in read_rows(find_data(question.folder, ["piqa"])):
        answers = row.text("sol1"), row.text("sol2")
        yield choice(f"Question: {row.text('goal')}\nAnswer:", answers, row.index(2, "label"))


def read_lambada(question: Question) -> Iterator[Document]:
    """Yield the documents of LAMBADA (Paperno et al. 2016) as OpenAI cut it: the last word of a passage."""

    def grade(scores: Sequence[TokenScores]) -> Figures:
        return {"perplexity": -scores[0].total, "acc": float(scores[0].is_greedy.all())}

    for row in read_rows(find_data(question.folder, ["lambada"])):
        context, _, word = row.text("text").rpartition(" ")
        yield Likelihoods(((context, f" {word}"),), grade)


def mmlu_rows(folder: Path) -> dict[str, dict[str, list[Row]]]:
    """Return the rows of MMLU (Hendrycks et al. 2021): subject -> "test" and "dev", the examples."""
    tables = read_tables(_mmlu_path(folder), MMLU_COLUMNS)
    subjects: dict[str, dict[str, list[Row]]] = {}
    for name, rows in tables.items():
        subject, _, split = os.path.basename(name).removesuffix(".csv").rpartition("_")  # noqa: PTH119
        if split in ("test", "dev"):
            numbered = [Row(row.where, {**row.values, "answer": _mmlu_gold(row)}) for row in rows]
            subjects.setdefault(subject.replace("_", " "), {})[split] = numbered
    return {subject: splits for subject, splits in sorted(subjects.items()) if "test" in splits}


def read_mmlu(question: Question) -> Iterator[Document]:
    """Yield the documents of MMLU by subjects, behind examples of the subject."""
    for subject, splits in mmlu_rows(question.folder).items():
        shown = splits.get("dev", [])[: question.shots]
        if len(shown) < question.shots:
            raise FormatError(f"MMLU has {len(shown)} examples of {subject}, {question.shots} are asked for")
        head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        head += "".join(f"{_mmlu_text(row)} {LETTERS[row.integer('answer')]}\n\n" for row in shown)
        for row in splits["test"]:
            gold = row.integer("answer")
            yield choice(head + _mmlu_text(row), LETTERS, gold, normalized=False, group=subject)


def _mmlu_path(folder: Path) -> Path:
    for name in ("mmlu", "mmlu.tar.xz", "mmlu.tar.gz", "mmlu.tar"):
        if (folder / name).exists():
            return folder / name
    raise ModelNotFoundError(
        f"{folder} has neither a folder mmlu nor an archive mmlu.tar.xz, .tar.gz or .tar"
    )


def _mmlu_text(row: Row) -> str:
    lines = [f"{letter}. {row.values.get(f'choice{index}') or ''}" for index, letter in enumerate(LETTERS)]
    return "\n".join([row.text("question").strip(), *lines, "Answer:"])


def _mmlu_gold(row: Row) -> int:
    answer = row.text("answer").strip()
    return LETTERS.index(answer) if answer in tuple(LETTERS) else row.index(4, "answer")


CHOICE_TASKS = (
    Task("arc_challenge", "ARC-Challenge", lambda q: read_arc(q, "arc_challenge"), "acc_norm"),
    Task("arc_easy", "ARC-Easy", lambda q: read_arc(q, "arc_easy"), "acc_norm"),
    Task("boolq", "BoolQ", read_boolq, "acc"),
    Task("hellaswag", "HellaSwag", read_hellaswag, "acc_norm"),
    Task("piqa", "PIQA", read_piqa, "acc_norm"),
    Task("winogrande", "WinoGrande", read_winogrande, "acc"),
    Task("lambada_openai", "LAMBADA", read_lambada, "acc", exponentiated=frozenset({"perplexity"})),
    Task("mmlu", "MMLU", read_mmlu, "acc", shots=5, max_shots=5),
)
