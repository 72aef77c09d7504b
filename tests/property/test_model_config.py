"""Laws of a model's config, over every option: files give it back, counts agree, bad files are refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import FormatError
from tercet.models.config import ModelConfig
from tercet.models.rope_scaling import KINDS, RopeScaling
from tercet.models.rotation import Rotation
from tercet.models.tensor_names import is_ternary, tensor_shapes

positive = st.floats(1e-3, 1e3)
counts = st.integers(1, 40)


@st.composite
def scalings(draw: st.DrawFn, half: int) -> RopeScaling:
    kind = draw(st.sampled_from(sorted(KINDS)))
    low = draw(positive)
    numbers: dict[str, Any] = {
        "factor": draw(positive),
        "original_max_context": draw(st.integers(1, 2**20)),
        "attention_factor": draw(positive),
        "low_freq_factor": low,
        "high_freq_factor": low * draw(st.floats(1.01, 100)),
        "beta_slow": low,
        "beta_fast": low * draw(st.floats(1.01, 100)),
        "factors": draw(st.lists(positive, min_size=half, max_size=half)),
    }
    return RopeScaling(kind=kind, **{name: numbers[name] for name in KINDS[kind]})


@st.composite
def rotations(draw: st.DrawFn, widths: dict[str, int], block_size: int) -> Rotation:
    inputs = draw(st.lists(st.sampled_from(sorted(widths)), unique=True))
    signs = {
        width: np.where(draw(st.lists(st.booleans(), min_size=width, max_size=width)), -1, 1).astype(np.int8)
        for width in sorted(set(widths.values()))
    }
    outputs = ("embedding",) if draw(st.booleans()) else ()
    return Rotation.of_signs(block_size, inputs, outputs, signs if draw(st.booleans()) else None)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    block = draw(st.sampled_from([2, 4]))
    kv_heads, head_dim = draw(st.integers(1, 4)), 2 * block * draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    hidden, ffn = block * draw(st.integers(1, 10)), block * draw(st.integers(1, 10))
    window, pooling = draw(st.none() | counts), draw(st.sampled_from([None, "last"]))
    flags = ("attention_sub_norm", "ffn_sub_norm", "quantize_activations", "qk_norm", "projection_norms",
             "post_norms", "add_bos", "tied_embeddings")  # fmt: skip
    options: dict[str, Any] = {name: draw(st.booleans()) for name in flags}
    head = "embedding" if options["tied_embeddings"] else "output_head"
    widths = {"layers.0.attention.q": hidden, "layers.0.attention.o": heads * head_dim,
              "layers.0.ffn.down": ffn, head: hidden}  # fmt: skip
    vocab = draw(counts)
    token_ids = st.integers(0, vocab - 1)
    return ModelConfig(
        **options,
        architecture=draw(st.sampled_from(["bitnet", "llama", "qwen3", "gemma3"])),
        activation=draw(st.sampled_from(["relu2", "silu", "gelu_tanh"])),
        hidden_size=hidden, ffn_size=ffn, num_layers=draw(st.integers(1, 5)), num_heads=heads,
        num_kv_heads=kv_heads, head_dim=head_dim, vocab_size=vocab, max_context=draw(counts),
        rope_theta=draw(st.floats(1.001, 1e7)), rms_norm_eps=draw(positive),
        projection_norm_eps=draw(st.none() | positive), embedding_scale=draw(positive),
        attention_scale=draw(st.none() | positive), sliding_window=window,
        sliding_pattern=draw(st.none() | st.integers(1, 6)) if window else None,
        rope_local_theta=draw(st.none() | st.floats(1, 1e7)),
        rope_scaling=draw(st.none() | scalings(head_dim // 2)),
        pooling=pooling, normalize_embeddings=draw(st.booleans()) if pooling else False,
        rotation=draw(st.none() | rotations(widths, block)),
        bos_token_id=draw(st.none() | token_ids), eos_token_ids=draw(st.lists(token_ids, max_size=3)),
        pad_token_id=draw(st.none() | token_ids),
    )  # fmt: skip


@given(configs())
def test_a_config_survives_a_file(config: ModelConfig) -> None:
    again = ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)
    assert again.to_dict() == config.to_dict()
    assert repr(again) == repr(config)


@given(configs())
def test_counts_agree_with_the_tensors(config: ModelConfig) -> None:
    shapes = tensor_shapes(config)
    assert sum(math.prod(size) for size in shapes.values()) == config.num_parameters
    ternary = [math.prod(size) for name, size in shapes.items() if is_ternary(name)]
    assert (sum(ternary), len(ternary)) == (config.num_ternary_weights, 7 * config.num_layers)
    assert all(
        size[0] == config.head_dim for name, size in shapes.items() if name.endswith(("q_norm", "k_norm"))
    )
    for name, size in shapes.items():
        if name.endswith(".input_norm"):
            assert size == shapes[name.removesuffix(".input_norm")][1:]


@given(configs())
def test_positions(config: ModelConfig) -> None:
    for frequencies in (config.inverse_frequencies, config.local_inverse_frequencies):
        assert frequencies.dtype == np.float32
        assert frequencies.shape == (config.head_dim // 2,)
        assert np.isfinite(frequencies).all()
        assert (frequencies >= 0).all()
    windows = config.layer_windows
    assert len(windows) == config.num_layers
    for layer, window in enumerate(windows):
        is_global = bool(config.sliding_pattern) and (layer + 1) % (config.sliding_pattern or 1) == 0
        assert window == (None if is_global else config.sliding_window)
    if config.rope_local_theta is None:
        assert np.array_equal(config.inverse_frequencies, config.local_inverse_frequencies)


@given(st.integers(1, 30).map(lambda n: 8 * n), st.data())
def test_signs_survive_and_are_short(width: int, data: st.DataObject) -> None:
    bits = data.draw(st.lists(st.booleans(), min_size=width, max_size=width))
    signs = np.where(bits, -1, 1).astype(np.int8)
    rotation = Rotation.of_signs(8, ["output_head"], signs={width: signs})
    assert rotation == Rotation.from_dict(json.loads(json.dumps(rotation.to_dict())))
    assert np.array_equal(rotation.signs_of(width), signs)
    assert len(rotation.signs[str(width)]) == width // 4


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(configs(), st.data())
def test_any_value_in_any_field_is_taken_or_refused(config: ModelConfig, data: st.DataObject) -> None:
    values = config.to_dict()
    where = values
    for name in ("rope_scaling", "rotation"):
        if values[name] and data.draw(st.booleans()):
            where = values[name]
    where[data.draw(st.sampled_from(sorted(where)) | st.text(max_size=8))] = data.draw(json_values)
    try:
        again = ModelConfig.from_dict(values)
    except FormatError:
        return
    assert ModelConfig.from_dict(again.to_dict()) == again
