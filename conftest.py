"""Loads our own pytest plugins; `pythonpath` in pyproject.toml puts tests/plugins where Python finds them."""

pytest_plugins = ["strict_skips"]
