"""Fixtures of the tests that run the program."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import HubServer
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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The stand-in as the Hub, a cache of its own, and no waiting between attempts."""
    with HubServer() as server:
        monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 14)  # what a drop may cost
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        yield server
