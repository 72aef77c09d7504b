"""The text of the chat-tuned model: dialogues, and enough of what the model knew that it does not forget it.

    python recipes/llama_tercet_tiny_chat/mix.py --data DIR --dialogues dialogues.jsonl --output chat.jsonl

DIR holds `stories.jsonl.xz` and `chat.jsonl.xz` (recipes/llama_tercet_tiny/mix.py has the licences).
Beside the dialogues: the TinyStories excerpts as plain text, and chatterbot's questions with short answers.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONGEST_ANSWER = 120


def main() -> None:
    """Write the mix, one document a line, in an order drawn once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dialogues", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    lines = arguments.dialogues.read_text(encoding="utf-8").splitlines()
    lines += [json.dumps(document, ensure_ascii=False) for document in kept(arguments.data)]
    random.Random(0).shuffle(lines)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def kept(folder: Path) -> Iterator[dict[str, Any]]:
    """What the model has seen before."""
    for name in ("stories.jsonl.xz", "chat.jsonl.xz"):
        with lzma.open(folder / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                if record["src"] == "tinystories_fragments":
                    yield {"text": record["answer"]}
                elif record["src"] == "chatterbot_en" and len(record["answer"]) <= LONGEST_ANSWER:
                    yield {"prompt": record["prompt"], "answer": record["answer"]}


if __name__ == "__main__":
    main()
