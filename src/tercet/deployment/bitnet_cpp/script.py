"""bitnet.cpp's `run_inference.py`: a process for each answer, which loads the model each time.

    run_inference.py -m MODEL -p PROMPT -n TOKENS -temp TEMPERATURE -t THREADS [-c CONTEXT] [-cnv]

It prints the prompt and then the answer. With `-cnv` the text of `-p` is the system's, the user's message
comes on standard input, and `> ` asks for the next one. It tells no tokens and no count of them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tercet.deployment.answer_text import said
from tercet.deployment.guarded_process import GuardedProcess, ending
from tercet.deployment.strategy import GenerationRequest
from tercet.errors import DeadlineError, FormatError, UnavailableError

__all__ = ["run_script"]

SYSTEM_TEXT = "You are a helpful assistant"
QUESTION = b"\n> "
"""What asks for a message."""
END_MARK = "[end of text]"


def run_script(
    script: Path, model: Path, request: GenerationRequest, room: int, context: int, threads: int
) -> tuple[str, str | None]:
    """Return an answer, and why it ended: `stop`, `length`, or None where that cannot be seen.

    Raises:
        UnavailableError: the script fails.
        DeadlineError: it does not end within the request's time.
        FormatError: what it prints is no answer.
    """
    command = [
        *(sys.executable, str(script), "-m", str(model), "-n", str(room)),
        *("-p", SYSTEM_TEXT if request.chat else request.prompt),
        *("-temp", f"{request.temperature:g}", "-t", str(threads), "-c", str(context)),
        *(("-cnv",) if request.chat else ()),
    ]
    end = time.monotonic() + request.timeout_seconds
    with GuardedProcess(command, script.parent, {"PYTHONUNBUFFERED": "1"}, reads=request.chat) as process:
        message = " ".join(request.prompt.split())  # one line is one message
        if request.chat:
            process.write(message + "\n")  # and no end of input, at which the program would go on talking
        enough = process.output.wait_for(
            lambda data: process.output.overflown or (request.chat and data.count(QUESTION) >= 2),
            end - time.monotonic(),
        )
        status = 0 if enough else process.wait(end - time.monotonic())
    if process.output.overflown:
        raise FormatError(f"{script} talks without end, and was ended")
    if status is None:
        raise DeadlineError(
            f"{script} did not end its answer within {request.timeout_seconds:g} seconds. "
            "Ask for fewer tokens, or allow more time."
        )
    if status != 0:
        raise UnavailableError(f"{script} {ending(status)}: {process.errors.telling_line('error', 'failed')}")
    data = process.output.data()
    return _reply(data, message, script) if request.chat else _continuation(data, request.prompt, script)


def _continuation(data: bytes, prompt: str, script: Path) -> tuple[str, str | None]:
    text = data.decode(errors="replace")
    before, found, answer = text.partition(prompt)
    if not found or before.strip():
        raise FormatError(
            f"{script} did not print the prompt and an answer after it, but: {said(text[:200]) or 'nothing'}"
        )
    return _ended(answer)


def _reply(data: bytes, message: str, script: Path) -> tuple[str, str | None]:
    _, found, answer = data.partition(QUESTION)
    if not found:
        shown = said(data[:200].decode(errors="replace")) or "nothing"
        raise FormatError(f"{script} did not ask for a message with '> ', but printed: {shown}")
    text, asked, _ = answer.decode(errors="replace").partition(QUESTION.decode())
    text = text.strip().removeprefix(message).strip()  # some releases print what they read
    return (text, None) if asked else _ended(text)


def _ended(answer: str) -> tuple[str, str | None]:
    text, mark, _ = answer.rstrip("\n").partition(END_MARK)
    return (text.rstrip(" "), "stop") if mark else (text, "length")
