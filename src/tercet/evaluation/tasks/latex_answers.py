"""When are two answers to a problem of MATH the same? Two published conventions.

`hendrycks_equal` is that of the data set's authors (Hendrycks et al. 2021, github.com/hendrycks/math, MIT
licence): both are brought into one spelling, then compared as text.

`minerva_answer` and `minerva_equal` are those of Lewkowycz et al. 2022 (Minerva, appendix D), whose list of
units and spellings this is. There, and in lm-eval, formulas that differ as text are compared by SymPy; here
only as numbers, so a formula that is written another way counts as wrong.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["boxed_answer", "hendrycks_equal", "minerva_answer", "minerva_equal", "normalized_minerva"]

_REPLACED = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), (r"\ ", ""), (" ", ""), ("mbox", "text"),
    (",\\text{and}", ","), ("\\text{and}", ","), ("\\text{m}", "\\text{}"),
)  # fmt: skip
_REMOVED = (
    "square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", "\\ldots", "sue",
    "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals",
    "edges", "students", "childrentickets", "multiples", "\\text{s}", "\\text{.}", "\\text{\ns}",
    "\\text{}^2", "\\text{}^3", "\\text{\n}", "\\text{}", r"\mathrm{th}", r"^\circ", r"^{\circ}", r"\;",
    r",\!", "{,}", '"', "\\dots",
)  # fmt: skip
_SHORTENED = (
    (r"(.*?)(\$)(.*?)(\$)(.*)", r"$\3$"),
    (r"(\\text\{)(.*?)(\})", r"\2"),
    (r"(\\textbf\{)(.*?)(\})", r"\2"),
    (r"(\\overline\{)(.*?)(\})", r"\2"),
    (r"(\\boxed\{)(.*)(\})", r"\2"),
    (r"(frac)([^{])(.)", r"frac{\2}{\3}"),  # \fracab
    (r"(sqrt)(\[[^\]]*\])(\w)", r"\1\2{\3}"),  # \sqrt[3]a
    (r"(sqrt)(?!\[)([^{])", r"sqrt{\2}"),  # \sqrta
)


def boxed_answer(solution: str) -> str | None:
    r"""Return what stands in the last \boxed or \fbox of a solution; None where there is none."""
    if "\\boxed " in solution:
        return solution.split("\\boxed ")[-1].split("$")[0]
    start = max(solution.rfind("\\boxed"), -1)
    if start < 0:
        start = solution.rfind("\\fbox")
    if start < 0:
        return None
    depth = 0
    for position in range(start, len(solution)):
        depth += (solution[position] == "{") - (solution[position] == "}")
        if solution[position] == "}" and depth == 0:
            return solution[solution.index("{", start) + 1 : position]
    return None


def minerva_answer(text: str) -> str:
    """Return what a solution calls its final answer, normalized."""
    found = re.search(
        r"Final Answer: The final answer is(.*?). I hope it is correct.", text + "I hope it is correct."
    )
    return normalized_minerva(found[1].strip() if found else "[invalidanswer]")


def normalized_minerva(answer: str) -> str:
    """Return an answer without units and with one spelling of each thing."""
    answer = answer.split("=")[-1]
    words = [word for word in _REMOVED if word.isalpha()]
    for word in words:
        answer = re.sub(rf"(?<!\\)\b{word}\b", "", answer)
    for before, after in _REPLACED:
        answer = answer.replace(before, after)
    for word in _REMOVED:
        if word in words:  # glued to a number, but not inside of a command such as \left
            parts = re.split(r"(\\[a-zA-Z]+)", answer)
            parts[::2] = [part.replace(word, "") for part in parts[::2]]
            answer = "".join(parts)
        else:
            answer = answer.replace(word, "")
    for pattern, replacement in _SHORTENED:
        answer = re.sub(pattern, replacement, answer)
    answer = answer.replace("$", "")
    return answer.replace(",", "") if re.fullmatch(r"-?\d{1,3}(,\d{3})+", answer) else answer


def minerva_equal(one: str, other: str) -> bool:
    """Say whether two normalized answers are the same text, or the same number."""
    if one and one == other:
        return True
    values = _number(one), _number(other)
    return None not in values and values[0] == values[1]


def _number(text: str) -> Fraction | None:
    fraction = re.fullmatch(r"(-?)\\d?frac\{(-?\d+)\}\{(\d+)\}", text)
    if fraction:
        text = f"{fraction[1]}{fraction[2]}/{fraction[3]}".replace("--", "")
    if not re.fullmatch(r"-?(\d+(\.\d*)?|\.\d+|\d+/\d+)", text):
        return None
    try:
        return Fraction(text.rstrip(".") if text.endswith(".") else text)
    except ZeroDivisionError:
        return None


def hendrycks_equal(one: str, other: str) -> bool:
    """Say whether two answers are the same in the spelling of the data set's authors."""
    try:
        return _spelled(one) == _spelled(other)
    except (ValueError, IndexError):  # not LaTeX that the rules can read
        return one == other


def _spelled(text: str) -> str:
    for before, after in (
        ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""),
        ("\\right", ""), ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""),
    ):  # fmt: skip
        text = text.replace(before, after)
    number, *unit = text.split("\\text{ ")  # what follows is a unit
    if len(unit) > 1:
        raise ValueError("two units")
    text = number.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:  # x = 3
        text = sides[1]
    text = _fractions(_roots(text).replace(" ", ""))
    if text == "0.5":
        text = "\\frac{1}{2}"
    parts = text.split("/")
    if len(parts) == 2 and text == f"{int(parts[0])}/{int(parts[1])}":
        text = f"\\frac{{{int(parts[0])}}}{{{int(parts[1])}}}"
    return text


def _roots(text: str) -> str:
    """Put braces around what a root without them takes."""
    first, *rest = text.split("\\sqrt")
    return first + "".join(
        "\\sqrt" + (part if part[0] == "{" else f"{{{part[0]}}}{part[1:]}") for part in rest
    )


def _fractions(text: str) -> str:
    """Put braces around what a fraction without them takes."""
    first, *rest = text.split("\\frac")
    found = first
    for part in rest:
        if part[0] == "{":
            found += "\\frac" + part
        elif len(part) < 2:
            return text
        elif part[1] == "{":
            found += f"\\frac{{{part[0]}}}{part[1:]}"
        else:
            found += f"\\frac{{{part[0]}}}{{{part[1]}}}{part[2:]}"
    return found
