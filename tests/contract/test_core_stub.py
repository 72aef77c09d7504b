"""_core.pyi says what the compiled module is: the same names, arguments, defaults and types.

nanobind keeps the signature of everything it binds. The test rewrites both sides to one spelling and
compares them, so a changed binding without a changed stub fails here, naming the line that the stub should
hold.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tercet import _core

STUB = ast.parse((Path(__file__).parents[2] / "src" / "tercet" / "_core.pyi").read_text(encoding="utf-8"))


def spelled(signature: str) -> str:
    """A signature of nanobind in the stub's spelling, as `ast` prints it; defaults become `...`."""
    signature = re.sub(r"(?:numpy\.)?ndarray\[dtype=(\w+)[^]]*\]", r"npt.NDArray[np.\1]", signature)
    signature = signature.replace("np.bool]", "np.bool_]").replace("tercet._core.", "")
    signature = re.sub(r"ndarray\[[^]]*\]", "npt.NDArray[Any]", signature)
    signature = re.sub(r"= \\\d+", "= ...", signature)
    signature = re.sub(r"\bdict(?=[,)])", "dict[str, Any]", signature)
    return ast.unparse(ast.parse(f"{signature}: ..."))


def bound_functions(owner: object, names: list[str]) -> dict[str, list[str]]:
    """Name -> signatures of the functions among `names` that nanobind bound to a module or class."""
    signatures = {name: getattr(getattr(owner, name), "__nb_signature__", None) for name in names}
    return {name: [spelled(each[0]) for each in found] for name, found in signatures.items() if found}


def stub_functions(body: list[ast.stmt]) -> dict[str, list[str]]:
    """Name -> signatures of the functions in a stub's module or class."""
    functions: dict[str, list[str]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            functions.setdefault(node.name, []).append(ast.unparse(node))
    return functions


def bound_properties(owner: type) -> dict[str, str]:
    """Name -> type of the properties that nanobind bound to a class."""
    getters = {name: each.fget for name, each in vars(owner).items() if isinstance(each, property)}
    return {name: getter.__nb_signature__[0][0].partition(" -> ")[2] for name, getter in getters.items()}


def stub_properties(node: ast.ClassDef) -> dict[str, str]:
    """Name -> type of the properties in a stub's class."""
    functions = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.decorator_list]
    return {each.name: ast.unparse(each.returns) for each in functions if each.returns}


def public(owner: object) -> list[str]:
    return [name for name in vars(owner) if not name.startswith("_")]


def test_functions_have_the_stubs_signatures() -> None:
    assert stub_functions(STUB.body) == bound_functions(_core, public(_core))


def test_classes_have_the_stubs_methods_and_properties() -> None:
    classes = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
    assert set(classes) == {name for name in public(_core) if isinstance(getattr(_core, name), type)}
    for name, node in classes.items():
        bound = getattr(_core, name)
        names = [*public(bound), "__init__"]
        assert stub_functions(node.body) == bound_functions(bound, names), name
        assert stub_properties(node) == bound_properties(bound), name


def test_constants_are_in_the_stub() -> None:
    constants = {
        node.target.id: ast.unparse(node.annotation)
        for node in STUB.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    values = {name: getattr(_core, name) for name in public(_core)}
    assert constants == {
        name: type(value).__name__ for name, value in values.items() if isinstance(value, int)
    }
