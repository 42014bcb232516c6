"""For tests: a clock that moves only when told."""

from stigmergy.blackboard.clock import VirtualClock

__all__ = ["VirtualClock"]
