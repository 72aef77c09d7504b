"""A stored ternary model as a network of transformers that can be trained.

The class is the one that transformers has for the architecture, in full precision; its ternary matrices are
then replaced by `tercet.training.bitlinear.BitLinear`, whose forward pass rounds a float master anew each
time. So the loss of this network is the loss of the file that `tercet.finetuning.export` makes of it.

    folder with masters     they are taken as they are
    packed file             masters are made up for the codes (`tercet.finetuning.masters`)

With those made-up masters absmean gives back every code, and the scale to its last bit: training begins at
exactly the model that was given.
"""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from tercet.engine.opening import conversation_template
from tercet.errors import FormatError, ParameterError, UnsupportedModelError
from tercet.finetuning.masters import spread_masters
from tercet.formats.huggingface.config_writer import family_of_model, from_model_fields
from tercet.formats.huggingface.masters import master_blocks
from tercet.formats.huggingface.names import NORM_SUFFIXES, TensorNames
from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel, load_model
from tercet.models.registry import resolve
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.tokenization import ChatTemplate, Tokenizer
from tercet.training.bitlinear import BitLinear, Quantization

__all__ = ["Trainable", "load_trainable", "master_values"]


@dataclasses.dataclass(eq=False)
class Trainable:
    """A model that is ready to be trained."""

    network: PreTrainedModel
    """A class of transformers with a `BitLinear` wherever the file has a ternary matrix."""
    config: ModelConfig
    tokenizer: Tokenizer
    template: ChatTemplate | None
    has_master: bool
    """Whether the masters came with the model, or were made up for its codes."""
    path: Path
    source: LoadedModel
    """What it was made of: how tensors are stored there is how an export stores them."""
    quantization: Quantization
    """The one object that all `BitLinear` layers ask."""

    @property
    def names(self) -> TensorNames:
        """Translates canonical names into those of the network."""
        return _names(self.config)

    @property
    def ternary(self) -> tuple[str, ...]:
        """Canonical names of the matrices that are ternary, in order."""
        return _ternary(self.source)

    def values(self, name: str) -> npt.NDArray[np.float32]:
        """Return the weights of the tensor with this canonical name as the model files mean them.

        For a ternary matrix these are its masters, float32 [rows, depth].
        """
        values = self.parameter(name).detach().to("cpu", torch.float32).numpy()
        return values + _norm_offset(self.config, name)

    def parameter(self, name: str) -> nn.Parameter:
        """Return the parameter of the network that holds this tensor, also below an adapter of PEFT."""
        module = self.network.get_submodule(self.names.module(name))
        return cast(nn.Parameter, getattr(module, "base_layer", module).weight)

    def num_parameters(self) -> tuple[int, int]:
        """Return how many parameters are trained, and how many there are."""
        parameters = list(self.network.parameters())
        return sum(one.numel() for one in parameters if one.requires_grad), sum(
            one.numel() for one in parameters
        )


def load_trainable(
    model: str | os.PathLike[str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Trainable:
    """Open a ternary model for training.

    Args:
        model: a name, or the path of anything that Tercet reads; None is the model that ships with it.
        dtype: of the masters. Training in less than float32 loses what is smaller than a rounding.
        device: where the network is put.

    Raises:
        UnsupportedModelError: the model is not ternary, makes embeddings, has no tokenizer, or is one that
            no class of transformers computes.
        FormatError: the model is damaged, or its tokenizer is another model's.
        ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """
    source = load_model(resolve(model))
    config = source.config
    _check(source)
    tokenizer = source.tokenizer()
    network = _empty_network(source)
    quantization = Quantization.of_model(config)
    names = _names(config)
    for name in _ternary(source):
        path = names.module(name)
        linear = cast(nn.Linear, network.get_submodule(path))
        parent, _, attribute = path.rpartition(".")
        setattr(network.get_submodule(parent), attribute, BitLinear.from_linear(linear, quantization, name))
    _fill(network, source)
    cast(nn.Module, network).to(device=device, dtype=dtype)
    network.config.use_cache = False
    return Trainable(
        network=network,
        config=config,
        tokenizer=tokenizer,
        template=conversation_template(source, tokenizer),
        has_master=all(name in source.masters for name in _ternary(source)),
        path=source.path,
        source=source,
        quantization=quantization,
    )


def master_values(source: LoadedModel, name: str) -> npt.NDArray[np.float32]:
    """Return the weights of one tensor, with masters for a ternary matrix: float32, in its shape."""
    if name in source.masters:
        return source.masters[name].float32()
    weight = source.reference_weights[name]
    if not isinstance(weight, TernaryTensor):
        return weight
    if weight.scales.ndim:
        return weight.dequantize()
    if source.config.weight_rule == "sign":
        return np.concatenate(list(master_blocks(weight.codes, np.float32(weight.scales), "f32")))
    return spread_masters(weight, seed=zlib.crc32(name.encode()))


def _check(source: LoadedModel) -> None:
    if source.config.pooling is not None:
        raise UnsupportedModelError(
            f"{source.path} makes embeddings; fine-tuning teaches to continue texts, which it does not"
        )
    if source.tokenizer_json is None:
        raise UnsupportedModelError(
            f"{source.path} holds no tokenizer, so it cannot learn from texts. "
            "Convert it again from a folder that has one."
        )
    names = _ternary(source)
    if not names:
        raise UnsupportedModelError(
            f"{source.path} has no ternary matrices. Make it ternary first: "
            "tercet ternarize, or tercet distill."
        )
    if (rotation := source.config.rotation) and {*rotation.inputs, *rotation.outputs} - set(names):
        raise UnsupportedModelError(
            f"{source.path} has rotated embeddings, and training rotates inputs of ternary matrices only"
        )
    for name in names:
        if (granularity := source.tensors[name].granularity) != "tensor":
            raise UnsupportedModelError(
                f"{source.path}: {name} has a scale for each {granularity}, and training knows one for each "
                "matrix. Fine-tune the model that this one was converted from."
            )


def _ternary(source: LoadedModel) -> tuple[str, ...]:
    return tuple(
        name for name, info in source.tensors.items() if is_ternary(name) and info.granularity is not None
    )


def _names(config: ModelConfig) -> TensorNames:
    return TensorNames(
        family_of_model({**config.to_dict(), "rotation": None}).name, "model.", NORM_SUFFIXES[0]
    )


def _norm_offset(config: ModelConfig, name: str) -> np.float32:
    """Gemma's norms multiply by 1 + weight, where ours multiply by the weight."""
    is_norm = name.endswith("norm") and not name.endswith(".input_norm")
    return np.float32(1 if config.post_norms and is_norm else 0)


def _empty_network(source: LoadedModel) -> PreTrainedModel:
    # What the linear layers round is not the business of the class, but of the layers put into it.
    plain = {"quantize_activations": False, "rotation": None}
    fields: Mapping[str, Any] = {**source.config.to_dict(), **plain}
    try:
        description = AutoConfig.for_model(**from_model_fields(fields, "f32", "floats"))
    except ParameterError as error:
        raise UnsupportedModelError(f"{source.path} cannot be fine-tuned: {error}") from error
    with no_init_weights():
        network = AutoModelForCausalLM.from_config(description, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return cast(PreTrainedModel, network)


def _fill(network: PreTrainedModel, source: LoadedModel) -> None:
    names = _names(source.config)
    with torch.no_grad():
        for name in tensor_shapes(source.config):
            values = master_values(source, name) - _norm_offset(source.config, name)
            if not np.isfinite(values).all():
                raise FormatError(f"{source.path}: tensor {name} holds infinite values or NaN")
            network.get_parameter(names.tensor(name)).copy_(torch.from_numpy(values))
            source.release()
    network.tie_weights()
