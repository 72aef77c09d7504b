"""Every strategy by its name; its module is loaded when it is asked for."""

from __future__ import annotations

import importlib
import os

from tercet.deployment.strategy import DeploymentSettings, Strategy
from tercet.errors import ParameterError

__all__ = ["STRATEGIES", "create"]

# In the order in which they are shown and tried: what runs here, before what runs elsewhere.
STRATEGIES: dict[str, tuple[str, str]] = {
    "native": ("tercet.deployment.native", "NativeStrategy"),
    "onnxruntime": ("tercet.deployment.onnxruntime", "OnnxRuntimeStrategy"),
    "transformers": ("tercet.deployment.transformers", "TransformersStrategy"),
    "bitnet_cpp": ("tercet.deployment.bitnet_cpp", "BitnetCppStrategy"),
    "remote": ("tercet.deployment.remote", "RemoteStrategy"),
}


def create(
    name: str, model: str | os.PathLike[str] | None = None, settings: DeploymentSettings | None = None
) -> Strategy:
    """Return a strategy for a model; nothing is loaded or started yet.

    Args:
        name: one of `STRATEGIES`.
        model: name or path; None is the model that ships with the package.
        settings: what the user said.

    Raises:
        ParameterError: no strategy has the name.
    """
    if name not in STRATEGIES:
        raise ParameterError(f"no strategy is called {name!r}; there are {', '.join(STRATEGIES)}")
    module, kind = STRATEGIES[name]
    strategy: Strategy = getattr(importlib.import_module(module), kind)(
        None if model is None else os.fspath(model), settings or DeploymentSettings()
    )
    return strategy
