"""The layers: what is uploaded of a model, the order of a step. `tercet.reference.decoder` is its twin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tercet.errors import ParameterError
from tercet.gpu.attention import Attention, KvCache
from tercet.gpu.batch import Batch
from tercet.gpu.inputs import Preparation, Prepared
from tercet.gpu.linear import Linear, LinearGroup, LowRankUse, Turn
from tercet.gpu.weights import RowWeights, TernaryWeights, is_packed, upload, upload_ternary
from tercet.kernels.matrices import FloatMatrix, PlaneMatrix, TernaryMatrix
from tercet.quantization.activations import input_rounding
from tercet.reference.config import DecoderConfig

__all__ = ["Model"]

Matrices = Mapping[str, TernaryMatrix | PlaneMatrix | FloatMatrix]
Rotation = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer, in the order of its steps."""

    attention_input: Preparation
    query_key_value: LinearGroup
    attention: Attention
    is_local: bool
    """Whether its positions turn by the frequencies of layers with a window."""
    output_input: Preparation
    output: LinearGroup
    attention_post_norm: Preparation | None
    ffn_input: Preparation
    gate_up: LinearGroup
    gated: Preparation
    down: LinearGroup
    ffn_post_norm: Preparation | None


class Model:
    """A model in the GPU's memory.

    Args:
        config: dimensions and options.
        matrices: canonical name -> matrix; each is looked up once.
        device: where it goes.

    Raises:
        ParameterError: a matrix is missing, or the scales of one do not fit its shape.
        UnsupportedModelError: a matrix has a scale for groups that the kernels do not read.
    """

    def __init__(self, config: DecoderConfig, matrices: Matrices, device: torch.device) -> None:
        self.config = config
        self.device = device
        self._matrices = matrices
        self._embedding = upload("embedding", self._matrix("embedding"), device)
        self._embedding_turn = self._turn("embedding", is_table=True)
        self._layers = [self._layer(index) for index in range(config.num_layers)]
        self._final_norm = self._norm("final_norm")
        self._head = self._output_head()
        frequencies = (config.inverse_frequencies, config.local_inverse_frequencies)
        self._frequencies = [torch.tensor(one, device=device) for one in frequencies]
        own_base = config.rope_local_theta is not None
        self._rope_factors = (config.rope_attention_factor, 1.0 if own_base else config.rope_attention_factor)

    # A step -----------------------------------------------------------------------------------------

    def hidden_states(self, batch: Batch, cache: KvCache, uses: Sequence[LowRankUse] = ()) -> torch.Tensor:
        """Compute a step; float32 [rows, hidden], what the output head reads of the wanted tokens."""
        config = self.config
        x = self._embedding.floats_of(batch.token_ids)
        if self._embedding_turn is not None:
            x = self._embedding_turn.back(x)
        x = x * config.embedding_scale
        rotations = [self._rotation(batch.positions, kind) for kind in (0, 1)]
        keeps = bool(uses)
        added: torch.Tensor | None = None
        for index, layer in enumerate(self._layers):
            h = layer.attention_input(x, added, keeps=keeps)
            qkv = layer.query_key_value(h, uses)
            attended = layer.attention(qkv, rotations[layer.is_local], batch, cache, index)
            (added,) = layer.output(layer.output_input(attended, keeps=keeps), uses)
            added = _normalized(layer.attention_post_norm, added)
            h = layer.ffn_input(x, added, keeps=keeps)
            gate, up = layer.gate_up(h, uses)
            (added,) = layer.down(layer.gated(gate, up=up, keeps=keeps), uses)
            added = _normalized(layer.ffn_post_norm, added)
        if added is None:
            raise ValueError("a model has at least one layer")
        return _floats(self._final_norm(x[batch.rows], added[batch.rows]))

    def logits(self, batch: Batch, cache: KvCache, uses: Sequence[LowRankUse] = ()) -> torch.Tensor:
        """Compute a step; logits float32 [rows, vocab]."""
        states = self.hidden_states(batch, cache, uses)
        return self._head(Prepared(states, None, None))[0]

    def _rotation(self, positions: torch.Tensor, kind: int) -> Rotation:
        angles = positions.float()[:, None] * self._frequencies[kind]
        factor = self._rope_factors[kind]
        return torch.cos(angles) * factor, torch.sin(angles) * factor

    # Uploading --------------------------------------------------------------------------------------

    def _layer(self, index: int) -> _Layer:
        config, prefix = self.config, f"layers.{index}."
        attention, ffn = prefix + "attention.", prefix + "ffn."
        query_key_value = self._group([attention + part for part in "qkv"])
        output, down = self._group([attention + "o"]), self._group([ffn + "down"])
        gate_up = self._group([ffn + "gate", ffn + "up"])
        window = config.layer_windows[index]
        scale = config.attention_scale
        return _Layer(
            attention_input=self._norm(prefix + "attention_norm", query_key_value),
            query_key_value=query_key_value,
            attention=Attention(
                heads=config.num_heads,
                kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                scale=1 / math.sqrt(config.head_dim) if scale is None else scale,
                window=window,
                q_norm=self._vector(attention + "q_norm") if config.qk_norm else None,
                k_norm=self._vector(attention + "k_norm") if config.qk_norm else None,
                eps=config.rms_norm_eps,
            ),
            is_local=window is not None,
            output_input=self._preparation(
                config.num_heads * config.head_dim,
                output,
                attention + "sub_norm" if config.attention_sub_norm else None,
            ),
            output=output,
            attention_post_norm=self._post_norm(prefix + "attention_post_norm"),
            ffn_input=self._norm(prefix + "ffn_norm", gate_up),
            gate_up=gate_up,
            gated=self._preparation(
                self._matrix(ffn + "down").depth,
                down,
                ffn + "sub_norm" if config.ffn_sub_norm else None,
                config.activation,
            ),
            down=down,
            ffn_post_norm=self._post_norm(prefix + "ffn_post_norm"),
        )

    def _group(self, names: list[str]) -> LinearGroup:
        """Upload the matrices of an input, stacked where one product can compute them all."""
        matrices = [self._matrix(name) for name in names]
        packed = [one for one in matrices if is_packed(one)]
        turned = self.config.rotation.inputs if self.config.rotation is not None else ()
        kinds = {
            (one.scales.size // one.rows, name in turned) for name, one in zip(names, packed, strict=False)
        }
        if len(packed) == len(names) and len(kinds) == 1 and not self.config.projection_norms:
            stacked = upload_ternary(names, packed, self.device)
            return LinearGroup(names, [self._linear(names[0], stacked)])
        return LinearGroup(
            names,
            [
                self._linear(name, upload(name, matrix, self.device))
                for name, matrix in zip(names, matrices, strict=True)
            ],
        )

    def _linear(self, name: str, weights: TernaryWeights | RowWeights) -> Linear:
        config = self.config
        norm = None
        if config.projection_norms:
            weight = self._vector(name + ".input_norm")
            eps = config.rms_norm_eps if config.projection_norm_eps is None else config.projection_norm_eps
            norm = Preparation(len(weight), weight, eps, keeps=True, rounds=False)
        rounding = input_rounding(config.activation_rule, name) if config.quantize_activations else None
        return Linear(weights, rounding, norm, self._turn(name))

    def _output_head(self) -> LinearGroup:
        name = "embedding" if self.config.tied_embeddings else "output_head"
        weights = self._embedding if name == "embedding" else upload(name, self._matrix(name), self.device)
        return LinearGroup([name], [Linear(weights, None, None, self._turn(name))])

    def _norm(self, name: str, group: LinearGroup | None = None) -> Preparation:
        weight = self._vector(name)
        if group is None:
            return Preparation(len(weight), weight, self.config.rms_norm_eps, keeps=True, rounds=False)
        return self._preparation(len(weight), group, name)

    def _preparation(
        self, width: int, group: LinearGroup, norm: str | None, activation: str | None = None
    ) -> Preparation:
        weight = None if norm is None else self._vector(norm)
        return Preparation(
            width, weight, self.config.rms_norm_eps, activation, group.takes_floats, group.takes_codes
        )

    def _post_norm(self, name: str) -> Preparation | None:
        return self._norm(name) if self.config.post_norms else None

    def _turn(self, name: str, is_table: bool = False) -> Turn | None:
        """How inputs of a matrix are turned, or rows of a table turned back; None for not at all."""
        rotation = self.config.rotation
        if rotation is None or name not in (rotation.outputs if is_table else rotation.inputs):
            return None
        width = self._matrix(name).depth
        return Turn(torch.tensor(rotation.signs_of(width), device=self.device), rotation.block_size)

    def _vector(self, name: str) -> torch.Tensor:
        weights = upload(name, self._matrix(name), self.device)
        return weights.floats_of(torch.zeros(1, dtype=torch.int64, device=self.device))[0].contiguous()

    def _matrix(self, name: str) -> TernaryMatrix | PlaneMatrix | FloatMatrix:
        try:
            return self._matrices[name]
        except KeyError as error:
            raise ParameterError(f"the model has no tensor {name}, which its config calls for") from error


def _normalized(norm: Preparation | None, x: torch.Tensor) -> torch.Tensor:
    return x if norm is None else _floats(norm(x))


def _floats(prepared: Prepared) -> torch.Tensor:
    if prepared.floats is None:
        raise ValueError("floats were not asked for")
    return prepared.floats
