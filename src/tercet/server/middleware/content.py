"""The content policy of whoever asks: current for all that is generated for the request.

The policy is that of the caller's key, or else the server's default. What it does to prompts and answers is
done where they are submitted (`tercet.service.screening`); here it is chosen, and told of: one event
`content.flagged` and one `content.redacted` for a request at most, with a number for each category.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from tercet.errors import ParameterError, TercetError
from tercet.security.content.policies import ContentPolicies
from tercet.security.content.screen import Action
from tercet.security.events import Kind
from tercet.security.identity import current_caller
from tercet.server.errors import error_response
from tercet.service.screening import ContentGuard

__all__ = ["Content"]

KINDS: dict[Action, Kind] = {"flag": "content.flagged", "redact": "content.redacted"}
LOOKING = ("GET", "HEAD", "OPTIONS")


class Content:
    """See the module.

    Args:
        app: what answers.
        policies: by name; None: nothing is filtered.
        sanitize: see `SecurityConfig.sanitize_inputs`.
        emit: tells of the numbers of a request, by category.
    """

    def __init__(
        self,
        app: ASGIApp,
        policies: ContentPolicies | None,
        sanitize: bool,
        emit: Callable[[Scope, Kind, dict[str, int]], None],
    ) -> None:
        self.app = app
        self.policies = policies
        self.sanitize = sanitize
        self.emit = emit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its policy."""
        if scope["type"] != "http" or scope["method"] in LOOKING:
            await self.app(scope, receive, send)
            return
        try:
            policy = None if self.policies is None else self.policies.of(current_caller().policy)
        except ParameterError:
            wrong = TercetError(
                "the content policy of this API key is none of this server's; tell who runs it"
            )
            await error_response(wrong)(scope, receive, send)
            return
        counts: dict[Action, Counter[str]] = {action: Counter() for action in ("block", "flag", "redact")}

        def tell(action: Action, category: str, times: int) -> None:
            counts[action][category] += times

        guard = ContentGuard(policy, sanitize=self.sanitize, tell=tell)
        try:
            with guard.working():
                await self.app(scope, receive, send)
        finally:
            if counts["block"]:  # a prompt that was blocked has been answered with an error, and noted
                scope["state"].setdefault("blocked", "response_filtered")
            for action, kind in KINDS.items():
                if counts[action]:
                    self.emit(scope, kind, dict(counts[action]))
