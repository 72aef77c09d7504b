"""The text of the run: stories and small talk whose licences leave the student's name free.

    python recipes/smollm2_ternary/mix.py --data DIR --output text.jsonl

DIR holds `stories.jsonl.xz` and `chat.jsonl.xz`: JSON lines {"src", "prompt", "answer"} gathered from these
public sources (field `src` -> source, licence):

    african_storybook_ccby    africanstorybook.org, CC BY (attribution stands in the source)
    tinystories_fragments     excerpts of TinyStories (Eldan & Li, 2023), CDLA-Sharing-1.0
    fairytaleqa               public-domain tales collected by FairytaleQA (Apache-2.0)
    chatterbot_en             chatterbot-corpus, BSD-3-Clause

Stories are written as plain text, small talk as question and answer for the chat template. What a Llama model
wrote (`snakes_*` of the same files) is left out. One row in twenty is held out by `tercet distill` itself, by
the hash of what it says.
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path

STORIES = {"african_storybook_ccby", "tinystories_fragments", "fairytaleqa"}
CHATS = {"chatterbot_en"}


def main() -> None:
    """Read the gathered texts and write those of the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.output.open("w", encoding="utf-8") as output:
        for name in ("stories", "chat"):
            with lzma.open(arguments.data / f"{name}.jsonl.xz", "rt", encoding="utf-8") as lines:
                for row in map(json.loads, lines):
                    if row["src"] in STORIES:
                        output.write(json.dumps({"text": row["answer"]}) + "\n")
                    elif row["src"] in CHATS:
                        output.write(json.dumps({"prompt": row["prompt"], "answer": row["answer"]}) + "\n")


if __name__ == "__main__":
    main()
