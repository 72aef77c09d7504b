"""Files that take minutes start first, so that the processes of `./dev test` end together.

pytest-xdist hands out one file after the other, in the order of collection (--no-loadscope-reorder). A
file of four minutes that comes last keeps one core busy and leaves the other with nothing to do.
"""

from __future__ import annotations

from pathlib import Path

import pytest

# Slowest first: 346 to 40 seconds on two cores. One that is missing here is merely started in its turn.
SLOW_FILES = (
    "contract/test_docs.py",
    "integration/test_server_soak.py",
    "contract/test_package.py",
    "integration/test_ray_batch.py",
    "integration/test_ray_serve.py",
    "integration/test_training_processes.py",
    "contract/test_strict_skips.py",
    "property/test_c_tokenizer.py",
    "integration/test_cli_bench.py",
    "integration/test_training_run.py",
    "property/test_damaged_bytes.py",
    "integration/test_balancers.py",
    "integration/test_page_chat.py",
    "kernels/test_neon.py",
    "integration/test_server_schema.py",
    "kernels/test_sanitized_programs.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = config.rootpath / "tests"
    places = {tests / Path(name): place for place, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(SLOW_FILES)))  # stable: the others keep their order
