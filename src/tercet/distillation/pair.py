"""Teacher and student as networks, made from model files and checked against each other.

A student that is made from its teacher gets an RMSNorm in front of o and down (SubLN), where ternary layers
need their input at a known size. A norm with weights of one would change what the layer says; its weights
begin at the median size that the teacher has there on a first text, so that with λ = 0 the student still
speaks. (BitDistill begins with ones; the median, and not the mean, because the first tokens of a text are
hundreds of times larger than others in some layers of Llama-class models.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tercet.errors import ParameterError
from tercet.formats.huggingface.masters import master_blocks
from tercet.formats.huggingface.names import TensorNames
from tercet.models.config import ModelConfig
from tercet.models.loading import LoadedModel
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.training.model import TernaryDecoder

__all__ = ["calibrate_sub_norms", "check_pair", "fill", "relation_heads", "student_config", "values_of"]

NAMES = TensorNames("bitnet")
"""The network of training names its tensors like this."""


def student_config(teacher: ModelConfig, sub_norms: bool = True) -> ModelConfig:
    """The shape of a ternary student of the same size."""
    student = dataclasses.replace(teacher, quantize_activations=True)
    if not sub_norms:
        return student
    architecture = "bitnet" if teacher.architecture == "llama" else teacher.architecture
    return dataclasses.replace(student, architecture=architecture, attention_sub_norm=True, ffn_sub_norm=True)


def check_pair(teacher: LoadedModel, student: LoadedModel | None) -> None:
    """Refuse models that cannot learn from each other.

    A ternary teacher may teach a student that is there (one that was pruned from it, say); to make a student
    of it would be to make it of itself.

    Raises:
        ParameterError: a ternary teacher is to make a student, the student's scales are not those that it is
            trained with, or the two have different tokenizers.
    """
    if student is None:
        for name, info in teacher.tensors.items():
            if is_ternary(name) and info.granularity is not None and not info.is_master:
                raise ParameterError(
                    f"the teacher {teacher.path} is ternary itself ({name} is stored as {info.type}); "
                    "a student is made of a full-precision model"
                )
        return
    for name, info in student.tensors.items():
        if is_ternary(name) and info.granularity not in ("tensor", None):
            raise ParameterError(
                f"the student {student.path} has a scale for each {info.granularity} of {name}; "
                "a student learns with one for each matrix"
            )
    ours, theirs = student.config.vocab_size, teacher.config.vocab_size
    if ours != theirs:
        raise ParameterError(
            f"teacher and student do not match: {teacher.path} has a vocabulary of {theirs} tokens, "
            f"{student.path} one of {ours}. Their logits can only be compared token by token."
        )
    probe = "Once upon a time, 1234 ways to say naïve.\n\tdef f(x): return {x: 'y'}"
    if student.tokenizer().encode(probe) != teacher.tokenizer().encode(probe):
        raise ParameterError(
            f"teacher and student do not match: the tokenizers of {teacher.path} and {student.path} "
            "give different tokens for the same text"
        )


def values_of(model: LoadedModel, name: str, masters: bool) -> npt.NDArray[np.float32]:
    """The float weights of a tensor.

    With `masters` those that absmean rounds to the model's own codes and scale: the stored ones, or some that
    are made up where a file has only codes. Without, the weights that the file computes with.
    """
    if masters and name in model.masters:
        return model.masters[name].float32().reshape(model.tensors[name].shape)
    weight = model.reference_weights[name]
    if isinstance(weight, np.ndarray):
        return weight
    if not masters or not is_ternary(name) or weight.scales.ndim:
        return weight.dequantize()
    return np.concatenate(list(master_blocks(weight.codes, np.float32(weight.scales), "f32")))


def fill(network: TernaryDecoder, values: Mapping[str, npt.NDArray[np.float32]] | LoadedModel) -> None:
    """Put weights into a network; tensors that are not given keep what they have (sub-norms: ones)."""
    names = values.tensors if isinstance(values, LoadedModel) else values
    masters = network.quantization.weight_rule != "none"
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name in tensor_shapes(network.config):
            if name in names:
                found = values_of(values, name, masters) if isinstance(values, LoadedModel) else values[name]
                parameters[NAMES.tensor(name)].copy_(torch.from_numpy(np.ascontiguousarray(found)))


def relation_heads(teacher: ModelConfig, student: ModelConfig) -> int:
    """Into how many heads states are cut to be compared."""
    heads = min(teacher.num_kv_heads, student.num_kv_heads)
    widths = [width for config in (teacher, student) for width in (config.query_size, config.kv_size)]
    return heads if all(width % heads == 0 for width in widths) else 1


def calibrate_sub_norms(teacher: TernaryDecoder, student: TernaryDecoder, windows: Tensor) -> None:
    """Set the weights of the student's sub-norms to the size of what the teacher has in their place."""
    sizes: dict[str, float] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sizes[name] = float(inputs[0].float().square().mean(dim=-1).sqrt().median())

        return module.register_forward_pre_hook(see)

    watched = {}
    for index in range(teacher.config.num_layers):
        layer = f"model.layers.{index}"
        watched[f"{layer}.self_attn.attn_sub_norm.weight"] = teacher.get_submodule(
            f"{layer}.self_attn.o_proj"
        )
        watched[f"{layer}.mlp.ffn_sub_norm.weight"] = teacher.get_submodule(f"{layer}.mlp.down_proj")
    handles = [watch(name, module) for name, module in watched.items()]
    with torch.no_grad():
        teacher.logits(windows)
        for name, parameter in student.named_parameters():
            if name in sizes:
                parameter.fill_(sizes[name])
    for handle in handles:
        handle.remove()
