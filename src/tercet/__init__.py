"""Ternary (1.58-bit, BitNet-family) language models: train, convert, run and measure them.

    from tercet import LLM, SamplingParams

    llm = LLM()
    print(llm.generate("Once upon a time", SamplingParams(max_tokens=100)).text)

Names are loaded when they are first used, so that `import tercet` costs a few milliseconds.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true by its name, and importing typing takes milliseconds
if TYPE_CHECKING:
    from tercet.errors import (
        ChecksumError,
        ContentFilteredError,
        ContextLengthError,
        DeadlineError,
        FormatError,
        GenerationError,
        InvalidInputError,
        IsaError,
        MemoryLimitError,
        MissingExtraError,
        ModelNotFoundError,
        OverloadedError,
        ParameterError,
        RateLimitError,
        ResponseFilteredError,
        SecurityError,
        StorageError,
        TercetError,
        TrainingError,
        UnavailableError,
        UnsupportedFormatError,
        UnsupportedModelError,
    )
    from tercet.finetuning.finetuner import FineTuner
    from tercet.llm import LLM, GenerationResult
    from tercet.models.config import ModelConfig
    from tercet.monitoring.monitor import Monitor
    from tercet.sampling.params import SamplingParams
    from tercet.security.config import SecurityConfig
    from tercet.service.async_llm import AsyncLLM
    from tercet.service.secure_llm import SecureLLM
    from tercet.service.text_request import TextRequest, TextResponse
    from tercet.tokenization.tokenizer import Tokenizer

    __version__: str

__all__ = [
    "LLM",
    "AsyncLLM",
    "ChecksumError",
    "ContentFilteredError",
    "ContextLengthError",
    "DeadlineError",
    "FineTuner",
    "FormatError",
    "GenerationError",
    "GenerationResult",
    "InvalidInputError",
    "IsaError",
    "MemoryLimitError",
    "MissingExtraError",
    "ModelConfig",
    "ModelNotFoundError",
    "Monitor",
    "OverloadedError",
    "ParameterError",
    "RateLimitError",
    "ResponseFilteredError",
    "SamplingParams",
    "SecureLLM",
    "SecurityConfig",
    "SecurityError",
    "StorageError",
    "TercetError",
    "TextRequest",
    "TextResponse",
    "Tokenizer",
    "TrainingError",
    "UnavailableError",
    "UnsupportedFormatError",
    "UnsupportedModelError",
    "__version__",
]

_MODULES = {
    "AsyncLLM": "tercet.service.async_llm",
    "FineTuner": "tercet.finetuning.finetuner",
    "LLM": "tercet.llm",
    "GenerationResult": "tercet.llm",
    "ModelConfig": "tercet.models.config",
    "Monitor": "tercet.monitoring.monitor",
    "SamplingParams": "tercet.sampling.params",
    "SecureLLM": "tercet.service.secure_llm",
    "SecurityConfig": "tercet.security.config",
    "TextRequest": "tercet.service.text_request",
    "TextResponse": "tercet.service.text_request",
    "Tokenizer": "tercet.tokenization.tokenizer",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'tercet' has no attribute {name!r}")
    value: object
    if name == "__version__":
        from importlib.metadata import version

        value = version("tercet")
    else:
        from importlib import import_module

        value = getattr(import_module(_MODULES.get(name, "tercet.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
