"""What a folder will hold, worked out from a config and types before any weight is read.

    online    ternary matrices as masters in the float type of everything else
    packed    ternary matrices as uint8, four rows in one, each with `weight_scale`, a multiplier
    floats    every weight as a float; a ternary matrix as code * scale

All floats of a folder are of one type, scales too: transformers loads a packed folder in the types that it
finds, and a float32 scale beside bfloat16 norms ends in an error in the first layer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, ParameterError
from tercet.formats.fields import Fields, parse_json
from tercet.formats.floats import FLOAT_TYPES, from_float32, has_only_finite, to_float32
from tercet.formats.huggingface import generation as generation_config
from tercet.formats.huggingface.config_writer import family_of_model, from_model_fields
from tercet.formats.huggingface.folder import CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG
from tercet.formats.huggingface.masters import master_blocks
from tercet.formats.huggingface.names import NORM_SUFFIXES, TensorNames
from tercet.formats.huggingface.packing import ROWS_PER_BYTE, pack_rows
from tercet.formats.huggingface.pooling import pooling_files
from tercet.formats.huggingface.weights import SCALE_SUFFIX
from tercet.formats.matrices import FloatMatrix
from tercet.formats.safetensors import FLOAT_DTYPES, SafetensorsPlan, TensorSpec
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["FolderPlan"]

BLOCK_ELEMENTS = 1 << 20
Weight = TernaryTensor | FloatMatrix
Block = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class FolderPlan:
    """A folder to be written.

    Raises:
        ParameterError: no class of transformers is like the model, or it cannot be stored like this.
    """

    model_fields: Mapping[str, Any]
    """What `ModelConfig.to_dict` returns."""
    shapes: Mapping[str, tuple[int, ...]]
    """Canonical name -> shape of every tensor."""
    ternary: Mapping[str, str]
    """Canonical name -> granularity of the scales, of every matrix that is ternary."""
    storage: str
    float_type: str
    tokenizer_json: bytes | None = None
    chat_template: str | None = None
    generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.float_type not in FLOAT_TYPES:
            raise ParameterError(
                f"there is no float type {self.float_type!r}; the types are {', '.join(FLOAT_TYPES)}"
            )
        self.config()
        for name, granularity in self.ternary.items():
            if self.storage != "floats" and granularity != "tensor":
                raise ParameterError(
                    f"{name} has a scale per {granularity}, and a BitLinear of transformers has one "
                    "per matrix: write a .tercet or GGUF file instead"
                )
            if self.storage == "packed" and self.shapes[name][0] % ROWS_PER_BYTE:
                raise ParameterError(
                    f"{name} has {self.shapes[name][0]} rows, and transformers packs matrices whose number "
                    f"of rows is a multiple of {ROWS_PER_BYTE}. Write a folder of masters (huggingface)."
                )

    def config(self) -> dict[str, Any]:
        """Return the content of config.json."""
        kept = [self.names.module(name) for name in self._kept()]
        config = from_model_fields(self.model_fields, self.float_type, self.storage)
        if kept and "quantization_config" in config:
            config["quantization_config"]["modules_to_not_convert"] = ["lm_head", *kept]
        return config

    @property
    def names(self) -> TensorNames:
        """The names of this folder's tensors."""
        family = family_of_model(self.model_fields)
        return TensorNames(family.name, "model." if family.has_head else "", NORM_SUFFIXES[0])

    def small_files(self) -> dict[str, bytes]:
        """Return every file of the folder but the weights, by name."""
        model = self.model_fields
        ends = (model["bos_token_id"], model["eos_token_ids"], model["pad_token_id"])
        files = {
            CONFIG: _json(self.config()),
            GENERATION: _json(generation_config.from_settings(self.generation, *ends)),
        }
        if self.tokenizer_json is not None:
            files[TOKENIZER] = _with_first_token(self.tokenizer_json, model)
            files[TOKENIZER_CONFIG] = _json(_tokenizer_config(self.tokenizer_json, self.chat_template, model))
        if model.get("pooling"):
            files |= pooling_files(model["hidden_size"], model.get("normalize_embeddings", False))
        return files

    def safetensors(self) -> SafetensorsPlan:
        """Return what model.safetensors will hold, in order."""
        return SafetensorsPlan([spec for name in self.shapes for spec in self.specs(name)], {"format": "pt"})

    def specs(self, name: str) -> list[TensorSpec]:
        """Return the one or two tensors that hold the one with this canonical name."""
        stored, shape = self.names.tensor(name), self.shapes[name]
        if self.storage == "packed" and name in self.ternary:
            packed = (shape[0] // ROWS_PER_BYTE, shape[1])
            scale = TensorSpec(stored + SCALE_SUFFIX, FLOAT_DTYPES[self.float_type], (1,))
            return [TensorSpec(stored, "U8", packed), scale]
        return [TensorSpec(stored, FLOAT_DTYPES[self.float_type], shape)]

    def blocks(self, name: str, weight: Weight) -> list[Iterable[Block]]:
        """Return what is written for each of `specs(name)`, in blocks.

        Raises:
            FormatError: a value is too large for the float type.
        """
        if isinstance(weight, FloatMatrix):
            return [self._floats(name, self._float_blocks(name, weight))]
        if self.storage == "packed":
            return [[pack_rows(weight.codes)], [self._scale(name, weight.scales)]]
        if self.storage == "online":
            scale = np.float32(weight.scales)
            return [self._floats(name, master_blocks(weight.codes, scale, self.float_type))]
        return [self._floats(name, _real_blocks(weight))]

    def _kept(self) -> list[str]:
        """Matrices of the layers that stay floats although others become ternary."""
        linear = ("q", "k", "v", "o", "gate", "up", "down")
        return [
            name
            for name, shape in self.shapes.items()
            if len(shape) == 2 and name.rpartition(".")[2] in linear and name not in self.ternary
        ]

    def _float_blocks(self, name: str, weight: FloatMatrix) -> Iterator[npt.NDArray[np.float32]]:
        # Gemma's norms multiply by 1 + weight, where ours multiply by the weight.
        is_gemma = self.model_fields.get("post_norms", False)
        is_norm = len(self.shapes[name]) == 1 and not name.endswith(".input_norm")
        offset = np.float32(1 if is_gemma and is_norm else 0)
        for start in range(0, weight.data.size, BLOCK_ELEMENTS):
            yield to_float32(weight.data[start : start + BLOCK_ELEMENTS], weight.type) - offset

    def _scale(self, name: str, scale: npt.NDArray[np.float32]) -> Block:
        stored = from_float32(scale.reshape(1), self.float_type)
        if not 0 < to_float32(stored, self.float_type)[0] < np.inf:
            raise FormatError(
                f"the scale of {name}, {float(scale)}, is not in the range of {self.float_type}. "
                "Write bf16 or f32 instead."
            )
        return stored

    def _floats(self, name: str, blocks: Iterable[npt.NDArray[np.float32]]) -> Iterator[Block]:
        for block in blocks:
            stored = from_float32(block, self.float_type)
            if not has_only_finite(stored, self.float_type) and np.isfinite(block).all():
                raise FormatError(
                    f"tensor {name} holds values too large for {self.float_type}. Write bf16 or f32 instead."
                )
            yield stored


def _real_blocks(weight: TernaryTensor) -> Iterator[npt.NDArray[np.float32]]:
    rows, depth = weight.shape
    step = max(1, BLOCK_ELEMENTS // depth)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scales = weight.scales[part] if weight.scales.ndim else weight.scales
        yield TernaryTensor(weight.codes[part], scales).dequantize()


def _with_first_token(tokenizer_json: bytes, model: Mapping[str, Any]) -> bytes:
    """Let a tokenizer begin every text with the model's first token, where it says nothing about that.

    Other programs ask the tokenizer alone: transformers 5 ignores `add_bos_token` beside a tokenizer.json.
    """
    value = parse_json(tokenizer_json, TOKENIZER, "the tokenizer")
    tokenizer = Fields(value, TOKENIZER, "tokenizer")
    bos = model["bos_token_id"]
    names = [
        entry.text("content")
        for entry in tokenizer.objects_of_list("added_tokens")
        if entry.integer("id") == bos
    ]
    if not (model["add_bos"] and names and isinstance(value, dict) and value.get("post_processor") is None):
        return tokenizer_json
    first, second = (
        [{"SpecialToken": {"id": names[0], "type_id": kind}}, {"Sequence": {"id": text, "type_id": kind}}]
        for kind, text in enumerate("AB")
    )
    template = {
        "type": "TemplateProcessing",
        "single": first,
        "pair": [*first, *second],
        "special_tokens": {names[0]: {"id": names[0], "ids": [bos], "tokens": [names[0]]}},
    }
    whole = {**value, "post_processor": template}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


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
        "add_bos_token": model["bos_token_id"] is not None and model["add_bos"],
    }
    return config if chat_template is None else config | {"chat_template": chat_template}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8") + b"\n"
