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
trials          every strategy tried in a process of its own (`trial_process`)
agreement       whether it says what the model says
selection       the best for a goal, and for a use (`recommendation`)
converted       models that a strategy needs in another form (`prompts`: texts that it needs as tokens)
resources       what a server of a model asks of a container platform
ray_serve       many replicas on a Ray cluster; `ray_batch` for files
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
