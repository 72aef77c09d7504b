"""Small evaluation data in every format that the tasks read; the questions are our own."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]

ARC = [
    ("Which of these gives light to the Earth by day?", ["the Moon", "the Sun", "a river", "the soil"], 1),
    ("What does a plant take in through its roots?", ["water", "light", "sound", "glass"], 0),
    ("Which animal lays eggs?", ["a cow", "a cat", "a hen", "a horse"], 2),
    ("What melts when it is warm?", ["stone", "iron", "sand", "ice"], 3),
    ("Which one is a liquid at room temperature?", ["milk", "salt", "wood", "gold"], 0),
]
ARC_HUB: Rows = [
    {
        "id": str(index),
        "question": question,
        "choices": {"text": answers, "label": list("1234" if index == 1 else "ABCD")},
        "answerKey": ("1234" if index == 1 else "ABCD")[gold],
    }
    for index, (question, answers, gold) in enumerate(ARC)
]
ARC_QUERIES: Rows = [
    {"query": f"Question: {question}", "choices": a, "gold": gold} for question, a, gold in ARC
]
BOOLQ: Rows = [
    {"question": "is a whale a fish", "passage": "A whale breathes air.  It is a mammal.", "answer": False},
    {
        "question": "does snow melt",
        "passage": "Snow is frozen water. When it is warm it melts. ",
        "answer": True,
    },
    {"question": "can a stone swim", "passage": "Stones are heavy, and sink.", "answer": False},
]
WINOGRANDE_HUB: Rows = [
    {
        "sentence": "The cup did not fit the box because the _ was too large.",
        "option1": "cup",
        "option2": "box",
        "answer": "1",
    },
    {
        "sentence": "Anna thanked Mary since _ had helped her.",
        "option1": "Anna",
        "option2": "Mary",
        "answer": "2",
    },
    {
        "sentence": "The dog chased the cat until the _ was up a tree.",
        "option1": "dog",
        "option2": "cat",
        "answer": "2",
    },
]
WINOGRANDE: Rows = [
    {
        "context_options": [row["sentence"].partition("_")[0] + row[name] for name in ("option1", "option2")],
        "continuation": row["sentence"].partition("_")[2].strip(),
        "gold": int(row["answer"]) - 1,
    }
    for row in WINOGRANDE_HUB
]
HELLASWAG: Rows = [
    {
        "ind": 1,
        "activity_label": "Baking bread",
        "ctx_a": "A woman puts flour in a bowl.",
        "ctx_b": "she",
        "endings": ["adds water.", "flies away.", "sings  to a tree.", "eats the bowl."],
        "label": 0,
        "source_id": "ours",
    },
    {
        "ind": 2,
        "activity_label": "How to plant a tree",
        "ctx_b": "",
        "ctx_a": "How to plant a tree [title] Dig a hole. [step] It should be wide.",
        "endings": ["[substeps] Burn it.", "Put the tree in.", "Sleep.", "Paint the hole blue."],
        "label": "1",
        "source_id": "ours",
    },
]
PIQA: Rows = [
    {"goal": "keep soup warm", "sol1": "put a lid on the pot", "sol2": "put the pot in snow", "label": 0},
    {"goal": "dry a shirt", "sol1": "hang it in the rain", "sol2": "hang it in the sun", "label": 1},
    {"goal": "cut paper", "sol1": "use a spoon ", "sol2": "use scissors", "label": 1},
]
LAMBADA: Rows = [
    {"text": "The dog ran to the boy. The boy was glad, and he gave a bone to the dog"},
    {"text": '"Where is my hat?" said Tom. It was on his head all the time. So Tom laughed at his hat'},
    {"text": "One day a bird sat on a tree. It sang, and then it flew from the tree"},
]
GSM8K: Rows = [
    {
        "question": "Ann has 3 apples and buys 4 more. How many has she?",
        "answer": "3 + 4 = <<3+4=7>>7\n#### 7",
    },
    {"question": "A ton costs $1,200. What do two tons cost?", "answer": "2 * 1200 = 2400\n#### 2,400"},
]
MATH: Rows = [
    {"problem": "What is $1+1$?", "solution": "It is $\\boxed{2}$.", "answer": "2", "subject": "Algebra"},
    {
        "problem": "What is half of $\\frac{1}{2}$?",
        "solution": "It is $\\boxed{\\frac{1}{4}}$.",
        "answer": "\\frac{1}{4}",
        "subject": "Algebra",
    },
]
HUMANEVAL: Rows = [
    {
        "task_id": "HumanEval/0",
        "prompt": 'def double(x: int) -> int:\n    """ Return two times x. """\n',
        "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
        "base_input": [[2]],
        "plus_input": [[0], [-3]],
        "atol": 0,
    }
]
IFEVAL: Rows = [
    {
        "key": 1,
        "prompt": "Say hello without commas.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    },
    {
        "key": 2,
        "prompt": "Write at most 5 words, all in lower case.",
        "instruction_id_list": ["length_constraints:number_words", "change_case:english_lowercase"],
        "kwargs": [{"relation": "less than", "num_words": 6}, {}],
    },
]
MMLU_SUBJECTS = ("kitchen_science", "simple_sums")


def write_samples(folder: Path) -> Path:
    """Write one file for each task, packed in different ways; returns the folder."""
    folder.mkdir(exist_ok=True)
    write_rows(folder / "arc_challenge_test.jsonl.xz", ARC_HUB)
    write_rows(folder / "arc_easy_test.jsonl.gz", ARC_QUERIES)
    write_rows(folder / "boolq_validation.jsonl", BOOLQ)
    write_rows(folder / "winogrande_validation.jsonl", WINOGRANDE)
    write_rows(folder / "hellaswag_validation.jsonl", HELLASWAG)
    write_rows(folder / "piqa_validation.jsonl", PIQA)
    write_rows(folder / "lambada_test.jsonl", LAMBADA)
    write_rows(folder / "gsm8k_test.jsonl", GSM8K)
    write_rows(folder / "math500.jsonl", MATH)
    write_rows(folder / "HumanEvalPlus.jsonl.gz", HUMANEVAL)
    write_rows(folder / "ifeval_prompts.jsonl", IFEVAL)
    for number, subject in enumerate(MMLU_SUBJECTS):
        for split, count in (("dev", 5), ("test", 3)):
            table = folder / "mmlu" / split / f"{subject}_{split}.csv"
            table.parent.mkdir(parents=True, exist_ok=True)
            lines = ["question,choice0,choice1,choice2,choice3,answer"]
            lines += [
                f'"{n} and {n + number}, added:",{2 * n + number},{n},9,"1,0",{n % 2}' for n in range(count)
            ]
            table.write_text("\n".join(lines) + "\n")
    return folder


def write_rows(path: Path, rows: Rows) -> None:
    """Write JSON lines, packed as the name says."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    pack = {".xz": lzma.compress, ".gz": gzip.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(data))
