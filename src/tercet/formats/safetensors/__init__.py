"""The safetensors format: reading by mapping, writing by streaming, folders with an index of shards.

    8 bytes  length of the header, little endian
    header   JSON: {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {str: str}}
    data     the tensors, tiling the rest of the file without a gap

The `safetensors` library reads into copies, and NumPy has no bfloat16 for it to return. So the bytes are
mapped here, under the library's own rules (its documentation, "Format"); the tests compare with the library.
"""

from __future__ import annotations

from tercet.formats.safetensors.reader import SafetensorsFile, SafetensorsFolder, StoredTensor
from tercet.formats.safetensors.writer import (
    FLOAT_DTYPES,
    SafetensorsPlan,
    SafetensorsWriter,
    TensorSpec,
    write_safetensors,
)

__all__ = [
    "FLOAT_DTYPES",
    "SafetensorsFile",
    "SafetensorsFolder",
    "SafetensorsPlan",
    "SafetensorsWriter",
    "StoredTensor",
    "TensorSpec",
    "write_safetensors",
]
