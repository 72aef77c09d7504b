"""The native file, `.tercet`: one file that holds a model and opens without copying. `layout` has the
format."""

from __future__ import annotations

from tercet.formats.tercet.reader import TercetFile
from tercet.formats.tercet.writer import FilePlan, FileWriter, TensorPlan, create_file

__all__ = ["FilePlan", "FileWriter", "TensorPlan", "TercetFile", "create_file"]
