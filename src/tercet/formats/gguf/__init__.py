"""GGUF, the format of llama.cpp and its relatives: all their ternary types read, what they open written.

    open_gguf(path)      a file understood as a model: fields, canonical names, codes and scales in our order
    GgufFile(path)       the file itself: metadata and tensors under its own names
    write_gguf(path)     a whole model, streamed; appears complete or not at all

    values, header, placement      bytes -> metadata and tensors, every length checked
    file, ternary, tensor_types    tensors -> real values, or codes and scales
    i2_s_layout                    which of three layouts bitnet.cpp's weights are in
    model, model_fields, tensor_names, vocabulary, rotation      what the file means
    stored                         a file as loading takes it
    writer, encoding, model_writer                               the way back

Several programs write files of this name and do not agree: numbers of types collide, one type has three
layouts that nothing announces, another changed its block size, scales may be in tensors of their own, and
weights may be turned into another basis. Each of these is recognized by what the file itself shows, or the
file is refused; none is guessed in silence.
"""

from __future__ import annotations

from tercet.formats.gguf.file import GgufFile, StoredGgufTensor
from tercet.formats.gguf.i2_s_layout import LayoutFinding
from tercet.formats.gguf.model import GgufModel, open_gguf
from tercet.formats.gguf.model_writer import write_gguf
from tercet.formats.gguf.rotation import HadamardRotation
from tercet.formats.gguf.stored import stored_model
from tercet.formats.gguf.tensor_types import KernelConfig, parse_kernel_config
from tercet.formats.gguf.vocabulary import GgufVocabulary, TokenType

__all__ = [
    "GgufFile",
    "GgufModel",
    "GgufVocabulary",
    "HadamardRotation",
    "KernelConfig",
    "LayoutFinding",
    "StoredGgufTensor",
    "TokenType",
    "open_gguf",
    "parse_kernel_config",
    "stored_model",
    "write_gguf",
]
