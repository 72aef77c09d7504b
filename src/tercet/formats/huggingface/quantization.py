"""`quantization_config`: how the linear layers of a folder are stored, and what `weight_scale` means.

    no config                        floats, used as they are (which may turn out to be ternary)
    autobitlinear, online            float masters, rounded by absmean whenever they are used
    autobitlinear, offline           packed codes; weight = code * weight_scale
    bitlinear (what is meant where   packed codes; weight = code / weight_scale
    linear_class is not given)
    tercet_bitlinear                 as autobitlinear, with rules that transformers does not know:
                                     weight_rule, activation_rule, rotation

The two packed forms look alike in every other way, and reading one as the other gives a model that answers
nonsense without an error. The last is ours, and transformers refuses it by its name, which is why it has one.
Any may have an RMSNorm in front of each linear layer (`use_rms_norm`), and may
keep some layers as floats (`modules_to_not_convert`).

Source: transformers, `integrations/bitnet.py` and `utils/quantization_config.py` (5.23).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tercet.errors import UnsupportedModelError
from tercet.formats.fields import Fields

__all__ = ["FLOATS", "OFFLINE_CONFIG", "ONLINE", "ONLINE_CONFIG", "Quantization", "parse_quantization"]

ONLINE_CONFIG: Mapping[str, Any] = {
    "quant_method": "bitnet",
    "linear_class": "autobitlinear",
    "quantization_mode": "online",
}
OFFLINE_CONFIG: Mapping[str, Any] = {**ONLINE_CONFIG, "quantization_mode": "offline"}
OWN_CLASS = "tercet_bitlinear"
RULES = ("weight_rule", "activation_rule", "rotation")
"""What only a folder of `OWN_CLASS` says, named as in `ModelConfig`; `activation_rule` may be `none`."""

DEFAULT_NORM_EPS = 1e-6
_PLAIN_PATTERN = re.compile(r"[\w.]+")


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How the linear layers of a folder become ternary."""

    is_ternary: bool
    """Whether they do at all; their inputs are then rounded to int8."""
    online: bool = False
    """Whether they are stored as masters, which become ternary when they are used."""
    scale_divides: bool = False
    """Whether the weight is code / weight_scale, not code * weight_scale."""
    is_binary: bool = False
    """Whether masters are rounded to {-1, +1} (BitNet 1.0)."""
    norm_eps: float | None = None
    """The epsilon of the norm in front of each linear layer, or None if there is no such norm."""
    kept: tuple[str, ...] | None = None
    """Modules that stay floats; None means that the folder does not say: all but the output head."""
    rules: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of `ModelConfig` in which the model differs from BitNet b1.58."""

    def converts(self, module: str) -> bool:
        """Say whether the linear layer of this name becomes ternary."""
        if not self.is_ternary:
            return False
        if self.kept is None:
            return module != "lm_head"
        return not any(
            module == name or module.startswith(name + ".") or module.endswith(name) for name in self.kept
        )


FLOATS = Quantization(is_ternary=False)
ONLINE = Quantization(is_ternary=True, online=True)


def parse_quantization(config: Mapping[str, Any], file: Path) -> Quantization:
    """Read the `quantization_config` of a `config.json`.

    Raises:
        FormatError: a field is of the wrong type.
        UnsupportedModelError: the weights are stored in a way that Tercet does not read.
    """
    fields = Fields(config, file, "config")
    if "quantization" in fields and "quantization_config" not in fields:
        raise UnsupportedModelError(
            f"{file}: the weights are packed for MLX (`quantization`), which Tercet does not read. "
            "Look for the unpacked or the GGUF variant of the model."
        )
    if "quantization_config" not in fields:
        return FLOATS
    entry = fields.object("quantization_config")
    method = entry.text("quant_method") if "quant_method" in entry else "of no name"
    if method != "bitnet":
        raise UnsupportedModelError(
            f"{file}: the weights are quantized by the method {method!r}; Tercet reads 'bitnet' and models "
            "without quantization_config. Look for the unquantized or a ternary variant of the model."
        )
    linear_class = entry.text("linear_class") if "linear_class" in entry else "bitlinear"
    mode = entry.text("quantization_mode") if "quantization_mode" in entry else "offline"
    classes = ("bitlinear", "autobitlinear", OWN_CLASS)
    if linear_class not in classes or mode not in ("online", "offline"):
        raise UnsupportedModelError(
            f"{file}: the linear layers are of class {linear_class!r} in mode {mode!r}; Tercet reads "
            f"autobitlinear, {OWN_CLASS} (both online and offline) and bitlinear"
        )
    rules = _rules(entry) if linear_class == OWN_CLASS else {}
    is_binary = _is_binary(entry) or rules.get("weight_rule") == "sign"
    has_norm = "use_rms_norm" in entry and entry.flag("use_rms_norm")
    return Quantization(
        is_ternary=True,
        # transformers looks at the mode only where the class is autobitlinear: bitlinear is always packed.
        online=linear_class != "bitlinear" and mode == "online",
        scale_divides=linear_class == "bitlinear",
        is_binary=is_binary,
        norm_eps=_norm_eps(entry) if has_norm else None,
        kept=_kept(config["quantization_config"], entry, file),
        rules=rules | ({"weight_rule": "sign"} if is_binary else {}),
    )


def _rules(entry: Fields) -> dict[str, Any]:
    rules: dict[str, Any] = {
        key: entry.text(key) for key in ("weight_rule", "activation_rule") if key in entry
    }
    if rules.get("activation_rule") == "none":
        rules["quantize_activations"] = False
        del rules["activation_rule"]
    if "rotation" in entry:
        rules["rotation"] = entry.mapping("rotation")
    return rules


def _is_binary(entry: Fields) -> bool:
    """BitNet 1.0 has no class of its own in transformers; `weight_bits` 1, here and not at the top, asks for
    it. (At the top of the config 1bitLLM writes `weight_bits: 1` and means ternary.)"""
    return "weight_bits" in entry and entry.number("weight_bits") == 1


def _norm_eps(entry: Fields) -> float:
    return entry.number("rms_norm_eps") if "rms_norm_eps" in entry else DEFAULT_NORM_EPS


def _kept(values: Mapping[str, Any], entry: Fields, file: Path) -> tuple[str, ...] | None:
    if "modules_to_not_convert" not in entry:
        return None
    names = values["modules_to_not_convert"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise entry.error("modules_to_not_convert", "a list of names of modules")
    for name in names:
        # transformers takes them as regular expressions; those of strangers are not run here.
        if not _PLAIN_PATTERN.fullmatch(name):
            raise UnsupportedModelError(
                f"{file}: modules_to_not_convert holds the pattern {name!r}; Tercet reads plain "
                "names of modules"
            )
    return tuple(names)
