"""Fixtures of the tests that run the program."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest

from tercet.models.saving import save_huggingface_folder
from tiny_models import CHAT_TEMPLATE, TINY_CONFIG, random_masters, tiny_tokenizer_json


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with a context that takes minutes to fill and no token that ends an answer."""
    config = dataclasses.replace(TINY_CONFIG, max_context=200_000, eos_token_ids=())
    folder = tmp_path_factory.mktemp("slow") / "slow"
    save_huggingface_folder(
        folder,
        config,
        random_masters(config),
        tokenizer_json=tiny_tokenizer_json(),
        chat_template=CHAT_TEMPLATE,
    )
    return folder


@pytest.fixture(scope="session", autouse=True)
def _programs_hear_ctrl_c() -> None:
    """A shell's background job ignores SIGINT, and so would every program that the tests start from there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
