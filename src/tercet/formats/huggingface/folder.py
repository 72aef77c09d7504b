"""A folder of `BitNetForCausalLM` as transformers writes and loads it.

    config.json                the shape of the model
    generation_config.json     sampling settings, end-of-sequence ids
    model.safetensors          or shards and model.safetensors.index.json
    tokenizer.json             and tokenizer_config.json, chat_template.jinja

Weights are never read from pickled files.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.environment import atomic_write
from tercet.errors import FormatError, ModelNotFoundError, StorageError
from tercet.formats.fields import Fields, parse_json
from tercet.formats.huggingface import config as model_config
from tercet.formats.huggingface import generation as generation_config
from tercet.formats.mapped_file import read_bytes
from tercet.formats.safetensors import SafetensorsFolder, StoredTensor, write_safetensors

__all__ = ["HuggingFaceFolder", "write_folder"]

CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"


class HuggingFaceFolder:
    """A folder, opened: small files parsed and translated, tensors mapped.

    Raises:
        FormatError: a file is malformed.
        UnsupportedModelError: the folder holds a model that this release does not run.
        ModelNotFoundError: config.json or the weights are not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        config_file = self.path / CONFIG
        if not config_file.exists():
            raise ModelNotFoundError(f"{self.path} is not a model folder: it holds no {CONFIG}")
        config = self._json(CONFIG)
        self.model_fields: dict[str, Any] = model_config.to_model_fields(config, config_file)
        self.ternary_masters: bool = model_config.has_ternary_masters(config, config_file)
        """Whether the linear layers are float masters that become ternary on loading."""
        self.generation: dict[str, Any] = {}
        if (self.path / GENERATION).exists():
            self.generation, ends = generation_config.to_settings(
                self._json(GENERATION), self.path / GENERATION
            )
            # Both files name ends of turn (2B-4T: one each), and generation must stop at every one of them.
            known = self.model_fields["eos_token_ids"]
            self.model_fields["eos_token_ids"] = (*known, *(end for end in ends if end not in known))
        self.chat_template: str | None = self._read_chat_template()
        self._weights = SafetensorsFolder(self.path)

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """The tensors under the names of Hugging Face."""
        return self._weights.tensors

    def tokenizer_json(self) -> bytes | None:
        """Return `tokenizer.json`, or None if there is none."""
        path = self.path / TOKENIZER
        return read_bytes(path) if path.exists() else None

    def _json(self, name: str) -> dict[str, Any]:
        parsed = parse_json(read_bytes(self.path / name), self.path / name, "the file")
        if not isinstance(parsed, dict):
            raise FormatError(f"{self.path / name} holds a JSON {type(parsed).__name__}, expected an object")
        return parsed

    def _read_chat_template(self) -> str | None:
        if (self.path / CHAT_TEMPLATE).exists():
            try:
                return read_bytes(self.path / CHAT_TEMPLATE).decode("utf-8")
            except UnicodeDecodeError as error:
                raise FormatError(f"{self.path / CHAT_TEMPLATE} is not UTF-8: {error}") from error
        if not (self.path / TOKENIZER_CONFIG).exists():
            return None
        fields = Fields(self._json(TOKENIZER_CONFIG), self.path / TOKENIZER_CONFIG, "tokenizer_config")
        if "chat_template" not in fields:
            return None
        if not fields.is_list("chat_template"):
            return fields.text("chat_template")
        templates = {
            entry.text("name"): entry.text("template") for entry in fields.objects_of_list("chat_template")
        }
        return templates.get("default")


def write_folder(
    destination: str | os.PathLike[str],
    model_fields: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    tensors: Iterable[tuple[str, npt.NDArray[np.float32]]],
    *,
    float_type: str = "f32",
    tokenizer_json: bytes | None = None,
    chat_template: str | None = None,
    generation: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a folder of `BitNetForCausalLM`. It appears complete, under its name, or not at all.

    Args:
        destination: the folder to make.
        model_fields: what `ModelConfig.to_dict` returns.
        shapes: Hugging Face's name -> shape of every tensor, in the order of `tensors`.
        tensors: names and values, taken one at a time.
        float_type: how the tensors are stored: `f32` or `bf16`.
        tokenizer_json: the bytes of tokenizer.json.
        chat_template: goes into tokenizer_config.json.
        generation: sampling settings in our names.
        overwrite: whether a model folder of this name may be replaced.

    Raises:
        ParameterError: a `BitNetForCausalLM` cannot be like this, or the tensors are not those of `shapes`.
        StorageError: the folder exists, or cannot be written.
    """
    target = Path(destination)
    config = model_config.from_model_fields(model_fields, float_type)
    _check_target(target, overwrite)
    temporary = target.with_name(f".tercet-{secrets.token_hex(8)}.tmp")
    try:
        temporary.mkdir()
    except OSError as error:
        raise _not_writable(target, error) from error
    try:
        _write_json(temporary / CONFIG, config)
        ends = (model_fields["bos_token_id"], model_fields["eos_token_ids"], model_fields["pad_token_id"])
        _write_json(temporary / GENERATION, generation_config.from_settings(generation or {}, *ends))
        if tokenizer_json is not None:
            with atomic_write(temporary / TOKENIZER) as file:
                file.write(tokenizer_json)
            _write_json(
                temporary / TOKENIZER_CONFIG, _tokenizer_config(tokenizer_json, chat_template, model_fields)
            )
        write_safetensors(temporary / "model.safetensors", shapes, tensors, float_type, {"format": "pt"})
        _move(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise StorageError(f"{target} exists already. Choose another name, or ask to overwrite it.")
    if not target.is_dir() or (any(target.iterdir()) and not (target / CONFIG).exists()):
        raise StorageError(
            f"{target} is not a model folder (it holds no {CONFIG}), so it is not replaced by one."
        )


def _move(temporary: Path, target: Path) -> None:
    """Put the new folder in place of the old one. Folders cannot be exchanged in one step, so the old one
    waits aside."""
    aside = target.with_name(f".tercet-{secrets.token_hex(8)}.old")
    try:
        if target.exists():
            target.rename(aside)
        temporary.rename(target)
    except OSError as error:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise _not_writable(target, error) from error
    shutil.rmtree(aside, ignore_errors=True)


def _not_writable(target: Path, error: OSError) -> StorageError:
    reason = (error.strerror or str(error)).lower()
    return StorageError(
        f"cannot write the folder {target}: {reason}. Choose a place that exists and is yours to write to."
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8") + b"\n")


def _tokenizer_config(
    tokenizer_json: bytes, chat_template: str | None, model: Mapping[str, Any]
) -> dict[str, Any]:
    """Name the special tokens: transformers wants their text where we have their ids."""
    tokenizer = Fields(parse_json(tokenizer_json, TOKENIZER, "the tokenizer"), TOKENIZER, "tokenizer")
    text_of = {
        entry.integer("id"): entry.text("content") for entry in tokenizer.objects_of_list("added_tokens")
    }
    ids = {
        "bos_token": model["bos_token_id"],
        "eos_token": next(iter(model["eos_token_ids"]), None),
        "pad_token": model["pad_token_id"],
    }
    config: dict[str, Any] = {
        name: text_of[token_id] for name, token_id in ids.items() if token_id in text_of
    }
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model["max_context"],
        "clean_up_tokenization_spaces": False,
    }
    return config if chat_template is None else config | {"chat_template": chat_template}
