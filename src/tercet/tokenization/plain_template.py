"""The conversation of a model that came without a chat template, as plain text.

    You are a helpful assistant.

    User: What is a verst?
    Assistant: About a kilometre.
    User: And a league?
    Assistant:

It is the form that raw language models have met most often in their training texts. No control token stands
between the turns, so nothing but a stop string (`"\\nUser:"`) keeps such a model from writing the next
question too: whoever answers with this template stops there (`PLAIN_STOP`).
"""

from __future__ import annotations

__all__ = ["PLAIN_STOP", "PLAIN_TEMPLATE"]

PLAIN_STOP = ("\nUser:", "\nAssistant:", "\nTool:")
PLAIN_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] | trim }}\n\n"
    "{% elif message['role'] == 'user' %}User: {{ message['content'] | trim }}\n"
    "{% elif message['role'] == 'tool' %}Tool: {{ message['content'] | trim }}\n"
    "{% else %}Assistant: {{ message['content'] | trim }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""The Jinja source; it needs `bos_token` and the usual variables of chat templates."""
