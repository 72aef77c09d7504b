"""The notebooks of docs/notebooks, run in a kernel of their own: what they print is what they show.

That they are what their pages say is `test_docs.test_generated_pages_are_fresh`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from doc_examples import check_output

NOTEBOOKS = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
YOURS = "# Yours."


class OwnPython(AsyncKernelManager):  # type: ignore[misc]
    """A kernel in the Python of the tests, whichever kernels this machine has besides."""

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        connection = self.connection_file
        return [sys.executable, "-m", "ipykernel_launcher", "-f", connection, *(extra_arguments or [])]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq", "ignore::DeprecationWarning:jupyter_client")
def test_a_notebook_prints_what_it_shows(
    lesson: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shown = nbformat.read(lesson, as_version=4)
    nbformat.validate(shown)
    run = nbformat.read(lesson, as_version=4)
    client = NotebookClient(run, timeout=120, kernel_manager_class=OwnPython, resources={})
    client.execute(cwd=str(tmp_path))
    for number, (before, after) in enumerate(zip(shown.cells, run.cells, strict=True), 1):
        if before.cell_type == "code":
            check_output(f"{lesson.name}, cell {number}", printed(before), printed(after))


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell wrote, or is said to write, to standard output and standard error."""
    assert all(output.output_type == "stream" for output in cell.outputs)
    return "".join(output.text for output in cell.outputs)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_every_exercise_has_an_empty_cell_and_a_solution(lesson: Path) -> None:
    cells = nbformat.read(lesson, as_version=4).cells
    text = "\n".join(cell.source for cell in cells)
    exercises = text.count("**Exercise ")
    assert exercises >= 3
    assert sum(cell.source == YOURS for cell in cells) == exercises
    assert text.count("### Exercise ") == exercises
    assert text.index("## Solutions") > text.rindex("**Exercise ")
