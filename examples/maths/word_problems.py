"""Solve small word problems in two ways: the model calculates, or it only chooses what is calculated.

    python examples/maths/word_problems.py [--model MODEL] [--tries 15]

"alone": the answer is held to a number, several are drawn, and the commonest one counts (self-consistency).
"with a calculator": the answer is held to `number operator number` out of the problem's own numbers, Python
calculates it, and the commonest value counts. Small models choose better than they calculate.

Limits: two numbers and one step. The shipped model has never learned to calculate, and what this program
prints for it is 0 to 2 of 8 either way: that is the point of measuring.
"""

from __future__ import annotations

import argparse
import operator
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from batch_answers import answers

PROBLEMS = [
    ("Tom has 3 red balls. Mia gives him 2 more. How many balls has Tom now?", 5),
    ("There are 7 birds in a tree. 3 fly away. How many are left?", 4),
    ("Lily has 4 boxes with 2 cakes in each. How many cakes has she?", 8),
    ("A cat has 9 toys and loses 4 of them. How many toys are left?", 5),
    ("Ben reads 6 pages today and 3 tomorrow. How many pages does he read?", 9),
    ("Anna has 5 apples and eats 1. How many apples are left?", 4),
    ("3 dogs have 3 bones each. How many bones are there?", 9),
    ("Max sees 8 stars. 2 of them go out. How many stars shine?", 6),
]
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def calculate(expression: str) -> int:
    """The value of `3 + 2`: taken apart here, never given to `eval`."""
    left, symbol, right = expression.split()
    return OPERATIONS[symbol](int(left), int(right))


def main() -> None:
    """Print each problem with both answers, then how many were right."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="name or path (default: the shipped model)")
    parser.add_argument("--tries", type=int, default=15)
    arguments = parser.parse_args()
    requests = []
    for number, (problem, _) in enumerate(PROBLEMS):
        operand = "|".join(re.findall(r"\d", problem))
        forms = {"alone": ("The answer is ", r"\d{1,2}"), "tool": ("So ", rf"({operand}) [+*-] ({operand})")}
        for way, (begin, form) in forms.items():
            for seed in range(arguments.tries):
                request = {"id": f"{way} {number} {seed}", "prompt": f"{problem} {begin}", "regex": form}
                requests.append({**request, "seed": seed, "temperature": 1.0, "max_tokens": 12})
    with tempfile.TemporaryDirectory() as folder:
        texts = answers(requests, Path(folder), arguments.model)
    right = Counter()
    for number, (problem, solution) in enumerate(PROBLEMS):
        drawn = {
            way: [texts[f"{way} {number} {seed}"] for seed in range(arguments.tries)]
            for way in ("alone", "tool")
        }
        alone = Counter(map(int, drawn["alone"])).most_common(1)[0][0]
        tool = Counter(map(calculate, drawn["tool"])).most_common(1)[0][0]
        right["alone"] += alone == solution
        right["with a calculator"] += tool == solution
        print(f"{problem}\n  alone {alone}, with a calculator {tool}, right {solution}")
    for way, count in sorted(right.items()):
        print(f"{way}: {count} of {len(PROBLEMS)} right")


if __name__ == "__main__":
    main()
