"""What every test may use. The plugins of tests/plugins are importable by name."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["strict_skips"]

# Reproducible in CI, and no deadline, since the machine that runs the tests may be busy with other work.
settings.register_profile(
    "tercet",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("tercet")
