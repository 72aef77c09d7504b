"""A small assistant: it looks things up in a folder of notes, answers, and remembers the conversation.

    python examples/assistant/assistant.py [NOTES] [--model MODEL]
    echo "When does the library open?" | python examples/assistant/assistant.py

Before each answer the paragraph that shares most of the question's rare words is put before it (retrieval),
with its file's name, so that a reader can check. When the conversation grows beyond the context, its oldest
turns are forgotten, never the question.

Limits: the look-up compares words, not meanings (`LLM.embed` with an embedding model would). What the model
makes of a paragraph is its own: the shipped one cannot quote, so look at the paragraph that is printed.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import Counter
from pathlib import Path

from tercet import LLM

NOTES = Path(__file__).parent / "notes"
ANSWER_TOKENS = 60


def words(text: str) -> set[str]:
    """The words of a text in lower case."""
    return set(re.findall(r"\w+", text.lower()))


def look_up(question: str, notes: list[tuple[str, str]]) -> tuple[str, str] | None:
    """The (name, paragraph) whose words, each weighted by its rarity, fit best; None where none is shared."""
    frequency = Counter(word for _, paragraph in notes for word in words(paragraph))
    shared = [words(question) & words(paragraph) for _, paragraph in notes]
    weights = [sum(math.log(1 + len(notes) / frequency[word]) for word in common) for common in shared]
    best = max(range(len(notes)), key=weights.__getitem__, default=None)
    return notes[best] if best is not None and weights[best] > 0 else None


def fitted(messages: list[dict[str, str]], llm: LLM) -> list[dict[str, str]]:
    """The newest turns that fit into the context beside an answer."""
    while len(messages) > 1 and len(llm.chat_tokens(messages)) + ANSWER_TOKENS > llm.max_context:
        messages = messages[2:]  # a question and its answer
    return messages


def main() -> None:
    """Read questions from standard input, a line each, until it ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notes", nargs="?", type=Path, default=NOTES)
    parser.add_argument("--model", help="name or path (default: the shipped model)")
    arguments = parser.parse_args()
    notes = [
        (file.name, paragraph.strip())
        for file in sorted(arguments.notes.glob("*.txt"))
        for paragraph in file.read_text(encoding="utf-8").split("\n\n")
    ]
    history: list[dict[str, str]] = []
    with LLM(arguments.model) as llm:
        for line in sys.stdin:
            if not (question := line.strip()):
                continue
            found = look_up(question, notes)
            if found:
                print(f"[{found[0]}: {found[1]}]")
            asked = f"{found[1]}\n\n{question}" if found else question
            messages = fitted([*history, {"role": "user", "content": asked}], llm)
            stream = llm.stream_chat(messages, max_tokens=ANSWER_TOKENS, temperature=0)
            answer = ""
            for piece in stream:
                print(piece, end="", flush=True)
                answer += piece
            print(flush=True)
            history = [*messages[:-1], {"role": "user", "content": question}]
            history.append({"role": "assistant", "content": answer})


if __name__ == "__main__":
    main()
