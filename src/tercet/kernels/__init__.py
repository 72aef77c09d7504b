"""The typed face of the C++ core `tercet._core`, and its only importer.

    isa             which instruction sets there are, and which one is used, and why
    introspection   which kernel does what, whether it passes its self-test, how fast this machine is at best
    packing         codes to packed bytes and back
    linear          ternary matrices times int8 activations, exact
    floats          the float kernels one by one
    decoder         the whole forward pass over a paged cache
    adapter         low-rank additions to it (LoRA)
    sampling        the next token from logits
    mapped_memory   mapped files that become shorter while they are read

Everything takes `isa=None`: None means the environment variable TERCET_ISA, or else the best instruction
set of this processor. An instruction set that the processor lacks is an IsaError that lists what it has,
never a silent fallback.
"""
