"""All deadlines of a board in one heap; derived from the state, so it is never stored."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Literal, NamedTuple

TimerKind = Literal["visible", "group", "retry", "hold", "timeout", "sleep", "alarm"]


class Timer(NamedTuple):
    """A deadline: `subject` is an artifact, activation or effect id; `detail` a subscription or component name.

    Among deadlines at the same time the oldest subject is first: the order must not depend on when they were set,
    which nobody knows after a restart.
    """

    due: float
    subject: int
    kind: TimerKind
    detail: str


class Timers:
    """Deadlines by time. What a deadline was for may be gone when it comes: `live` tells."""

    def __init__(self, live: Callable[[Timer], bool]) -> None:
        self._live = live
        self._heap: list[Timer] = []
        self._tidy_at = 1_000

    def push(self, due: float, kind: TimerKind, subject: int, detail: str = "") -> None:
        """Remember a deadline at this log time."""
        heappush(self._heap, Timer(due, subject, kind, detail))
        if len(self._heap) > self._tidy_at:
            # Deadlines of bodies that ended in time would otherwise pile up until they are due.
            self._heap = [t for t in self._heap if self._live(t)]
            heapify(self._heap)
            self._tidy_at = max(1_000, 2 * len(self._heap))

    def pop(self, now: float) -> Timer | None:
        """The next live deadline that has passed."""
        timer = self.next()
        if timer is None or timer.due > now:
            return None
        return heappop(self._heap)

    def next(self) -> Timer | None:
        """The next live deadline."""
        heap = self._heap
        while heap and not self._live(heap[0]):
            heappop(heap)
        return heap[0] if heap else None

    def work(self) -> tuple[int, float]:
        """How many live deadlines work waits for, and the soonest of them; a component's alarm is none."""
        count, soonest = 0, inf
        for timer in self._heap:
            if timer.kind != "alarm" and self._live(timer):
                count, soonest = count + 1, min(soonest, timer.due)
        return count, soonest

    def next_work(self) -> Timer | None:
        """The soonest live deadline that work waits for; of the heap, only those before it are looked at."""
        heap = self._heap
        if self.next() is None:
            return None
        nearest = [(heap[0], 0)]
        while nearest:
            timer, i = heappop(nearest)
            if timer.kind != "alarm" and self._live(timer):
                return timer
            for below in range(2 * i + 1, min(2 * i + 3, len(heap))):
                heappush(nearest, (heap[below], below))
        return None
