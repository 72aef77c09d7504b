"""The mix of texts behind the shipped model: which documents, how often, in which form.

    python recipes/llama_tercet_tiny/mix.py --data DIR --output runs/tiny

DIR holds `stories.jsonl.xz` and `chat.jsonl.xz`: JSON lines {"src", "prompt", "answer"} gathered from these
public sources (field `src` -> source, licence):

    snakes_*                  github.com/erikhyrkas/snakes, MIT; its text was generated with Llama 3.1
    african_storybook_ccby    africanstorybook.org, CC BY
    tinystories_fragments     excerpts of TinyStories (Eldan & Li, 2023), CDLA-Sharing-1.0
    fairytaleqa               public-domain tales collected by FairytaleQA (Apache-2.0)
    chatterbot_en             chatterbot-corpus, BSD-3-Clause

Two token folders come out, one for each stage of training (`stage1`, `stage2`): the second drops the
long-winded sources and repeats the small-child stories and short answers. Both share one tokenizer and one
validation set.

Rules: the same answer is used once; one document in fifty is held out, chosen by the hash of its prompt
(TinyStories, whose prompts are all alike: one in twelve, by the hash of its text); training text that shares
twelve words in a row with a held-out TinyStories excerpt is dropped, so that the validation figures are not
memory. A third of the stories is written without the prompt, as plain text, so that the model can also simply
continue a text; short questions are strung together into conversations of up to three turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tercet.training.corpus import Document, document_texts, write_description, write_token_file
from tercet.training.tokenizer import save_tokenizer, train_tokenizer

VOCABULARY = 4096
CONTEXT = 512
HELD_OUT_ONE_IN = 50
TINYSTORIES_HELD_OUT_ONE_IN = 12
OVERLAP_WORDS = 12
# Copies of each source in stage 1 and stage 2; sources that are not named are not used.
COPIES = {
    "tinystories_fragments": (4, 8),
    "snakes_child": (1, 2),
    "african_storybook_ccby": (1, 2),
    "snakes_bedtime": (1, 1),
    "snakes_stories": (1, 1),
    "snakes_slice-of-life": (1, 1),
    "snakes_campfire": (1, 0),
    "fairytaleqa": (1, 0),
    "chatterbot_en": (2, 2),
    "snakes_jokes": (2, 2),
    "snakes_spelling": (1, 1),
    "snakes_trivia": (1, 1),
    "snakes_explanations": (1, 1),
    "snakes_eli5": (1, 2),
    "snakes_song-poems": (1, 1),
    "snakes_if": (1, 0),
}
STORIES = {
    "tinystories_fragments", "snakes_child", "african_storybook_ccby", "snakes_bedtime", "snakes_stories",
    "snakes_slice-of-life", "snakes_campfire", "fairytaleqa",
}  # fmt: skip
SHORT_TURNS = {"chatterbot_en", "snakes_jokes", "snakes_spelling", "snakes_trivia"}
MOJIBAKE = {"â€™": "’", "â€œ": "“", "â€\x9d": "”", "â€“": "–", "â€”": "—", "â€Š": " ", "Â": ""}


def main() -> None:
    """Write the token folders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with stories.jsonl.xz and chat.jsonl.xz"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for stage1/ and stage2/")
    arguments = parser.parse_args()

    records = list(unique(read(arguments.data)))
    held_out = [record for record in records if is_held_out(record)]
    known = word_runs(r["answer"] for r in held_out if r["src"] == "tinystories_fragments")
    training = [r for r in records if not is_held_out(r) and known.isdisjoint(word_runs([r["answer"]]))]
    training.sort(key=lambda record: digest(record["prompt"] + record["answer"]))  # mix the sources
    overlapping = len(records) - len(held_out) - len(training)
    print(f"{len(records)} records, {len(held_out)} held out, {overlapping} overlapping")

    stages = [list(documents(training, stage)) for stage in (0, 1)]
    tokenizer = train_tokenizer((text for d in stages[0] for text in document_texts(d)), VOCABULARY)
    valid = list(documents(held_out, None))
    for stage, content in enumerate(stages, 1):
        folder = arguments.output / f"stage{stage}"
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(tokenizer, folder, CONTEXT)
        parts = {
            "train": write_token_file(content, tokenizer, folder / "train.tokens"),
            "valid": write_token_file(valid, tokenizer, folder / "valid.tokens"),
        }
        write_description(folder, parts)
        print(folder, json.dumps({name: vars(part) for name, part in parts.items()}))
    excerpts = [r["answer"] for r in held_out if r["src"] == "tinystories_fragments"]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in excerpts)
    (arguments.output / "tinystories_valid.jsonl").write_text(lines, encoding="utf-8")
    shutil.copy(Path(__file__), arguments.output / "mix.py")


def read(folder: Path) -> Iterator[Document]:
    """The records of the sources in use, with broken quotation marks mended."""
    for name in ("stories.jsonl.xz", "chat.jsonl.xz"):
        with lzma.open(folder / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                if record["src"] in COPIES:
                    for broken, right in MOJIBAKE.items():
                        record["answer"] = record["answer"].replace(broken, right)
                    yield record


def unique(records: Iterable[Document]) -> Iterator[Document]:
    """Drop records whose answer, folded, came before (short answers count with their prompt)."""
    seen = set()
    for record in records:
        text = record["answer"] if len(record["answer"]) > 100 else record["prompt"] + record["answer"]
        key = " ".join(text.lower().split())
        if key not in seen and record["answer"].strip():
            seen.add(key)
            yield record


def digest(text: str) -> int:
    """A number in [0, 2^32) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def is_held_out(record: Document) -> bool:
    """Whether the record belongs to the validation set."""
    if record["src"] == "tinystories_fragments":
        return digest(record["answer"]) % TINYSTORIES_HELD_OUT_ONE_IN == 0
    return digest(record["prompt"]) % HELD_OUT_ONE_IN == 0


def word_runs(texts: Iterable[str]) -> set[int]:
    """Hashes of all runs of OVERLAP_WORDS words."""
    runs: set[int] = set()
    for text in texts:
        words = text.lower().split()
        runs.update(hash(tuple(words[i : i + OVERLAP_WORDS])) for i in range(len(words) - OVERLAP_WORDS + 1))
    return runs


def documents(records: list[Document], stage: int | None) -> Iterator[Document]:
    """The documents of a stage (None: each record once), in their training form."""
    turns: list[Document] = []
    for copy in range(max(max(counts) for counts in COPIES.values()) if stage is not None else 1):
        for record in records:
            if stage is not None and copy >= COPIES[record["src"]][stage]:
                continue
            number = digest(f"{copy} {record['prompt']} {record['answer']}")
            if record["src"] in STORIES and number % 3 == 0:
                yield {"text": record["answer"]}
            elif record["src"] in SHORT_TURNS:
                turns += [
                    {"role": "user", "content": record["prompt"]},
                    {"role": "assistant", "content": record["answer"]},
                ]
                if number % 3 == 0 or len(turns) >= 6:
                    yield {"messages": turns}
                    turns = []
            else:
                yield {"prompt": record["prompt"], "answer": record["answer"]}
    if turns:
        yield {"messages": turns}


if __name__ == "__main__":
    main()
