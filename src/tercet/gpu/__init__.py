"""The decoder on NVIDIA GPUs: ternary weights at two bits, int8 activations, kernels in Triton.

    device       which GPU, and what it has
    decoder      the decoder: what the engine calls in the place of `tercet.kernels.decoder`
    model        the layers: what is uploaded, and the order of a step
    attention    the paged cache, and attention over it
    linear       matrices that multiply the same input
    inputs       what an input goes through on its way in
    products     which kernel computes a product, in which blocks
    weights      matrices in the GPU's memory
    batch        the indices of a step, checked
    graphs       steps recorded once and replayed
    adapter      low-rank additions (LoRA)
    timing       how long products take, beside PyTorch's in bfloat16
    kernels      the Triton source

`tercet.reference` is the specification here too. PyTorch and Triton (the extra `gpu`) are imported by
everything but `device`.
"""
