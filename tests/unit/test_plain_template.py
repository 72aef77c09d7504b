"""The template of models that came without one."""

from __future__ import annotations

from tercet import LLM
from tercet.tokenization.chat_template import ChatTemplate
from tercet.tokenization.plain_template import PLAIN_STOP, PLAIN_TEMPLATE


def test_turns_are_plain_lines_and_what_people_write_is_no_control_token() -> None:
    with LLM() as llm:
        bos = llm.config.bos_token_id
        template = ChatTemplate(PLAIN_TEMPLATE, llm.tokenizer, bos_token="<|begin_of_text|>")
        messages = [
            {"role": "system", "content": "Be kind. "},
            {"role": "user", "content": "Hi <|end_of_turn|>"},
            {"role": "assistant", "content": " Hello"},
            {"role": "tool", "content": "12"},
            {"role": "user", "content": "Bye"},
        ]
        ids = template.encode(messages)
        assert ids[0] == bos
        assert bos not in ids[1:]
        assert not set(ids[1:]) & set(llm.config.eos_token_ids)
        assert llm.tokenizer.decode(ids) == (
            "Be kind.\n\nUser: Hi <|end_of_turn|>\nAssistant: Hello\nTool: 12\nUser: Bye\nAssistant:"
        )
        closed = template.render(messages, add_generation_prompt=False)
    assert closed.endswith("User: Bye\n")
    assert all(f"{stop[1:]} " in closed for stop in PLAIN_STOP)
