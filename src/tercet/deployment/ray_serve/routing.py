"""Ray Serve's choice of a replica, which knows who has read what.

A request goes to the replica that has read the longest beginning of its prompt, unless that one has several
requests more than the one with the fewest: then waiting would cost more than reading. What nobody has read
goes to the lesser loaded of two, as Ray does it by itself, and so does a request whose first choice is full.

Ray's own router of this kind (`ray.serve.llm`) cannot be imported without vLLM or SGLang.
"""

from __future__ import annotations

import random
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from tercet.deployment.ray_serve.prefixes import PrefixMemory

__all__ = ["PrefixRouter"]

MAX_LEAD = 4
"""So many requests more than the least loaded replica one may have, and still get another whose prompt it has
read."""


class PrefixRouter(RequestRouter):
    """Routes calls whose first argument is what `prefix_hashes` returned."""

    def initialize_state(self, **settings: Any) -> None:
        """Called by Ray, with `request_router_kwargs`, of which there are none."""
        self._memory = PrefixMemory()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return whom to ask, in ranks; of a rank Ray takes the one with the fewest requests."""
        if pending_request is None or not candidate_replicas:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True  # Ray would otherwise ask again without a pause
        two = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        known = {replica.replica_id.to_full_id_str(): replica for replica in candidate_replicas}
        reader = self._memory.reader(_hashes(pending_request), known.keys())
        if reader is None or self._leads(known[reader], candidate_replicas):
            return [two, candidate_replicas]
        return [[known[reader]], two, candidate_replicas]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: object
    ) -> None:
        """Remember who reads this prompt."""
        self._memory.note(_hashes(pending_request), replica_id.to_full_id_str())

    def _leads(self, replica: RunningReplica, replicas: list[RunningReplica]) -> bool:
        """Whether it has so many requests that another is better, as far as that is known."""
        lengths = [self.replica_queue_len_cache.get(one.replica_id) or 0 for one in replicas]
        own = self.replica_queue_len_cache.get(replica.replica_id) or 0
        return bool(own - min(lengths) > MAX_LEAD)


def _hashes(request: PendingRequest) -> tuple[int, ...]:
    return tuple(request.args[0]) if request.args else ()
