"""A model for which there is no memory is refused in words, at whatever point it runs out."""

from __future__ import annotations

import subprocess
import sys

OPENS_WITH_LESS_AND_LESS = """
import resource
from tercet import LLM
from tercet.errors import MemoryLimitError

LLM(threads=2).close()  # all code is there from now on
refused = 0
for kilobytes in range(0, 40_000, 2_000):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (kilobytes << 10), resource.RLIM_INFINITY))
    try:
        LLM(threads=2).close()
    except MemoryLimitError as error:
        assert "there is not enough memory to open" in str(error)
        refused += 1
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(refused)
with LLM(threads=2) as llm:
    print(len(llm.generate("Once upon a time", max_tokens=3, ignore_eos=True).token_ids))
"""


def test_no_memory_at_load_is_one_error_and_the_process_goes_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPENS_WITH_LESS_AND_LESS], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    refused, generated = map(int, done.stdout.split())
    assert refused > 0
    assert generated == 3
