"""The reference page of `from tercet import ...`: signatures, fields and docstrings, read from the source.

From its text rather than from live objects, because only the text has default values and the order of
things as their author wrote them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from prose import paragraph


def python_names() -> str:
    """What `from tercet import ...` gives, from the signatures and docstrings in the source."""
    import tercet

    sections = ["# Python\n", paragraph(tercet.__doc__)]
    for name in tercet.__all__:
        value = getattr(tercet, name)
        if isinstance(value, type) and not issubclass(value, Exception):
            sections.append(describe_class(value))
    sections.append("Exceptions have [a page of their own](errors.md).\n")
    return "\n".join(sections)


def describe_class(value: type, with_methods: bool = True) -> str:
    """The section of one class: constructor or fields, then its public methods and properties."""
    module = sys.modules[value.__module__]
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    node = next(part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == value.__name__)
    lines = [f"## {node.name}\n", paragraph(ast.get_docstring(node))]
    if rows := field_rows(node):
        lines += ["| field | type | default | |", "| --- | --- | --- | --- |", *rows, ""]
    for method in methods_of(node) if with_methods else []:
        lines.append(f"### {node.name}.{method.name}\n" if method.name != "__init__" else "")
        lines.append(f"```text\n{signature(node.name, method)}\n```\n")
        if method.name != "__init__":
            lines.append(paragraph(ast.get_docstring(method)))
    return "\n".join(lines)


def field_descriptions(value: type) -> dict[str, str]:
    """What the strings below the fields of a dataclass say, by the names of the fields."""
    module = sys.modules[value.__module__]
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    node = next(part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == value.__name__)
    found = {}
    for part, following in zip(node.body, node.body[1:], strict=False):
        told = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(part, ast.AnnAssign) and told:
            found[ast.unparse(part.target)] = " ".join(str(following.value.value).split())
    return found


def field_rows(node: ast.ClassDef) -> list[str]:
    """The public fields of a dataclass as table rows; a string below a field is its description."""
    rows = []
    for part, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(part, ast.AnnAssign) or ast.unparse(part.target).startswith("_"):
            continue
        default = ast.unparse(part.value) if part.value else ""
        default = re.sub(r"^(?:dataclasses\.)?field\(default_factory=(\w+)\)$", r"\1()", default)
        if "init=False" in default:
            continue  # not an argument
        told = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        description = " ".join(str(following.value.value).split()) if told else ""
        code = [
            f"`{cell}`" if cell else ""
            for cell in (ast.unparse(part.target), ast.unparse(part.annotation), default)
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in [*code, description]) + " |")
    return rows


Method = ast.FunctionDef | ast.AsyncFunctionDef


def methods_of(node: ast.ClassDef) -> Iterator[Method]:
    """The constructor and the public methods; of an overloaded method only the implementation."""
    for part in node.body:
        if isinstance(part, Method) and (part.name == "__init__" or not part.name.startswith("_")):
            decorators = [ast.unparse(decorator) for decorator in part.decorator_list]
            if "overload" not in decorators:
                yield part


def signature(owner: str, method: Method) -> str:
    """The call as one writes it, broken over lines when it is long."""
    returns = f" -> {ast.unparse(method.returns)}" if method.returns else ""
    if "property" in [ast.unparse(decorator) for decorator in method.decorator_list]:
        return f"{method.name}: {returns.removeprefix(' -> ')}"
    name, returns = (owner, "") if method.name == "__init__" else (method.name, returns)
    name = f"await {name}" if isinstance(method, ast.AsyncFunctionDef) else name
    arguments = written_arguments(method.args)
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) <= 90:
        return line
    return "\n    ".join([f"{name}(", *(f"{argument}," for argument in arguments)]) + f"\n){returns}"


def written_arguments(arguments: ast.arguments) -> list[str]:
    """Each argument as in the source, without self or cls."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(arguments.defaults)), *arguments.defaults]
    written = [with_default(one, value) for one, value in zip(plain, defaults, strict=True)]
    if written and plain[0].arg in ("self", "cls"):
        del written[0]
    if arguments.vararg:
        written.append(f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        written.append("*")
    written += [with_default(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return written + ([f"**{ast.unparse(arguments.kwarg)}"] if arguments.kwarg else [])


def with_default(argument: ast.arg, default: ast.expr | None) -> str:
    """`name: type = default`."""
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default is not None else "")
