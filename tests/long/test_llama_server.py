"""Strategy bitnet_cpp with a real llama-server: its greedy tokens are compared with the reference's.

./dev test-long tests/long/test_llama_server.py    builds llama.cpp from the sources in the package
                                                   llama-cpp-python: half an hour on two cores

LLAMA_SERVER in the environment names a program that is there already.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from long_results import RecordLongResult
from tercet.deployment import DeploymentSettings, GenerationRequest
from tercet.deployment.trials import measure
from tercet.models.saving import save_huggingface_folder
from tiny_models import CHAT_TEMPLATE, GENERATION, TINY_CONFIG, random_masters, tiny_tokenizer_json

pytestmark = [pytest.mark.long, pytest.mark.timeout(3 * 3600)]

SOURCES = "llama-cpp-python==0.3.36"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF "
    "-DLLAMA_OPENSSL=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DBUILD_SHARED_LIBS=OFF"
)
PLAIN = dataclasses.replace(
    TINY_CONFIG, num_heads=4, num_kv_heads=2, head_dim=64, activation="silu", attention_sub_norm=False,
    ffn_sub_norm=False, max_context=256, hidden_size=256, ffn_size=512,
    tied_embeddings=False,
)  # fmt: skip
MODELS = {
    "llama, TQ2_0": PLAIN,
    "bitnet, TQ2_0": dataclasses.replace(
        PLAIN, attention_sub_norm=True, ffn_sub_norm=True, tied_embeddings=True
    ),
    "llama, Q2_0": dataclasses.replace(PLAIN, hidden_size=192, ffn_size=320),
}


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "LLAMA_SERVER" in os.environ:
        return Path(os.environ["LLAMA_SERVER"])
    folder = tmp_path_factory.mktemp("llama")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", SOURCES]
    subprocess.run(pip, cwd=folder, check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(folder, filter="data")
    (source,) = folder.glob("*/vendor/llama.cpp")
    subprocess.run(["cmake", "-S", source, "-B", folder / "build", *OPTIONS.split()], check=True)
    build = ["cmake", "--build", folder / "build", "--target", "llama-server", "--parallel", "2"]
    subprocess.run(build, check=True)
    return folder / "build" / "bin" / "llama-server"


def test_the_tokens_of_a_real_server(
    llama_server: Path, tmp_path: Path, record_long_result: RecordLongResult
) -> None:
    settings = DeploymentSettings(program=str(llama_server), folder=str(tmp_path), threads=1)
    found: dict[str, dict[str, Any]] = {}
    for name, config in MODELS.items():
        folder = tmp_path / name.replace(", ", "-").lower()
        weights, tokenizer = random_masters(config), tiny_tokenizer_json()
        options = {"tokenizer_json": tokenizer, "chat_template": CHAT_TEMPLATE, "generation": GENERATION}
        save_huggingface_folder(folder, config, weights, **options)  # type: ignore[arg-type]
        request = GenerationRequest("The little dog", max_tokens=32)
        (one,) = measure(str(folder), settings, ["bitnet_cpp"], request=request)
        assert one.success, one.reason
        assert one.agreement is not None
        assert not one.agreement.prompt_differs
        # Blocks of activations are rounded otherwise than the model says: near ties may fall either way.
        assert one.agreement.complete or (one.agreement.margin or 0) < 0.1
        # With tied embeddings a random model says the same token again and again; the others do not.
        assert config.tied_embeddings or len(set((one.text or "").split())) > 4, one.text
        form = name.rpartition(" ")[2].lower()
        assert list(tmp_path.glob(f"{folder.name}-*-{form}.gguf"))
        found[name] = {"agreement": one.agreement.to_dict(), "memory_bytes": one.memory_bytes}
    record_long_result("llama-server", {"sources": SOURCES, "models": found})
