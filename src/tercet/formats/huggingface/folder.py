"""Reading a model folder as transformers writes it.

    config.json                the architecture, and how the linear layers are stored
    generation_config.json     sampling settings, end-of-sequence ids
    model.safetensors          or shards and model.safetensors.index.json
    tokenizer.json             and tokenizer_config.json, chat_template.jinja
    modules.json               how an embedding model makes one vector of its tokens

Weights are never read from pickled files, and code in the folder is never run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tercet.errors import FormatError, ModelNotFoundError, UnsupportedModelError
from tercet.formats.fields import Fields, parse_json
from tercet.formats.huggingface import config as model_config
from tercet.formats.huggingface import generation as generation_config
from tercet.formats.huggingface.names import NORM_SUFFIXES, TensorNames
from tercet.formats.huggingface.pooling import read_pooling
from tercet.formats.huggingface.quantization import ONLINE, Quantization
from tercet.formats.huggingface.special_tokens import begins_with_bos
from tercet.formats.huggingface.weights import SCALE_SUFFIX, float_weight, linear_weight, unpacked_weight
from tercet.formats.mapped_file import read_bytes
from tercet.formats.safetensors import SafetensorsFolder, StoredTensor
from tercet.formats.stored_model import StoredModel, StoredWeight

__all__ = ["CHAT_TEMPLATE", "CONFIG", "GENERATION", "TOKENIZER", "TOKENIZER_CONFIG", "HuggingFaceFolder"]

CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"

_IGNORED = (".rotary_emb.inv_freq",)
"""Tensors of old folders that follow from the config."""
_LINEAR = (
    ".attention.q",
    ".attention.k",
    ".attention.v",
    ".attention.o",
    ".ffn.gate",
    ".ffn.up",
    ".ffn.down",
)


class HuggingFaceFolder:
    """A folder, opened: small files parsed and translated, tensors mapped.

    Raises:
        FormatError: a file is malformed.
        UnsupportedModelError: the folder holds a model that Tercet does not run.
        ModelNotFoundError: config.json or the weights are not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        config_file = self.path / CONFIG
        if not config_file.exists():
            raise ModelNotFoundError(f"{self.path} is not a model folder: it holds no {CONFIG}")
        config = self._json(CONFIG)
        self.family = model_config.family_of(config, config_file)
        self.model_fields: dict[str, Any] = model_config.to_model_fields(config, config_file)
        self.quantization: Quantization = model_config.quantization_of(config, config_file)
        """How the linear layers are stored."""
        self.generation: dict[str, Any] = {}
        if (self.path / GENERATION).exists():
            self.generation, ends = generation_config.to_settings(
                self._json(GENERATION), self.path / GENERATION
            )
            # Both files name ends of turn (2B-4T: one each), and generation must stop at every one of them.
            known = self.model_fields["eos_token_ids"]
            self.model_fields["eos_token_ids"] = (*known, *(end for end in ends if end not in known))
        self.chat_template: str | None = self._read_chat_template()
        self._add_use_of_bos()
        self._weights = SafetensorsFolder(self.path)
        self._names = TensorNames.of_folder(self.family.name, self.tensors)
        self._refuse_what_would_be_ignored()
        self._add_projection_norms()
        self._add_pooling()
        self.weights: Mapping[str, StoredWeight] = self._stored_weights()
        """Canonical name -> tensor."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """The tensors under the names of Hugging Face."""
        return self._weights.tensors

    @property
    def weight_files(self) -> tuple[str, ...]:
        """The names of the files that the tensors are in."""
        return tuple(file.path.name for file in self._weights.files)

    @property
    def kind(self) -> str:
        """What the folder is, for people."""
        storage = self.quantization
        form = ""
        if storage.is_ternary:
            form = ", masters" if storage.online else ", packed"
        elif any(weight.granularity is not None for weight in self.weights.values()):
            form = ", ternary weights as floats"
        return f"folder of {self.family.class_name}{form}"

    def tokenizer_json(self) -> bytes | None:
        """Return `tokenizer.json`, or None if there is none."""
        path = self.path / TOKENIZER
        return read_bytes(path) if path.exists() else None

    def stored_model(self) -> StoredModel:
        """Return all of it."""
        return StoredModel(
            path=self.path,
            kind=self.kind,
            model_fields=self.model_fields,
            weights=self.weights,
            tokenizer_json=self.tokenizer_json(),
            chat_template=self.chat_template,
            generation=self.generation,
            release=self._weights.release,
        )

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

    def _add_use_of_bos(self) -> None:
        """config.json names a begin-of-text token even where the tokenizer knows none, or does not use it."""
        file = self.path / TOKENIZER_CONFIG
        settings = self._json(TOKENIZER_CONFIG) if file.exists() else None

        def tokenizer() -> dict[str, Any]:
            return self._json(TOKENIZER) if (self.path / TOKENIZER).exists() else {}

        self.model_fields["add_bos"] = begins_with_bos(settings, tokenizer, file)
        if settings is not None and settings.get("bos_token") is None:
            self.model_fields["bos_token_id"] = None

    def _refuse_what_would_be_ignored(self) -> None:
        biases = [name for name in self.tensors if name.endswith(".bias")]
        if biases:
            raise UnsupportedModelError(f"{self.path} has biases ({biases[0]}), which Tercet does not run")
        if self.quantization.is_ternary and self.quantization.converts("lm_head"):
            raise UnsupportedModelError(
                f"{self.path}: modules_to_not_convert does not name lm_head, so that the output head "
                "rounds its inputs to int8, too, which Tercet does not run"
            )

    def _add_projection_norms(self) -> None:
        """Microsoft's embedding models say only by their tensors that a norm is in each linear layer; their
        masters become ternary and their activations int8."""
        has_norms = any(f"proj{suffix}.weight" in name for name in self.tensors for suffix in NORM_SUFFIXES)
        if has_norms and not self.model_fields.get("projection_norms"):
            if not self.quantization.is_ternary:
                self.quantization = ONLINE
            self.model_fields |= {"projection_norms": True, "quantize_activations": True}

    def _add_pooling(self) -> None:
        pooling = read_pooling(self.path)
        if not pooling and not self.family.has_head:
            # Without modules.json it is what the embedding models of these families do.
            pooling = {"pooling": "last", "normalize_embeddings": True}
        self.model_fields |= pooling

    def _stored_weights(self) -> dict[str, StoredWeight]:
        weights: dict[str, StoredWeight] = {}
        for name, tensor in self.tensors.items():
            canonical = self._names.canonical(name)
            is_scale = name.endswith(SCALE_SUFFIX) and name.removesuffix(SCALE_SUFFIX) in self.tensors
            if is_scale or name.endswith(_IGNORED):
                continue
            if canonical == "output_head" and self.model_fields["tied_embeddings"]:
                continue  # a copy of the embedding, or a head that transformers throws away when it ties them
            weights[canonical or name] = self._stored_weight(canonical, tensor)
        return weights

    def _stored_weight(self, canonical: str | None, tensor: StoredTensor) -> StoredWeight:
        is_linear = canonical is not None and canonical.endswith(_LINEAR)
        if canonical and is_linear and self.quantization.converts(self._names.module(canonical)):
            return linear_weight(tensor, self.tensors, self.quantization)
        if not self.quantization.is_ternary and (unpacked := unpacked_weight(tensor)) is not None:
            return unpacked
        is_norm_of_gemma = (
            self.family.name == "gemma3"
            and canonical is not None
            and len(tensor.shape) == 1
            and not canonical.endswith(".input_norm")
        )
        return float_weight(tensor, offset=1.0 if is_norm_of_gemma else 0.0)
