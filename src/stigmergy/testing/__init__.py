"""For tests of agents and boards: a clock that moves only when told, streams to play, one agent alone, assertions.

`stigmergy.testing.strategies` and `stigmergy.testing.stores` need the extra `stigmergy[testing]`; nothing here does.
"""

from stigmergy.blackboard.clock import VirtualClock
from stigmergy.testing.assertions import assert_idle, assert_lineage, assert_not_published, assert_published
from stigmergy.testing.network import NetworkRefused, refused_network
from stigmergy.testing.playing import play
from stigmergy.testing.solo import SoloContext, Trial, artifact, context, trial
from stigmergy.testing.streams import line

__all__ = [
    "NetworkRefused",
    "SoloContext",
    "Trial",
    "VirtualClock",
    "artifact",
    "assert_idle",
    "assert_lineage",
    "assert_not_published",
    "assert_published",
    "context",
    "line",
    "play",
    "refused_network",
    "trial",
]
