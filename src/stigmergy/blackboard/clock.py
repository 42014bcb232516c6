"""Where time comes from: outside."""

from time import monotonic, time
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
    """The machine's clock, but it never goes back: if that is set back, time goes on from where it was, so that what
    waits for two more seconds waits two seconds, and not a day."""

    def __init__(self) -> None:
        self._at, self._since = 0.0, monotonic()

    def now(self) -> float:
        """Seconds since the epoch (UTC)."""
        since, machine = monotonic(), time()
        at = self._at + since - self._since
        if machine > at:
            at = machine
        self._at, self._since = at, since
        return at

    def follow(self, at: float) -> None:
        """Go on from this time if the machine's clock is behind it, as a board's may be that was open before."""
        self._at = max(self._at, at)

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
