"""Hugging Face model folders: `config.json` and its neighbours, in our names.

    config       config.json <-> the fields of a ModelConfig
    generation   generation_config.json <-> sampling settings
    folder       a folder of `BitNetForCausalLM`, read and written

Foreign names and conventions end here: what leaves this package speaks Tercet's language.
"""

from __future__ import annotations

from tercet.formats.huggingface.folder import HuggingFaceFolder, write_folder

__all__ = ["HuggingFaceFolder", "write_folder"]
