"""For tests of agents and boards: a clock that moves only when told, streams to play, one agent alone, assertions.

`stigmergy.testing.strategies` and `stigmergy.testing.stores` need the extra `stigmergy[testing]`; nothing here does.
"""

from stigmergy.agents.models.scripted import outputs
from stigmergy.blackboard.clock import VirtualClock
from stigmergy.testing.asked import Asked, asked
from stigmergy.testing.assertions import assert_idle, assert_lineage, assert_not_published, assert_published
from stigmergy.testing.by_hand import SoloContext, context, perform, prompt
from stigmergy.testing.desk import Effect
from stigmergy.testing.envelopes import artifact
from stigmergy.testing.making import make_test
from stigmergy.testing.network import NetworkRefused, refused_network
from stigmergy.testing.playing import play
from stigmergy.testing.solo import Trial, trial
from stigmergy.testing.streams import line

__all__ = [
    "Asked",
    "Effect",
    "NetworkRefused",
    "SoloContext",
    "Trial",
    "VirtualClock",
    "artifact",
    "asked",
    "assert_idle",
    "assert_lineage",
    "assert_not_published",
    "assert_published",
    "context",
    "line",
    "make_test",
    "outputs",
    "perform",
    "play",
    "prompt",
    "refused_network",
    "trial",
]
