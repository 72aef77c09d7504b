"""What every test may use. The plugins of tests/plugins are importable by name."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything imports Triton: GPU kernels then run in NumPy, and their tests need no GPU.
os.environ["TRITON_INTERPRET"] = "1"

import pytest
from hypothesis import HealthCheck, settings

from tercet.errors import ModelNotFoundError
from tercet.models.config import ModelConfig
from tiny_models import CHAT_TEMPLATE, GENERATION, TINY_CONFIG, random_masters, tiny_tokenizer_json

pytest_plugins = ["browser", "long_results", "served", "slow_first", "strict_skips", "verified_formats"]

# Reproducible in CI, and no deadline, since the machine that runs the tests may be busy with other work.
settings.register_profile(
    "tercet",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("tercet")


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """The shape of the tiny model."""
    return TINY_CONFIG


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with random float32 masters: what training leaves behind. Not to be changed."""
    from tercet.models.saving import save_huggingface_folder

    path = tmp_path_factory.mktemp("tiny") / "tiny-hf"
    save_huggingface_folder(
        path,
        TINY_CONFIG,
        random_masters(TINY_CONFIG),
        tokenizer_json=tiny_tokenizer_json(),
        chat_template=CHAT_TEMPLATE,
        generation=GENERATION,
    )
    return path


@pytest.fixture(scope="session")
def tiny_model_file(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """`tiny_model_folder` as a native file, with tokenizer and chat template. Not to be changed."""
    from tercet.conversion import convert

    path = tmp_path_factory.mktemp("tiny") / "tiny.tercet"
    convert(tiny_model_folder, path)
    return path


@pytest.fixture(scope="session")
def shipped_model() -> Path:
    """The model inside the package."""
    from tercet.models.registry import resolve

    try:
        return resolve(None)
    except ModelNotFoundError:
        pytest.skip("the package does not hold its model yet")
