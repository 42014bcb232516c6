"""Which activation runs next: by priority and age, within the limits of each agent.

The order is `created_at - weight[priority]`, a key that never changes: waiting time counts against priority one to
one (linear ageing), so nothing starves and nothing has to be sorted again.

Two heaps: every agent has one of its ready activations, and one heap holds the best of each agent that has a free
place. Entries that went stale are dropped when they surface.
"""

from heapq import heappop, heappush

from stigmergy.blackboard.core.records import Activation

WEIGHT = {"low": -60.0, "medium": 0.0, "high": 600.0, "critical": 3600.0}
"""Seconds of waiting that a priority is worth against medium."""

Entry = tuple[float, int]


class Agenda:
    """Ready activations; derived from the state, so it is never stored."""

    def __init__(self, concurrency: dict[str, int]) -> None:
        self._limit = concurrency
        self._busy: dict[str, int] = {}
        self._ready: dict[str, list[Entry]] = {}
        self._best: list[tuple[float, int, str]] = []
        self._gone: set[int] = set()
        self.count = 0

    def add(self, a: Activation) -> None:
        """An activation is ready."""
        entry = (a.at - WEIGHT[a.priority], a.id)
        heap = self._ready.setdefault(a.agent, [])
        heappush(heap, entry)
        self._gone.discard(a.id)
        self.count += 1
        if heap[0] is entry and (a.agent not in self._limit or self._free(a.agent)):
            heappush(self._best, (*entry, a.agent))

    def remove(self, activation: int) -> None:
        """A ready activation ended otherwise, or was held."""
        self._gone.add(activation)
        self.count -= 1

    def take(self) -> int | None:
        """The next activation whose agent has a free place; it leaves the agenda and occupies the place."""
        while self._best:
            order, activation, agent = heappop(self._best)
            heap = self._ready.get(agent)
            if not heap or heap[0] != (order, activation) or (agent in self._limit and not self._free(agent)):
                continue
            heappop(heap)
            if activation in self._gone:
                self._gone.discard(activation)
                self._offer(agent)
                continue
            self.count -= 1
            self._busy[agent] = self._busy.get(agent, 0) + 1
            self._offer(agent)
            return activation
        return None

    def occupy(self, agent: str) -> None:
        """A place of the agent is taken by something that is not on the agenda."""
        self._busy[agent] = self._busy.get(agent, 0) + 1

    def free(self, agent: str) -> None:
        """A place of the agent is free again."""
        self._busy[agent] -= 1
        if agent in self._limit:  # without a limit its best is always on offer
            self._offer(agent)

    def _free(self, agent: str) -> bool:
        return agent not in self._limit or self._busy.get(agent, 0) < self._limit[agent]

    def _offer(self, agent: str) -> None:
        heap = self._ready.get(agent)
        if heap and self._free(agent):
            heappush(self._best, (*heap[0], agent))
