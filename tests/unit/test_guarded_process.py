"""Programs that talk, hang, start others and outlive their time: nothing of them is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from fake_builds import alive
from served import wait_until
from tercet.deployment.guarded_process import GuardedProcess, ending

SLEEPER = "import time; time.sleep(1000)"
FAMILY = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", {SLEEPER!r}])
print(child.pid, flush=True)
time.sleep(1000)
"""


def python(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text]


def test_status_and_both_streams() -> None:
    told = "import sys; print('out'); print('err', file=sys.stderr); print(sys.stdin.read()); sys.exit(3)"
    with GuardedProcess(python(told)) as process:
        assert process.wait(30) == 3
    assert process.output.text() == "out\n\n"  # nobody writes to it
    assert process.errors.telling_line() == "err"
    assert ending(3) == "ended with status 3"


def test_it_reads_what_is_written_and_is_heard_at_once() -> None:
    with GuardedProcess(python("print(input(), flush=True); " + SLEEPER), reads=True) as process:
        process.write("hello\n")
        assert process.output.wait_for(lambda data: data == b"hello\n", 30)
        assert not process.output.wait_for(lambda data: b"more" in data, 0.05)
        assert process.wait(0.05) is None
    assert process.status == -signal.SIGTERM
    assert ending(-signal.SIGTERM) == "was ended by SIGTERM"
    assert ending(-200) == "was ended by signal 200"
    process.close()  # once more is nothing


def test_a_program_that_is_not_there() -> None:
    with GuardedProcess(["/none/program"]) as process:
        assert process.wait(30) == 126
    assert "/none/program cannot be run: No such file" in process.errors.text()


def test_what_a_program_has_started_ends_with_it() -> None:
    with GuardedProcess(python(FAMILY)) as process:
        assert process.output.wait_for(lambda data: data.endswith(b"\n"), 30)
        child = int(process.output.text())
        memory = process.memory_bytes()
        assert memory is not None
        assert memory > 1 << 20
        assert alive(child)
    wait_until(lambda: not _runs(child))


def test_a_program_that_does_not_want_to_end() -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); "
    begin = time.monotonic()
    with GuardedProcess(python(stubborn + SLEEPER)) as process:
        assert process.output.wait_for(lambda data: data == b"1\n", 30)
        process.patience_seconds = 0.2
    assert process.status == -signal.SIGKILL
    assert time.monotonic() - begin < 30


def test_only_the_end_of_a_long_speech_is_kept() -> None:
    with GuardedProcess(python("print('x' * 3_000_000); print('error: at last')")) as process:
        assert process.wait(30) == 0
    assert process.output.overflown
    assert len(process.output.data()) == 1 << 20
    assert process.output.telling_line("error") == "error: at last"


def test_nothing_is_left_where_the_asker_is_killed(tmp_path: Path) -> None:
    asker = f"""
import sys, time
from tercet.deployment.guarded_process import GuardedProcess
process = GuardedProcess([sys.executable, "-I", "-S", "-c", {FAMILY!r}])
process.output.wait_for(lambda data: data.endswith(b"\\n"), 30)
print(process.output.text(), flush=True)
time.sleep(1000)
"""
    command = [sys.executable, "-c", asker]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert _runs(child)
        process.kill()
    wait_until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    """Whether a process is there and has not ended: one that nobody waits for is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
