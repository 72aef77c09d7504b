"""transformers, run on a folder: its logits, with its rounding of activations watched, settled or taken away.

transformers rounds activations in two places, `ActQuant` (AutoBitLinear) and `BitLinear.activation_quant`.
Both are replaced while logits are computed here; what they are replaced by is an `int8 codes -> int8 codes`
rule, so that a test can see every code, and settle one that lies at a tie.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.integrations import bitnet

__all__ = ["Loaded", "eager"]

Codes = np.ndarray
Floats = np.ndarray


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """transformers decorates its quantizers with torch.compile, which takes minutes and changes no result.

    Matrices this small are faster on one thread, by far where the machine has other work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.compiler.set_stance("force_eager"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs: torch.jit and friends are deprecated, the CPU is slow
        yield
    torch.set_num_threads(threads)


class Loaded:
    """What transformers makes of a folder."""

    def __init__(self, folder: Path) -> None:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        # A quantized model is loaded in the types of its files, whatever is asked for.
        self.model = torch.nn.Module.float(model.eval())

    def logits(self, tokens: np.ndarray) -> Floats:
        """float32 [tokens, vocab] of one sequence, or [sequences, tokens, vocab] of several."""
        batch = torch.from_numpy(np.atleast_2d(tokens))
        logits = np.asarray(self.model(batch).logits.float())
        return logits if tokens.ndim == 2 else logits[0]

    def unrounded_logits(self, tokens: np.ndarray) -> Floats:
        """The same with the activations left as they are."""
        with _unrounded():
            return self.logits(tokens)

    def unrounded_state(self, tokens: np.ndarray) -> Floats:
        """float32 [hidden], what the head would read of the last token, activations left as they are."""
        with _unrounded():
            states = self.model.model(torch.from_numpy(tokens)[None]).last_hidden_state
        return np.asarray(states[0, -1].float())

    def settled_logits(self, tokens: np.ndarray, settle: Callable[[Floats, Floats], Codes]) -> Floats:
        """The same with codes that `settle` makes of activations and the factors that they are multiplied by.

        Args:
            tokens: one sequence.
            settle: (float32 [tokens, depth], float32 [tokens, 1]) -> int8 [tokens, depth]; called for the
                linear layers in the order in which they are used.
        """

        def codes_of(activation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            factor = 127 / activation.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
            codes = settle(activation[0].numpy(), factor[0].numpy())
            return torch.from_numpy(codes)[None], factor

        class Settled:
            @staticmethod
            def apply(activation: torch.Tensor) -> torch.Tensor:
                codes, factor = codes_of(activation)
                return codes.float() / factor

        def settled(layer: Any, activation: torch.Tensor, num_bits: int = 8) -> tuple[torch.Tensor, ...]:
            return codes_of(activation)

        with _replaced(Settled, settled):
            return self.logits(tokens)


@contextlib.contextmanager
def _unrounded() -> Iterator[None]:
    class Identity:
        @staticmethod
        def apply(activation: torch.Tensor) -> torch.Tensor:
            return activation

    def identity(layer: Any, activation: torch.Tensor, num_bits: int = 8) -> tuple[torch.Tensor, ...]:
        # What follows expects int8 and its scale; a type that changes nothing does as well.
        return activation, torch.ones(1)

    with _replaced(Identity, identity):
        yield


@contextlib.contextmanager
def _replaced(act_quant: Any, activation_quant: Any) -> Iterator[None]:
    originals = bitnet.ActQuant, bitnet.BitLinear.activation_quant
    bitnet.ActQuant, bitnet.BitLinear.activation_quant = act_quant, activation_quant
    try:
        yield
    finally:
        bitnet.ActQuant, bitnet.BitLinear.activation_quant = originals
