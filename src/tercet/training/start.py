"""A run that starts from weights that are there already, rather than from random ones.

`tercet train --init-from FOLDER` begins a new run, with a new schedule and fresh optimizers, from the weights
of a folder: a checkpoint of ours, or any `BitNetForCausalLM` folder with real-valued ("master") weights that
has the parts this network has. The model is the folder's, and so is the tokenizer: tokens made with another
one are refused, for their ids would mean other words.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from tercet.errors import TrainingError, UnsupportedModelError
from tercet.formats.huggingface.folder import HuggingFaceFolder
from tercet.models.config import ModelConfig
from tercet.models.provenance import check_provenance
from tercet.training.model import TernaryDecoder


@dataclass(frozen=True)
class StartingPoint:
    """The folder that a run starts from: what the model is, and where its weights and its tokenizer lie."""

    folder: Path
    config: ModelConfig

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the folder; TrainingError if it has none."""
        path = self.folder / "tokenizer.json"
        if not path.exists():
            raise TrainingError(
                f"{self.folder} has no tokenizer.json, so nobody knows what its token ids mean; "
                "put the model's tokenizer beside its weights"
            )
        return Tokenizer.from_file(str(path))

    def load_into(self, model: TernaryDecoder) -> None:
        """Set the weights of `model`, as float32 whatever the folder stores.

        Raises:
            TrainingError: names or shapes are not those of the model.
        """
        tensors = HuggingFaceFolder(self.folder).tensors
        own = dict(model.named_parameters())  # a tied head is the embedding, and is named once
        if missing := sorted(own.keys() - tensors.keys()):
            raise TrainingError(
                f"{self.folder} lacks {len(missing)} of the model's tensors, {missing[0]} the first of them; "
                "a run starts from a whole BitNetForCausalLM folder"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                if tensors[name].shape != tuple(parameter.shape):
                    raise TrainingError(
                        f"{self.folder}: {name} has shape {list(tensors[name].shape)}, "
                        f"the model expects {list(parameter.shape)}"
                    )
                parameter.copy_(torch.from_numpy(tensors[name].float32().copy()))


def starting_point(folder: Path) -> StartingPoint:
    """Look at `folder` and say what a run from it trains.

    Raises:
        ModelNotFoundError: the folder holds no model.
        UntrustedModelError: it lacks the manifest or signature that the settings demand.
        FormatError: a file of it is malformed.
        TrainingError: the folder holds a model, but not real-valued weights of a model that can be trained.
    """
    check_provenance(folder)
    try:
        found = HuggingFaceFolder(folder)
    except UnsupportedModelError as error:
        raise TrainingError(f"a run cannot start from {folder}: {error}") from error
    if found.quantization.is_ternary and not found.quantization.online:
        raise TrainingError(
            f"{folder} holds packed codes ({found.kind}); training moves the real-valued weights behind "
            "them, so start from the folder with the masters (a checkpoint, or a bf16 release)"
        )
    return StartingPoint(folder, ModelConfig.from_dict(found.model_fields))


def check_same_tokenizer(tokens: Path, ours: Tokenizer, theirs: Tokenizer, whose: Path) -> None:
    """TrainingError unless the tokenizer `ours` of the token folder `tokens` is `theirs`, that of `whose`."""
    if _vocabulary(ours) != _vocabulary(theirs):
        raise TrainingError(
            f"the tokens of {tokens} were made with another tokenizer ({ours.get_vocab_size()} tokens) than "
            f"that of {whose} ({theirs.get_vocab_size()} tokens), so their ids mean other words; "
            "give the text files instead, and they are encoded anew"
        )


def _vocabulary(tokenizer: Tokenizer) -> tuple[dict[str, int], object]:
    merges = json.loads(tokenizer.to_str())["model"].get("merges")
    return tokenizer.get_vocab(with_added_tokens=True), merges
