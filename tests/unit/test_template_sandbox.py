"""Hostile chat templates: each is stopped quickly and in little memory, and the next one works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tercet.errors import FormatError, ParameterError, TercetError
from tercet.tokenization import ChatTemplate, Tokenizer, template_process, template_sandbox
from tiny_models import CHAT_TEMPLATE, tiny_tokenizer_json

HELLO = [{"role": "user", "content": "Hello there!"}]
MOST_BYTES = 200 << 20
GROWTH = {
    "joined to itself": "{% set ns.x = ns.x ~ ns.x %}",
    "added to itself": "{% set ns.x = ns.x + ns.x %}",
    "repeated": "{% set ns.x = ns.x * 1000 %}",
    "captured": "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}",
    "replaced": "{% set ns.x = ns.x | replace('a', ns.x) %}",
    "joined by itself": "{% set ns.x = [ns.x, ns.x, ns.x] | join(ns.x) %}",
    "formatted": "{% set ns.x = '%s%s%s' | format(ns.x, ns.x, ns.x) %}",
    "indented": "{% set ns.x = (ns.x ~ '\\n') | indent(100000, true) ~ ns.x %}",
    "escaped": "{% set ns.x = (ns.x ~ '\"<') | tojson | tojson | tojson %}",
    "split": "{% set ns.x = ns.x | list ~ ns.x | list %}",
    "a longer list": "{% set ns.l = ns.l + ns.l %}",
}
HOSTILE = {
    **{
        name: "{% set ns = namespace(x='aaaa', l=[1]) %}{% for i in range(60) %}" + step + "{% endfor %}"
        "{{ ns.x | length }}{{ ns.l | length }}"
        for name, step in GROWTH.items()
    },
    "a list of itself, printed": "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
    "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "a list of itself, as JSON": "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
    "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
    "a list of itself, compared": "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(60) %}"
    "{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
    "a deep list, printed": "{% set ns = namespace(l=[1]) %}"
    "{% for i in range(19000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
    "a wide number": "{{ '%1000000000d' | format(1) }}",
    "a wide indentation": "{{ 'a' | indent(2000000000, true) }}",
    "much output": "{% for i in range(9000) %}{{ 'abcdefghij' * 1000 }}{% endfor %}",
    "output, doubled by macros": "{% macro a() %}{{ 'x' * 100000 }}{% endmacro %}"
    "{% macro b() %}{% for i in range(100) %}{{ a() }}{% endfor %}{% endmacro %}"
    "{% for i in range(100) %}{{ b() }}{% endfor %}",
    "long ranges": "{% set ns = namespace(l=[]) %}{% for i in range(3000) %}"
    "{% set ns.l = ns.l + [range(100000) | list] %}{% endfor %}",
    "a long search": "{% set x = 'a' * 3000000 %}{% for i in range(9000) %}"
    "{{ x.count('aab') }}{{ (x | upper) in x }}{% endfor %}",
    "long sorting": "{% set l = range(100000) | list %}{% for i in range(9000) %}"
    "{% set m = l | reverse | sort %}{% endfor %}",
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_tokenizer_json())


class _Peak(threading.Thread):
    """Watches the resident memory of the process that templates run in."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.001):
            running = template_sandbox._process._running
            if running is None:
                continue
            try:
                fields = Path(f"/proc/{running.process.pid}/statm").read_text().split()
            except OSError:
                continue
            self.most = max(self.most, int(fields[1]) * os.sysconf("SC_PAGESIZE") if fields else 0)


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_template_is_stopped(tokenizer: Tokenizer, source: str) -> None:
    template = ChatTemplate(source, tokenizer)
    peak = _Peak()
    peak.start()
    started = time.monotonic()
    with pytest.raises(FormatError, match="chat template fails: "):
        template.encode(HELLO)
    seconds = time.monotonic() - started
    peak.done.set()
    peak.join()
    assert seconds < 15, "a second of processor time, on a machine that has much other work as well"
    assert peak.most < MOST_BYTES
    assert ChatTemplate(CHAT_TEMPLATE, tokenizer).encode(HELLO)


def test_compiling_is_bounded_too(tokenizer: Tokenizer) -> None:
    source = "{{ '" + "a" * 5000 + "' * 5000 ~ '" + "b" * 5000 + "' * 5000 }}" * 40
    started = time.monotonic()
    with pytest.raises(FormatError, match="chat template"):
        ChatTemplate(source, tokenizer).encode(HELLO)
    assert time.monotonic() - started < 4


def test_long_conversations_have_memory_enough(tokenizer: Tokenizer) -> None:
    messages = [{"role": "user", "content": "🙂 word " * 500_000}]
    text = ChatTemplate(CHAT_TEMPLATE, tokenizer).render(messages)
    assert messages[0]["content"] in text


def test_one_process_serves_all_templates_and_is_quick(tokenizer: Tokenizer) -> None:
    templates = [ChatTemplate(CHAT_TEMPLATE + f"{{# {i} #}}", tokenizer) for i in range(20)]
    assert len({template.render(HELLO) for template in templates}) == 1
    process = template_sandbox._process._running
    started = time.monotonic()
    for _ in range(100):
        templates[-1].render(HELLO)
    assert (time.monotonic() - started) / 100 < 0.01
    assert template_sandbox._process._running is process


def test_a_process_that_died_is_replaced(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(CHAT_TEMPLATE, tokenizer)
    expected = template.render(HELLO)
    running = template_sandbox._process._running
    assert running is not None
    running.process.kill()
    running.process.wait()
    assert template.render(HELLO) == expected


def test_an_interruption_does_not_mix_replies_up(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = ChatTemplate("{{ messages[0].content }}", tokenizer)

    def interrupted(file: int, limit: int | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(template_process, "read_message", interrupted)
        with pytest.raises(KeyboardInterrupt):
            template.render([{"role": "user", "content": "first"}])
    assert template.render([{"role": "user", "content": "second"}]) == "second"


def test_a_fork_gets_a_process_of_its_own() -> None:
    """Parent and child talk at the same time; one pipe for both would mix their replies up."""
    program = (
        "import os, sys, threading\n"
        "from tercet.tokenization import template_sandbox as sandbox\n"
        "ask = lambda word: sandbox.render_template('{{ word }}', {'word': word}, 100, 10)\n"
        "assert ask('before') == 'before'\n"
        "mine = sandbox._process._running.process.pid\n"
        "sandbox._process._lock.acquire()  # as a thread may hold it\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    right = all(ask(f'child {i}') == f'child {i}' for i in range(50))\n"
        "    right = right and sandbox._process._running.process.pid != mine\n"
        "    sandbox._process.end()\n"
        "    os._exit(0 if right else 1)\n"
        "sandbox._process._lock.release()\n"
        "right = all(ask(f'parent {i}') == f'parent {i}' for i in range(50))\n"
        "status = os.waitpid(child, 0)[1]\n"
        "sys.exit(0 if right and status == 0 and sandbox._process._running.process.pid == mine else 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_process_ends_with_the_program() -> None:
    program = (
        "import os, signal, sys\n"
        "from tercet.tokenization import template_sandbox as sandbox\n"
        "sandbox.check_template('x')\n"
        "print(sandbox._process._running.process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    status = Path(f"/proc/{int(done.stdout)}/status")
    deadline = time.monotonic() + 10
    while status.exists() and "Z (zombie)" not in status.read_text():
        assert time.monotonic() < deadline, "the process outlives the program that started it"
        time.sleep(0.01)


def test_a_process_that_cannot_start_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = template_sandbox._Process()
    monkeypatch.setattr(template_sandbox, "_process", fresh)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(TercetError, match="cannot start the process"):
        template_sandbox.check_template("x")
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(TercetError, match=r"does not start: `/bin/true .*ended with 0"):
        template_sandbox.check_template("x")


def test_output_that_is_too_long_is_refused() -> None:
    with pytest.raises(FormatError, match=r"it writes 5000000 characters, and may write 4194344"):
        template_sandbox.render_template("{{ x }}" * 5, {"x": "a" * 1_000_000}, 1_000_000, 10)
    with pytest.raises(ParameterError, match=r"^never$"):
        template_sandbox.render_template("{{ raise_exception('never') }}", {}, 1000, 10)
