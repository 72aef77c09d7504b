"""`tercet chat`: over a pipe as a script would use it, and in a real terminal (a pseudo-terminal)."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from program import command, environment, tercet
from tercet import LLM

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])|\r")


@pytest.fixture(scope="module")
def llm(tiny_model_file: Path) -> LLM:
    return LLM(tiny_model_file, threads=1)


# Over a pipe ---------------------------------------------------------------------------------------


def test_each_line_is_a_message_and_the_conversation_goes_on(tiny_model_file: Path, llm: LLM) -> None:
    settings = {"max_tokens": 4, "seed": 5}
    done = tercet(
        "chat", "--model", tiny_model_file, "--max-tokens", "4", "--seed", "5", stdin=b"Hello\n\nAgain\n"
    )
    messages = [{"role": "user", "content": "Hello"}]
    first = llm.chat(messages, **settings).text
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "Again"}]
    second = llm.chat(messages, **settings).text
    assert done.status == 0, done
    assert done.out == f"{first}\n{second}\n"
    figures = done.err.splitlines()
    assert len(figures) == 3
    assert all("first token" in line and "peak memory" in line for line in figures)
    assert figures[2].startswith("2 answers: prompt ")


def test_commands_work_over_a_pipe(tiny_model_file: Path, tmp_path: Path) -> None:
    lines = "/system Be kind.\n/temperature 0\nHello\n/save talk.json\n/exit\nnever said\n"
    done = tercet(
        "chat", "--model", tiny_model_file, "--max-tokens", "4", stdin=lines.encode(), folder=tmp_path
    )
    assert done.status == 0, done
    saved = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert [message["role"] for message in saved] == ["system", "user", "assistant"]
    assert saved[2]["content"] + "\n" == done.out


def test_a_script_fails_at_the_first_error(tiny_model_file: Path) -> None:
    done = tercet("chat", "--model", tiny_model_file, stdin=b"/load none.json\nHello\n")
    assert (done.status, done.out) == (2, "")
    assert done.err == "tercet: error: cannot read none.json: No such file or directory\n"


def test_a_full_context_forgets_the_oldest(tiny_model_file: Path) -> None:
    lines = b"One day a girl named Lily found a big red ball.\n" * 4
    done = tercet("chat", "--model", tiny_model_file, "--max-tokens", "8", "--seed", "1", stdin=lines)
    assert done.status == 0, done
    assert "The context is full: the oldest exchange forgotten." in done.err


def test_a_message_longer_than_the_context_is_an_error(tiny_model_file: Path) -> None:
    done = tercet("chat", "--model", tiny_model_file, stdin=b"dog " * 200 + b"\n")
    assert done.status == 2, done
    assert "the context of 64 tokens" in done.err
    assert len(done.err.splitlines()) == 1


def test_interrupt_while_waiting_for_a_message(tiny_model_file: Path) -> None:
    process = subprocess.Popen(
        command("chat", "--model", tiny_model_file, "--max-tokens", "4"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"Hello\n")
    process.stdin.flush()
    assert b"first token" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")


# In a terminal -------------------------------------------------------------------------------------


class Terminal:
    """A person at a terminal: types, and reads what appears."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._master = master
        self._read = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> str:
        """Read until `text` appears; what was read up to it is returned and not looked at again."""
        while text not in self._read:
            ready, _, _ = select.select([self._master], [], [], 30)
            assert ready, f"{text!r} did not appear, but: {self._read!r}"
            try:
                self._read += ESCAPES.sub("", os.read(self._master, 4096).decode(errors="replace"))
            except OSError as error:  # EIO: the program has ended
                raise AssertionError(f"{text!r} did not appear, but: {self._read!r}") from error
        before, _, self._read = self._read.partition(text)
        return before


# Makes the terminal the controlling one, so that Ctrl-C becomes a signal.
OWN_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"


@pytest.fixture
def terminal(slow_model: Path, tmp_path: Path) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command("chat", "--model", slow_model, "--threads", "1", "-t", "0", first=OWN_TERMINAL),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(TERCET_CACHE=str(tmp_path / "cache"), TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1"),
        start_new_session=True,
    )
    os.close(slave)
    yield Terminal(master, process)
    process.kill()
    process.wait()
    os.close(master)


def test_a_conversation_in_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for("/help lists the commands")
    terminal.wait_for("you>")
    terminal.type("/max-tokens 3\r")
    terminal.wait_for("max_tokens is 3 from now on.")
    terminal.wait_for("you>")
    terminal.type("Hello\r")
    terminal.wait_for("generated 3 tokens")
    terminal.wait_for("you>")
    terminal.type("\x1b[A\r")  # the arrow up brings the message back
    terminal.wait_for("generated 3 tokens")
    terminal.wait_for("you>")
    terminal.type("/nonsense\r")  # a mistake does not end the conversation
    terminal.wait_for("error: there is no command /nonsense")
    terminal.wait_for("you>")
    terminal.type("\x03")
    terminal.wait_for("Ctrl-D or /exit leaves.")
    terminal.wait_for("you>")
    terminal.type("\x04")
    terminal.wait_for("2 answers: prompt ")
    assert terminal.process.wait(timeout=60) == 0
    history = (tmp_path / "cache" / "chat_history").read_text()
    assert "+Hello" in history


def test_ctrl_c_stops_the_answer_not_the_program(terminal: Terminal) -> None:
    terminal.wait_for("you>")
    terminal.type("/max-tokens 1000000\r")
    terminal.wait_for("you>")
    terminal.type("Hello\r")
    time.sleep(1)
    terminal.type("\x03")
    terminal.wait_for("stopped · prompt ")
    terminal.wait_for("you>")
    terminal.type("/exit\r")
    terminal.wait_for("1 answer: prompt ")
    assert terminal.process.wait(timeout=60) == 0
