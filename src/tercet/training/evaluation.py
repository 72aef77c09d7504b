"""Validation loss and samples during training, in float32 and with full quantization.

This is what the exported file will do: no autocast, λ = 1.
"""

from __future__ import annotations

import math

import torch
from tokenizers import Tokenizer

from tercet.training.model import TernaryDecoder
from tercet.training.parallel import Processes
from tercet.training.tokenizer import BEGIN, END, TURN_END, special_token_id

_ROWS = 8
TEMPERATURE = 0.7


@torch.no_grad()
def evaluate(model: TernaryDecoder, windows: torch.Tensor, processes: Processes) -> float:
    """Mean loss in nats a token over `windows` [count, context + 1]; each process takes its rows."""
    strength = float(model.quantization.strength)
    model.quantization.strength.fill_(1.0)
    rows = processes.share(windows)
    # Sharded layers are fetched by all processes together, so each of them makes as many calls as the
    # one with the most rows; a call without rows of its own computes one that does not count.
    most = math.ceil(windows.shape[0] / processes.count)
    total = 0.0
    for start in range(0, most, _ROWS):
        mine = rows[start : start + _ROWS]
        loss = float(model(mine if len(mine) else windows[:1].to(processes.device)))
        total += loss * len(mine)
    model.quantization.strength.fill_(strength)
    (mean,) = processes.mean(torch.tensor([total], dtype=torch.float64))
    return mean * processes.count / windows.shape[0]


@torch.no_grad()
def sample(model: TernaryDecoder, tokenizer: Tokenizer, prompt: str, num_tokens: int, seed: int) -> str:
    """Continue `prompt` by at most `num_tokens` tokens drawn at temperature 0.7.

    In a sharded run all processes call this, and draw the same.
    """
    device = model.cosines.device
    generator = torch.Generator(device).manual_seed(seed)
    ids = [special_token_id(tokenizer, BEGIN), *tokenizer.encode(prompt, add_special_tokens=False).ids]
    start = len(ids)
    stops = {special_token_id(tokenizer, token) for token in (END, TURN_END)}
    while len(ids) < min(start + num_tokens, model.config.max_context):
        logits = model.logits(torch.tensor([ids], device=device))[0, -1]
        drawn = int(torch.multinomial((logits / TEMPERATURE).softmax(-1), 1, generator=generator))
        if drawn in stops:
            break
        ids.append(drawn)
    return prompt + str(tokenizer.decode(ids[start:]))
