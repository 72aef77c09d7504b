"""Files and requests are data: nothing in the package unpickles, evaluates or imports what a stranger brings.

The sources are read, not run, so that a door in a place that no test reaches is found as well. Who needs one
of these calls writes it into `ALLOWED`, with the reason why what goes through it is ours or locked in.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "tercet"

MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"),
    *("runpy", "code", "codeop", "imp", "pkg_resources", "xmlrpc", "jinja2", "yaml", "diskcache"),
}  # fmt: skip
"""They run what they read, or have a mode that does. Templates are rendered by MiniJinja, in a process."""
BUILTINS = {"eval", "exec", "compile", "__import__", "execfile"}
CALLS = {"os.system", "os.popen", "importlib.util.spec_from_file_location", "ctypes.CDLL"}
UNPACKERS = {"extractall", "unpack_archive"}
"""Archives decide where their files go."""
ALLOWED = {
    (
        "evaluation/guard.py",
        "exec",
    ): "a model's answer to a programming task, in the sandbox that this file is",
    ("evaluation/guard.py", "compile"): "the same",
    ("evaluation/guard.py", "ctypes.CDLL"): "the C library of the system, to take rights away",
    ("monitoring/machine.py", "ctypes.CDLL"): "the library of the GPU's driver, by its one name",
}


def doors(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of everything in a module that could run foreign code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and (node.module or "").partition(".")[0] in MODULES:
                yield node.lineno, str(node.module)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, name) for name in _called(node))


def _called(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    keywords = {word.arg: word.value for word in call.keywords}
    if name in BUILTINS or name.removeprefix("builtins.") in BUILTINS or name in CALLS or last in UNPACKERS:
        yield name
    if last in ("import_module", "optional_import") and call.args:
        module = call.args[0]
        if isinstance(module, ast.Constant) and str(module.value).partition(".")[0] in MODULES:
            yield str(module.value)
    if name == "torch.load" and not _is(keywords.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    for word, harmless in (("allow_pickle", False), ("trust_remote_code", False), ("shell", False)):
        if word in keywords and not _is(keywords[word], harmless):
            yield f"{word}={ast.unparse(keywords[word])}"
    if None in keywords and isinstance(keywords[None], ast.Dict):
        for key in keywords[None].keys:
            if isinstance(key, ast.Constant) and key.value in ("allow_pickle", "trust_remote_code"):
                yield str(key.value)


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_no_module_runs_what_a_stranger_brings() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in SOURCES
        for line, name in doors(path.read_text(encoding="utf-8"))
        if (path.relative_to(PACKAGE).as_posix(), name) not in ALLOWED
    }
    assert not found
    assert len(SOURCES) > 300


def test_every_exception_is_needed() -> None:
    used = {
        (place, name)
        for place in {place for place, _ in ALLOWED}
        for _, name in doors((PACKAGE / place).read_text(encoding="utf-8"))
    }
    assert set(ALLOWED) <= used


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import joblib.memory", "def f():\n  import marshal",
        "optional_import('yaml', 'x')", "importlib.import_module('dill')", "eval(x)", "builtins.exec(x)",
        "compile(text, '', 'exec')", "__import__(name)", "os.system(line)", "archive.extractall(folder)",
        "torch.load(path)", "torch.load(p, weights_only=flag)", "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)", "f(**{'trust_remote_code': True})",
        "subprocess.run(line, shell=True)", "importlib.util.spec_from_file_location('m', path)",
    ],
)  # fmt: skip
def test_a_door_is_found(source: str) -> None:
    assert list(doors(source))


@pytest.mark.parametrize(
    "source",
    [
        "network.eval()", "re.compile(x)", "torch.load(p, weights_only=True)", "'import pickle'",
        "np.load(p, allow_pickle=False)", "AutoModel.from_pretrained(p, trust_remote_code=False)",
    ],
)  # fmt: skip
def test_what_is_none_is_left_alone(source: str) -> None:
    assert not list(doors(source))
