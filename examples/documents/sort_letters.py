"""Sort a folder of letters: what each is about and how urgent it is, as a table.

    python examples/documents/sort_letters.py [FOLDER] [--output letters.csv] [--model MODEL]

Each letter becomes one request whose answer is held to a JSON schema, so the table has no holes. A letter is
cut to what the context holds. The requests run as a batch: `tercet batch` itself takes a file of them and
goes on after a crash (docs/guides/batch.md).

Limits: a form is no judgement. The schema makes every answer valid; whether it is right depends on the model,
and the shipped one answers by habit, not by reading. Compare with letters that a person has sorted first.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from batch_answers import answers

LETTERS = Path(__file__).parent / "letters"
LONGEST_CHARACTERS = 800
SCHEMA = {
    "type": "object",
    "properties": {
        "subject": {"enum": ["order", "complaint", "question", "thanks"]},
        "urgent": {"type": "boolean"},
    },
    "required": ["subject", "urgent"],
    "additionalProperties": False,
}


def main() -> None:
    """Write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=LETTERS)
    parser.add_argument("--output", type=Path, default=Path("letters.csv"))
    parser.add_argument("--model", help="name or path (default: the shipped model)")
    arguments = parser.parse_args()
    letters = sorted(arguments.folder.glob("*.txt"))
    if not letters:
        raise SystemExit(f"{arguments.folder} has no .txt files; give a folder that has")
    requests = [
        {
            "id": letter.name,
            "prompt": f"{letter.read_text(encoding='utf-8')[:LONGEST_CHARACTERS]}\n\nWhat is this letter? ",
            "json_schema": SCHEMA,
            "temperature": 0,
            "max_tokens": 80,
        }
        for letter in letters
    ]
    with tempfile.TemporaryDirectory() as folder:
        texts = answers(requests, Path(folder), arguments.model)
    with arguments.output.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["letter", "subject", "urgent"])
        table.writeheader()
        for letter in letters:
            table.writerow({"letter": letter.name, **json.loads(texts[letter.name])})
    print(arguments.output.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
