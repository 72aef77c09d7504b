"""Hugging Face model folders: `config.json` and its neighbours, in our names.

    families        which architectures are run, and why others are not
    config          config.json -> the fields of a ModelConfig       config_writer   and back
    rope            rotary positions and their scaling, both ways
    quantization    how the linear layers are stored, and which way their scale works
    names           what tensors are called in each family
    weights         tensors -> codes and scales, or floats           packing, masters   and back
    pooling         how an embedding model makes one vector
    generation      generation_config.json <-> sampling settings
    folder          a folder, opened                                 folder_plan, folder_writer   and written

Foreign names and conventions end here: what leaves this package speaks Tercet's language.
"""

from __future__ import annotations

from tercet.formats.huggingface.folder import HuggingFaceFolder
from tercet.formats.huggingface.folder_plan import FolderPlan
from tercet.formats.huggingface.folder_writer import write_folder

__all__ = ["FolderPlan", "HuggingFaceFolder", "write_folder"]
