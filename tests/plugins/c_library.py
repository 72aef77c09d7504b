"""libtercet as tests use it: a process, built under the address sanitizer, that takes a call a line.

    with CLibrary(build_checked()) as library:
        library.open(path)
        library.tokenize("Once upon a time")

A call that fails raises `CError` with the name of the status. A process that ends, as the sanitizers make it
at the first read out of bounds, fails the test with all that they have said.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from native_programs import build_checked

__all__ = ["FINISHES", "CAnswer", "CError", "CLibrary", "build_checked", "hexadecimal", "integers"]

FINISHES = ("none", "stop", "length", "callback")


class CError(Exception):
    """A call of the library that did not give TERCET_OK."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


@dataclass(frozen=True)
class CAnswer:
    """What tercet_generate gave."""

    finish: str
    seed: int
    session_length: int
    ids: list[int]
    pieces: list[str]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class CLibrary:
    """The process."""

    def __init__(self, build: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed at the end)
        self._process = subprocess.Popen(
            [str(build / "library_shell")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "TERCET_ISA": ""},
        )

    def call(self, *words: object) -> str:
        """Send one line; returns what stands behind the plus."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(" ".join(map(str, words)) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if answer.startswith("- "):
            _, status, message = answer.rstrip("\n").split(" ", 2)
            raise CError(status, message)
        assert answer.startswith("+ "), f"the library has ended: {self._ended()}"
        return answer[2:].rstrip("\n")

    def open(self, path: Path) -> dict[str, object]:
        """Open a model in place of the one that is open."""
        vocab, context, first, template, isa = self.call("open", hexadecimal(os.fsencode(path))).split()
        return {
            "vocab_size": int(vocab),
            "max_context": int(context),
            "first_token": int(first),
            "chat_template": None if template == "none" else bytes.fromhex(template).decode(),
            "isa": isa,
        }

    def tokenize(self, text: str | bytes) -> list[int]:
        return integers(self.call("tokenize", hexadecimal(text)))

    def detokenize(self, ids: list[int], show_control: bool = False) -> str:
        return bytes.fromhex(self.call("detokenize", int(show_control), *ids)).decode()

    def control(self, text: str) -> int:
        return int(self.call("control", hexadecimal(text)))

    def session(self, max_context: int = 0, kv_type: int = 0) -> None:
        self.call("session", max_context, kv_type)

    def logits(self) -> npt.NDArray[np.float32]:
        return np.array(integers(self.call("logits")), np.uint32).view(np.float32)

    def generate(
        self, prompt: str | list[int] = "", stop: tuple[str, ...] = (), **settings: object
    ) -> CAnswer:
        words = [f"{name}={value}" for name, value in settings.items()]
        words += [f"stop={hexadecimal(text)}" for text in stop]
        words += (
            [f"prompt={hexadecimal(prompt)}"]
            if isinstance(prompt, str)
            else [f"token={token}" for token in prompt]
        )
        numbers, _, shown = self.call("generate", *words).partition("|")
        finish, length, seed, session_length, *ids = integers(numbers)
        assert length == len(ids), "tercet_session_answer_length tells what the callback saw"
        pieces = [bytes.fromhex(piece).decode() for piece in shown.split()]
        return CAnswer(FINISHES[finish], seed, session_length, ids, pieces)

    def __enter__(self) -> CLibrary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        status = process.wait(60)
        process.stdout.close()
        if kind is None:
            assert status == 0, f"the library has ended: {self._ended()}"
        self._errors.close()

    def _ended(self) -> str:
        status = self._process.wait(60)
        self._errors.seek(0)
        return f"status {status}\n{self._errors.read()[-6000:].decode(errors='replace')}"


def hexadecimal(text: str | bytes) -> str:
    return (text.encode() if isinstance(text, str) else text).hex()


def integers(words: str) -> list[int]:
    return list(map(int, words.split()))
