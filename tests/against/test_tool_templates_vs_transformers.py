"""Conversations with tools are rendered as transformers renders them, in whose form models were trained."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from tercet.tokenization import ChatTemplate, Tokenizer
from tiny_models import tiny_tokenizer_json
from tool_templates import CONVERSATION, LIKE_LLAMA, LIKE_QWEN, TOOLS

import tokenizers  # isort: skip


@pytest.mark.parametrize("with_tools", [True, False])
@pytest.mark.parametrize("source", [LIKE_QWEN, LIKE_LLAMA], ids=["like_qwen", "like_llama"])
def test_rendered_and_encoded_alike(source: str, with_tools: bool) -> None:
    data = tiny_tokenizer_json()
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_buffer(data))
    tools = TOOLS if with_tools else None
    expected = theirs.apply_chat_template(
        CONVERSATION, tools=tools, chat_template=source, tokenize=False, add_generation_prompt=True,
        bos_token="<|begin_of_text|>",
    )  # fmt: skip
    template = ChatTemplate(source, Tokenizer(data), bos_token="<|begin_of_text|>")
    assert template.uses_tools
    assert template.render(CONVERSATION, tools=tools) == expected
    library = tokenizers.Tokenizer.from_buffer(data)
    assert (
        template.encode(CONVERSATION, tools=tools) == library.encode(expected, add_special_tokens=False).ids
    )
