"""Documentation that cannot drift: examples run, generated pages are fresh, lists agree with the tree.

See tests/plugins/doc_examples.py for how an example is written.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from importlinter.api import read_configuration

from doc_examples import (
    LANGUAGES,
    QUOTED,
    check_output,
    check_quotation,
    read_commands,
    read_examples,
    read_quotations,
    run_console,
    run_python,
    unmarked_commands,
)

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
TOP_PAGES = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "HACKING.md", "SECURITY.md", "CHANGELOG.md")
]
PAGES = [*TOP_PAGES, *sorted(DOCS.rglob("*.md"))]


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# Examples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if read_examples(page)], ids=shown)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, in a folder with the data that the page links to, without the developer's own
    environment."""
    home = tmp_path / "home"
    folder = tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    for data in re.findall(r"\]\((\w+\.jsonl)\)", page.read_text(encoding="utf-8")):
        shutil.copy(page.parent / data, folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TERCET_")}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment |= {"PATH": programs, "HOME": str(home), "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}
    environment["OMP_NUM_THREADS"] = "1"  # PyTorch's threads would spin for each other over toy matrices
    monkeypatch.chdir(folder)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for example in read_examples(page):
        if example.not_run is not None:
            assert len(example.not_run) > 10, f"{example.place}: say why it is not run"
        elif example.language == "python":
            run_python(example, namespace)
        else:
            run_console(example, folder, environment)


def test_examples_are_found_and_compared(tmp_path: Path) -> None:
    """The runner itself: what it reads, and that a wrong output is an error."""
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n<!-- exits 2 -->\n```console\n$ exit 2\n```\n"
    )
    first, second = read_examples(page)
    assert (first.language, first.expected, second.language, second.exit_status) == (
        "python",
        "3\n",
        "console",
        2,
    )
    with pytest.raises(AssertionError, match="the page says"):
        run_python(first, {})
    run_console(second, tmp_path, os.environ)
    assert read_commands("$ one \\\n  two\nout\n$ three\n") == [("one   two", "out\n"), ("three", "")]
    check_output("here", "a ... z\n", "a b\nc z\n")
    with pytest.raises(AssertionError):
        check_output("here", "a ... z\n", "a b\n")


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_fences_of_a_page_are_of_a_kind_that_is_checked(page: Path) -> None:
    """`bash` or `py` would not be run; a piece of a file is what the file says, or the page says why not."""
    languages = set(re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), flags=re.M))
    assert languages <= {*LANGUAGES, *QUOTED, "text", "json"}
    for quotation in read_quotations(page):
        if quotation.source is None:
            assert quotation.not_run, (
                f"{quotation.place}: neither `<!-- from: FILE -->` nor `<!-- not run: -->`"
            )
        else:
            check_quotation(quotation, ROOT)


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != REFERENCE], ids=shown)
def test_commands_are_run_or_say_why_not(page: Path) -> None:
    """A command in a `text` fence or an indented block is not run: the page says so, and why. (The generated
    reference shows how commands are called.)"""
    assert not unmarked_commands(page.read_text(encoding="utf-8")), (
        "make it `console`, or say why it is not run"
    )


def test_quotations_and_unmarked_commands_are_found(tmp_path: Path) -> None:
    (tmp_path / "hello.c").write_text("int main(void) {\n    return 0;\n}\n")
    page = tmp_path / "page.md"
    page.write_text("<!-- from: hello.c -->\n```c\nreturn 0;\n```\n\n```yaml\na: 1\n```\n")
    quoted, bare = read_quotations(page)
    check_quotation(quoted, tmp_path)
    assert (bare.source, bare.not_run) == (None, None)
    (tmp_path / "hello.c").write_text("int main(void) {\n    return 1;\n}\n")
    with pytest.raises(AssertionError, match="does not say"):
        check_quotation(quoted, tmp_path)
    assert unmarked_commands("```text\ntercet serve\n```\n\n    pip install it\n") == [
        "tercet serve",
        "pip install it",
    ]
    assert not unmarked_commands("<!-- not run: no cluster here -->\n```text\nkubectl get pods\n```\n")
    assert not unmarked_commands("```console\n$ tercet list\n    tercet in its output\n```\n")


# Generated pages and the site -----------------------------------------------------------------------


def test_generated_pages_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    stale = importlib.import_module("generate").stale_pages()
    assert not [shown(page) for page in stale], "run ./dev docs"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").exists()


TRANSLATED = [("index.md", "index.md"), ("first-run.md", "guides/first-run.md")]


@pytest.mark.parametrize(("page", "original"), TRANSLATED)
def test_a_translation_has_the_blocks_and_sections_of_its_original(page: str, original: str) -> None:
    """What can be compared without knowing the language: a changed command shows here."""
    fence = re.compile(r"^(?:<!--[^\n]*-->\n)?```.*?^```$", re.M | re.S)
    texts = [(DOCS / name).read_text(encoding="utf-8") for name in (f"fa/{page}", original)]
    translated, english = (fence.findall(text) for text in texts)
    assert translated == english
    assert len(re.findall(r"^#+ ", texts[0], flags=re.M)) == len(re.findall(r"^#+ ", texts[1], flags=re.M))
    assert texts[0].startswith('<div dir="rtl" lang="fa" markdown>\n')


# Lists that must agree ------------------------------------------------------------------------------


def test_the_layers_on_the_architecture_page_are_the_enforced_ones() -> None:
    contracts = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    layers = [re.sub(r"[()]", "", layer) for layer in contracts[0]["layers"]]  # (name): may be missing
    enforced = [re.split(r" *\| *", layer) for layer in layers]
    block = indented_block_after(DOCS / "architecture.md", "## Layers")
    told = [re.split(r" *\| *", re.split(r"  +", line.strip())[0]) for line in block]
    assert told == enforced


def test_every_package_and_folder_stands_on_the_map() -> None:
    """HACKING.md names every folder and top file, and nothing that is not there."""
    text = (ROOT / "HACKING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([^`]+)` \|", text, flags=re.M))
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing, "HACKING.md names what is not there"
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    folders = {f"{parent.as_posix()}/" for name in tracked for parent in Path(name).parents} - {"./"}
    wanted = {folder for folder in folders if folder.count("/") == 1}
    wanted |= {folder for folder in folders if re.fullmatch(r"(src/tercet|cpp|cpp/src|tests)/[^/]+/", folder)}
    wanted |= {name for name in tracked if re.fullmatch(r"src/tercet/[a-z]\w*\.py|[^/.]+\.\w+|dev", name)}
    unnamed = sorted(wanted - named)
    assert not unnamed, "HACKING.md does not name these"


def test_every_command_has_a_guide() -> None:
    from tercet.cli.app import COMMANDS

    guides = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "guides").rglob("*.md"))
    assert not [command for command in COMMANDS if f"tercet {command}" not in guides]


def test_every_error_is_told_in_the_tree_of_its_module() -> None:
    source = (ROOT / "src" / "tercet" / "errors.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert classes
    assert not [name for name in classes if name not in (ast.get_docstring(tree) or "")]


@pytest.mark.parametrize("page", TOP_PAGES, ids=shown)
def test_links_of_a_top_page_lead_somewhere(page: Path) -> None:
    """mkdocs checks those of the site; these pages are read on their own."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


# What lies beside the block -------------------------------------------------------------------------


def indented_block_after(page: Path, heading: str) -> list[str]:
    """The lines of the first indented block below a heading."""
    lines = page.read_text(encoding="utf-8").split(f"\n{heading}\n")[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("    "))
    length = next(count for count, line in enumerate([*lines[start:], ""]) if not line.startswith("    "))
    return lines[start : start + length]
