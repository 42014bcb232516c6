"""Which activation runs next: by priority and age, within the limits of each agent.

The order is `created_at - weight[priority]`, a key that never changes: waiting time counts against priority one to
one (linear ageing), so nothing starves and nothing has to be sorted again.

All wait in one heap, but for those of an agent with a limit: they have a heap of their own, and while the agent has a
free place its best is in the common one. Entries that went stale are dropped when they surface.
"""

from heapq import heappop, heappush

from stigmergy.blackboard.core.records import Activation

WEIGHT = {"low": -60.0, "medium": 0.0, "high": 600.0, "critical": 3600.0}
"""Seconds of waiting that a priority is worth against medium."""

Entry = tuple[float, int, str]
"""Order, activation, and its agent if that has a limit."""


class Agenda:
    """Ready activations; derived from the state, so it is never stored.

    Args:
        concurrency: agent -> how many of its activations may run at one time, for those that have a limit.
    """

    def __init__(self, concurrency: dict[str, int]) -> None:
        self._limit = concurrency
        self._busy = dict.fromkeys(concurrency, 0)
        self._ready: dict[str, list[Entry]] = {agent: [] for agent in concurrency}
        self._best: list[Entry] = []
        self._gone: set[int] = set()
        self.count = 0

    def add(self, a: Activation) -> None:
        """An activation is ready."""
        self.count += 1
        limited = a.agent if a.agent in self._limit else ""
        entry = (a.at - WEIGHT[a.priority], a.id, limited)
        if limited:
            heap = self._ready[limited]
            heappush(heap, entry)
            if heap[0] is not entry or not self._free(limited):
                return
        heappush(self._best, entry)

    def remove(self, activation: int) -> None:
        """A ready activation ended otherwise."""
        self._gone.add(activation)
        self.count -= 1

    def take(self) -> int | None:
        """The next activation whose agent has a free place; it leaves the agenda and occupies the place."""
        while self._best:
            entry = heappop(self._best)
            _, activation, limited = entry
            gone = activation in self._gone
            if limited:
                heap = self._ready[limited]
                if not heap or heap[0] is not entry or not self._free(limited):
                    continue
                heappop(heap)
                self._busy[limited] += not gone
                self._offer(limited)
            if not gone:
                self.count -= 1
                return activation
            self._gone.discard(activation)
        return None

    def occupy(self, agent: str) -> None:
        """A place of the agent is taken by something that is not on the agenda."""
        if agent in self._limit:
            self._busy[agent] += 1

    def free(self, agent: str) -> None:
        """A place of the agent is free again."""
        if agent in self._limit:
            self._busy[agent] -= 1
            self._offer(agent)

    def _free(self, agent: str) -> bool:
        return self._busy[agent] < self._limit[agent]

    def _offer(self, agent: str) -> None:
        heap = self._ready[agent]
        if heap and self._free(agent):
            heappush(self._best, heap[0])
