"""Let the model write functions until one passes the tests, and run what it writes where it can do no harm.

    python examples/code/write_and_test.py [--model MODEL] [--tries 40]

A grammar holds each answer to one expression over the function's arguments, so every candidate is Python; the
tests choose. What a model wrote is a stranger's program: it runs in a process without network, files or time
(`tercet.evaluation.sandbox`, for Linux and macOS), and only what passes there is shown.

Limits: one expression, no statements; tests that are too weak let wrong functions pass. The shipped model
knows no code: for it this is a search through a small grammar, and the figure to look at is how many tries
the search needs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tercet.evaluation.sandbox import run_program

sys.path.append(str(Path(__file__).parents[1]))
from batch_answers import answers

TASKS = {
    "add(a, b)": ("the sum of a and b", "assert add(2, 3) == 5 and add(-1, 1) == 0"),
    "smaller(a, b)": ("the smaller one", "assert smaller(2, 3) == 2 and smaller(5, 1) == 1"),
    "left(a, b)": ("what is left of a without b", "assert left(5, 2) == 3 and left(1, 4) == -3"),
}
GRAMMAR = """
start: NAME " " OPERATOR " " NAME | FUNCTION "(" NAME ", " NAME ")"
OPERATOR: "+" | "-" | "*"
FUNCTION: "min" | "max"
NAME: "a" | "b"
"""


def main() -> None:
    """Print the first expression of each task that passes, and how many candidates came before it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="name or path (default: the shipped model)")
    parser.add_argument("--tries", type=int, default=40)
    arguments = parser.parse_args()
    requests = []
    for head, (meaning, _) in TASKS.items():
        prompt = f'def {head}:\n    """Return {meaning}."""\n    return '
        for seed in range(arguments.tries):
            request = {"id": f"{head} {seed}", "prompt": prompt, "grammar": GRAMMAR}
            requests.append({**request, "seed": seed, "temperature": 1.2, "top_p": 1.0, "max_tokens": 16})
    with tempfile.TemporaryDirectory() as folder:
        texts = answers(requests, Path(folder), arguments.model)
    solved = 0
    for head, (_, test) in TASKS.items():
        candidates = list(dict.fromkeys(texts[f"{head} {seed}"] for seed in range(arguments.tries)))
        for number, expression in enumerate(candidates, 1):
            if run_program(f"def {head}:\n    return {expression}\n{test}\n", seconds=5).completed:
                print(f"def {head}: return {expression}    # candidate {number} of {len(candidates)}")
                solved += 1
                break
        else:
            print(f"def {head}: none of {len(candidates)} candidates passed")
    print(f"{solved} of {len(TASKS)} functions pass their tests")


if __name__ == "__main__":
    main()
