"""Where time comes from: outside."""

import time
from typing import Protocol


class Clock(Protocol):
    """Log time; a virtual one can be moved."""

    def now(self) -> float:
        """Seconds since the epoch (UTC)."""
        ...

    def jump(self, to: float) -> bool:
        """Move to this time at once; False if this clock cannot, and one has to wait."""
        ...


class SystemClock:
    """The machine's clock."""

    now = staticmethod(time.time)

    def jump(self, to: float) -> bool:
        """Real time cannot be moved."""
        return False


class VirtualClock:
    """A clock that moves only when told: deadlines, retries and sleeps pass at once and in order.

    Args:
        start: the first log time, in seconds since the epoch.
    """

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        self._now = start

    def now(self) -> float:
        """The current virtual time."""
        return self._now

    def jump(self, to: float) -> bool:
        """Move forward to this time; never back."""
        self._now = max(self._now, to)
        return True

    def advance(self, seconds: float) -> None:
        """Move forward by this many seconds."""
        self._now += seconds
