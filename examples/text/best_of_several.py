"""Write several continuations of each beginning and keep the one that the model itself finds likeliest.

    python examples/text/best_of_several.py
    python examples/text/best_of_several.py "The old king" --model MODEL --tries 8

All of them run in one batch, so four cost little more time than one. A story is marked by its mean log
probability a token, less a penalty for words that it repeats: likeliness alone rewards going in circles.

Limits: the mark knows what is usual and nothing of what is good or true. With the shipped model the stories
lose their thread after some sentences; `docs/models/llama-tercet-tiny.md` has samples.
"""

from __future__ import annotations

import argparse

from tercet import LLM, GenerationResult

BEGINNINGS = ["Once upon a time, there was a little dog", "Lily found a big red ball"]


def mark(story: GenerationResult) -> float:
    """Mean log probability of a token, minus the share of words that stood in the story before."""
    words = story.text.lower().split()
    repeated = 1 - len(set(words)) / max(len(words), 1)
    return sum(token.logprob for token in story.logprobs) / max(len(story.logprobs), 1) - repeated


def main() -> None:
    """Print the best story of each beginning, with all marks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("beginnings", nargs="*", default=BEGINNINGS)
    parser.add_argument("--model", help="name or path (default: the shipped model)")
    parser.add_argument("--tries", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=60)
    arguments = parser.parse_args()
    with LLM(arguments.model) as llm:
        for beginning in arguments.beginnings:
            prompts = [beginning] * arguments.tries  # an unseeded request draws its own seed
            stories = llm.generate(prompts, max_tokens=arguments.max_tokens, temperature=0.8, logprobs=0)
            best = max(stories, key=mark)
            marks = ", ".join(f"{mark(story):.2f}" for story in stories)
            print(f"{beginning}{best.text}\n[best of {marks}; seed {best.metadata['seed']}]\n")


if __name__ == "__main__":
    main()
