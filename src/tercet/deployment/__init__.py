"""The same model everywhere: other programs and machines behind one Protocol, chosen by measurement.

strategy        the Protocol, and what goes in and comes out
measured        half of a strategy: timing, counting, testing
registry        every strategy by its name
native          our own engine
onnxruntime     our ONNX export
transformers    our Hugging Face export, in PyTorch
bitnet_cpp      our GGUF export, in bitnet.cpp or llama.cpp
remote          any OpenAI-compatible endpoint
fallback        several strategies as one, with circuit breakers
"""

from __future__ import annotations

from tercet.deployment.registry import STRATEGIES, create
from tercet.deployment.strategy import (
    Availability,
    DeploymentSettings,
    Generation,
    GenerationRequest,
    Metrics,
    Piece,
    Strategy,
    Trial,
)

__all__ = [
    "STRATEGIES",
    "Availability",
    "DeploymentSettings",
    "Generation",
    "GenerationRequest",
    "Metrics",
    "Piece",
    "Strategy",
    "Trial",
    "create",
]
