"""Compiles every GPU kernel that a decoder launches, for a GPU that need not be there.

    python gpu_compiled.py 90          # the compute capability, without the dot
    python gpu_compiled.py 90 256      # and with heads of another width

The launches are the real ones, of a model with the dimensions of BitNet b1.58 2B-4T and one layer: at each,
the kernel is compiled down to machine code for the types and options of the launch, and not run. Standard
output gets a JSON object for each kernel: its name and constants, the bytes of shared memory, and the
instructions for products of matrices and of bytes in its code.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from typing import Any

import numpy as np
import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction

from random_decoders import packed_model
from tercet.gpu.decoder import Decoder, KvCache
from tercet.models.shapes import shape

INSTRUCTIONS = re.compile(r"\b(dp4a|(?:wgmma\.)?mma(?:\.sync|_async)[\w.]*|tcgen05\.mma[\w.:]*)")
_SEEN: set[str] = set()
_TYPES = {
    torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.int8: "i8", torch.int32: "i32", torch.int64: "i64",
}  # fmt: skip


def main(capability: int, head_dim: int = 128) -> None:
    """Run a prompt and single tokens through a decoder whose launches compile."""
    target = GPUTarget("cuda", capability, 32)

    def launch(kernel: JITFunction[Any], *args: Any, grid: object, warmup: bool, **options: Any) -> None:
        constants = {name: options.pop(name) for name in kernel.arg_names if name in options}
        signature, attributes = {}, {}
        for index, (name, value) in enumerate(zip(kernel.arg_names, args, strict=False)):
            signature[name] = _type(value)
            if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
                attributes[(index,)] = [["tt.divisibility", 16]]
        signature |= dict.fromkeys(constants, "constexpr")
        key = f"{kernel.__name__} {signature} {constants} {attributes} {options}"
        if key in _SEEN:
            return
        _SEEN.add(key)
        source = ASTSource(kernel, signature, constants, attributes)
        made = compile(source, target=target, options=options)
        found = sorted(set(INSTRUCTIONS.findall(made.asm["ptx"])))
        shared = made.metadata.shared
        print(
            json.dumps({"kernel": kernel.__name__, "shared": shared, "constants": constants, "found": found})
        )

    JITFunction.run = launch
    config = dataclasses.replace(
        shape("2b4t"),
        num_layers=1,
        head_dim=head_dim,
        vocab_size=320,
        max_context=4096,
        bos_token_id=0,
        eos_token_ids=(1,),
    )
    decoder = Decoder(config, packed_model(config, head_type="bf16"), torch.device("cpu"))
    for dtype in ("f16", "f32", "int8"):
        cache = KvCache(decoder, 8, dtype=dtype)
        for starts in ([0, 1, 2],) if dtype == "int8" else ([0, 1], [0, 70]):
            num_sequences = len(starts) - 1
            tables = np.arange(8 // num_sequences * num_sequences).reshape(num_sequences, -1)
            decoder.forward(cache, np.zeros(starts[-1], np.int32), starts, [0] * num_sequences, tables, [0])


def _type(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return "*" + _TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
