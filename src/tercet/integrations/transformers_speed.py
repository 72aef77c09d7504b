"""How fast transformers generates with a model of some shape in bfloat16: for `tercet bench`.

The class is that which transformers has for the shape; its weights are all the same number, since PyTorch's
products do not look at values either.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from tercet.environment import optional_import
from tercet.formats.huggingface.config_writer import from_model_fields

__all__ = ["transformers_seconds"]

_EXTRA = "transformers"
_WEIGHT = 0.01


class _Config(Protocol):
    """A `tercet.models.config.ModelConfig`."""

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-compatible values."""


def transformers_seconds(config: _Config, threads: int, context: int, tokens: int, runs: int) -> list[float]:
    """Return the seconds of each of `runs` generations of `tokens` tokens after `context` others.

    One more generation comes before as a warm-up. PyTorch's number of threads is as before afterwards.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ParameterError: transformers has no class for such a model.
    """
    torch = optional_import("torch", _EXTRA)
    transformers = optional_import("transformers", _EXTRA)
    fields = from_model_fields({**config.to_dict(), "quantize_activations": False}, "bf16", "floats")
    theirs = transformers.AutoConfig.for_model(**fields)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(theirs, dtype=torch.bfloat16)
        model.to_empty(device="cpu")
        with torch.inference_mode():
            for weight in model.parameters():
                weight.fill_(_WEIGHT)
        rotary = model.model.rotary_emb  # the only other state, which has to be computed
        model.model.rotary_emb = type(rotary)(config=theirs)
        model.eval()
        return [_generate(torch, model, context, tokens) for _ in range(runs + 1)][1:]
    finally:
        torch.set_num_threads(before)


def _generate(torch: Any, model: Any, context: int, tokens: int) -> float:
    with torch.inference_mode():
        state = model(torch.ones((1, context), dtype=torch.long), use_cache=True)
        started = time.perf_counter()
        for _ in range(tokens):
            chosen = state.logits[:, -1:].argmax(-1)
            state = model(chosen, past_key_values=state.past_key_values, use_cache=True)
        return time.perf_counter() - started
