"""LoRA for ternary models: small matrices are trained, and the model's own stay as they are.

A ternary matrix takes no small change: below half a step a weight that moved is still the same code. So there
are three ways to use what an adapter has learned, and each is honest about what it keeps:

    kept        an adapter of floats stays beside the frozen codes, and the engine adds it while it runs:
                what was trained is what is served                        adapter_method, PEFT's folder
    merged      the adapter goes into the masters, and these are rounded again; much of it may vanish in the
                rounding, and a report says how much                      merge, merge_report
    ternary     an adapter of codes, which moves codes by whole steps and merges exactly
                                                                          ternary_adapter, ternary_method

`tercet finetune --method lora` trains the first, `--method ternary-lora` the third; `tercet lora merge` does
the second, and writes files of the third, too.
"""

from __future__ import annotations

from tercet.finetuning.lora.adapter_method import LoraMethod
from tercet.finetuning.lora.ternary_method import TernaryLoraMethod

__all__ = ["LoraMethod", "TernaryLoraMethod"]
