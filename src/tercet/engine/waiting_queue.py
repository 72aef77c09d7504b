"""Who of those that wait comes next: priorities first, then tenants by turns, then whoever came first.

Among requests of one priority the next is of the tenant for which the fewest tokens have been computed (the
virtual token counter of "Fairness in Serving Large Language Models", Sheng et al. 2024): a tenant that sends
a thousand requests delays the one request of another by hardly more than what runs. A tenant that was away
starts at the level of those that are there: who did not come saves nothing up, and owes what he had.

A low priority must not wait for ever where high ones never end, so every eighth choice goes to the priority
of the request that came first of all.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from tercet.engine.request import Request

__all__ = ["AGE_TURN", "TenantShares", "WaitingQueue"]

AGE_TURN = 8
"""Every so many turns age counts instead of priority."""


class TenantShares:
    """Tokens that were computed for each tenant that has requests here."""

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}
        self._present: dict[str, int] = {}  # how many requests of a tenant there are

    def enter(self, tenant: str) -> None:
        """A request has come."""
        if tenant not in self._present:
            self._tokens[tenant] = max(self._tokens.get(tenant, 0), self._least())
        self._present[tenant] = self._present.get(tenant, 0) + 1

    def leave(self, tenant: str) -> None:
        """A request has ended. Of tenants that are away only those are remembered that are ahead."""
        self._present[tenant] -= 1
        if not self._present[tenant]:
            del self._present[tenant]
            least = self._least()
            self._tokens = {
                name: tokens
                for name, tokens in self._tokens.items()
                if name in self._present or (self._present and tokens > least)
            }

    def charge(self, tenant: str, tokens: int) -> None:
        """Tokens of a request have been computed."""
        self._tokens[tenant] += tokens

    def tokens(self, tenant: str) -> int:
        """What counts against the tenant."""
        return self._tokens[tenant]

    def _least(self) -> int:
        return min((self._tokens[tenant] for tenant in self._present), default=0)


class WaitingQueue:
    """Requests that wait.

    Args:
        shares: the tenants of all requests that wait or run.
    """

    def __init__(self, shares: TenantShares) -> None:
        self._shares = shares
        # The oldest of each group comes first; requests that have been removed stay for a while.
        self._groups: dict[tuple[int, str], list[tuple[int, Request]]] = {}
        self._num_removed = 0
        self._waiting: dict[Request, int] = {}  # with the tokens that must be computed
        self._num_turns = 0
        self.num_tokens = 0
        """Tokens that the waiting requests need computed before their next one can be drawn."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request: Request) -> bool:
        return request in self._waiting

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self._waiting))

    def add(self, request: Request) -> None:
        """Let a request wait, at the place of its number."""
        self._waiting[request] = request.num_pending
        self.num_tokens += request.num_pending
        group = self._groups.setdefault((request.priority, request.tenant), [])
        heapq.heappush(group, (request.number, request))

    @property
    def is_age_turn(self) -> bool:
        """Whether the next choice goes by age first."""
        return self._num_turns % AGE_TURN == AGE_TURN - 1

    def first(self) -> Request | None:
        """Who comes next, None where nobody waits."""
        if not self.is_age_turn:
            return self.most_urgent()
        heads = self._heads()
        oldest = min(heads, key=lambda head: head.number, default=None)
        peers = [head for head in heads if oldest is not None and head.priority == oldest.priority]
        return min(peers, key=self.rank, default=None)

    def most_urgent(self) -> Request | None:
        """Who would come next if it were not a turn of age."""
        return min(self._heads(), key=self.rank, default=None)

    def rank(self, request: Request) -> tuple[int, int, int]:
        """What decides between requests, the lower the sooner."""
        return request.priority, self._shares.tokens(request.tenant), request.number

    def take(self, request: Request) -> None:
        """Let one of those that come next run; a turn of age lasts until who is first then has been taken."""
        self._num_turns += request is self.first()
        heapq.heappop(self._groups[request.priority, request.tenant])
        self.num_tokens -= self._waiting.pop(request)

    def remove(self, request: Request) -> None:
        """The request does not wait any longer."""
        self.num_tokens -= self._waiting.pop(request)
        self._num_removed += 1
        if self._num_removed > 64 + len(self._waiting):
            self._num_removed = 0
            self._groups = {
                key: left
                for key, group in self._groups.items()
                if (left := sorted(entry for entry in group if entry[1] in self._waiting))
            }

    def _heads(self) -> list[Request]:
        """The oldest request of each priority and tenant."""
        for key, group in list(self._groups.items()):
            while group and group[0][1] not in self._waiting:
                heapq.heappop(group)
            if not group:
                del self._groups[key]
        return [group[0][1] for group in self._groups.values()]
