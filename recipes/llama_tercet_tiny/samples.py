"""Ten fixed prompts and what the model says, for its card.

    python recipes/llama_tercet_tiny/samples.py [--model MODEL] > samples.md

The first sample of every prompt is shown (seed 1, the model's own settings): nothing is picked by hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tercet import LLM, SamplingParams

PROMPTS = Path(__file__).with_name("prompts.jsonl")


def main() -> None:
    """Print the samples as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a file or folder; default: the shipped model")
    parser.add_argument("--max-tokens", type=int, default=160)
    arguments = parser.parse_args()
    params = SamplingParams(max_tokens=arguments.max_tokens, seed=1)
    with LLM(arguments.model, threads=1) as llm:
        for number, line in enumerate(PROMPTS.read_text(encoding="utf-8").splitlines(), 1):
            prompt = json.loads(line)
            if "user" in prompt:
                shown, result = (
                    prompt["user"],
                    llm.chat([{"role": "user", "content": prompt["user"]}], params),
                )
            else:
                shown, result = prompt["text"] + " …", llm.generate(prompt["text"], params)
            kind = "chat" if "user" in prompt else "continuation"
            quoted = "\n".join(f"> {line}".rstrip() for line in result.text.strip().splitlines())
            print(f"**{number}. {shown}** ({kind}, ends by {result.finish_reason})\n\n{quoted}\n")


if __name__ == "__main__":
    main()
