"""What the words after `tercet run` mean: a prompt, or a model and a prompt.

    tercet run "Once upon a time"                  the prompt
    tercet run Once upon a time                    the same: words are joined, as `ollama run` does
    tercet run llama-tercet-tiny "Once upon"       a first word that names a model is the model
    tercet run model.gguf Once upon                so is a file's name, whether or not the file is there

With `--model` every word is the prompt. A first word that only looks like a name on the Hub is never taken
for text: nobody wants the wrong model to continue it. Quoting the whole prompt settles any doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["model_and_prompt"]

FILES = (".tercet", ".gguf", ".safetensors")


def model_and_prompt(words: Sequence[str], model: str | None) -> tuple[str | None, str]:
    """Divide what stands on the command line.

    Args:
        words: the positional arguments, at least one.
        model: what `--model` says, None if it was not given.

    Returns:
        The model, None for the one that ships with the package, and the prompt.

    Raises:
        ParameterError: there is a model and no prompt.
        ModelNotFoundError: the first of several words looks like a model that is not on this machine.
    """
    first, rest = words[0], words[1:]
    if model is not None or not _names_a_model(first, bool(rest)):
        return model, " ".join(words)
    if rest:
        return first, " ".join(rest)
    from tercet.errors import ParameterError

    raise ParameterError(
        f'{first} is a model and there is no prompt for it: tercet run {first} "Once upon a time", '
        f"or talk with it: tercet chat --model {first}"
    )


def _names_a_model(word: str, has_more: bool) -> bool:
    if not word or word == "-" or any(character.isspace() for character in word):
        return False
    from tercet.models.downloads import advice, find_download
    from tercet.models.registry import known_models

    if word in known_models() or word.endswith(FILES):
        return True
    if _is_model_folder(word) or find_download(word) is not None:
        return True
    if has_more and (hint := advice(word)) is not None:
        from tercet.errors import ModelNotFoundError

        raise ModelNotFoundError(
            f"there is no model {word!r}: {hint} (or quote the whole prompt if this is text)"
        )
    return False


def _is_model_folder(word: str) -> bool:
    try:
        return (Path(word).expanduser() / "config.json").is_file()
    except (OSError, RuntimeError, ValueError):  # too long for a path, no such home, a zero byte
        return False
