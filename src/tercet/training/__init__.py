"""Training of ternary models in PyTorch: the only package (with its named neighbours) that imports torch.

The pieces, in the order in which a run meets them:

    settings      shapes and hyper-parameters with a name (`tiny`, ... `7b`); `variants` of them
    tokenizer     a byte-level BPE tokenizer trained on the corpus
    corpus        documents (text or chat) -> token files on disk, written as a stream
    windows       token file -> the batch of step n, a pure function of (seed, n)
    straight_through, bitlinear, model
                  the network whose weights are ternary in the forward pass
    schedule      learning rate, weight decay and quantization strength as functions of the step
    optimizers    Muon for matrices, AdamW for the rest (both from torch)
    start         weights to begin with, where they are not drawn at random
    loop          the run itself; `checkpoint` makes it survive being killed; `run_log` and `tensorboard` keep
                  its history; `evaluation` measures it, `interrupts` ends it early
    parallel      the same run in several processes: replicated or sharded (`sharding`); `ray_train` starts
                  them on a Ray cluster

A checkpoint is a `BitNetForCausalLM` folder with the state of the optimizers beside it, so everything
that reads such folders (`tercet convert`, transformers) reads checkpoints.
"""
