"""Bytes on disk <-> named tensors. One package per format; none of them knows what a model is.

    tercet        the native file: mapped, checksummed, machine-independent
    gguf          the files of llama.cpp and its relatives, every ternary type of them
    safetensors   tensors of Hugging Face folders, mapped
    peft          adapters (LoRA)
    huggingface   config.json and its neighbours, and whole folders of the classes of transformers that we run

Everything here reads bytes that strangers wrote. So every reader checks before it believes: a length against
the file, a shape against a length, a type against a list. Whatever the bytes are, a reader returns or raises
`tercet.errors.FormatError` (or `StorageError`, when the operating system cannot read the file); never
anything else.
"""
