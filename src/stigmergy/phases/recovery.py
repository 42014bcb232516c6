"""Work that is to make good for what failed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from pydantic import BaseModel

from stigmergy.blackboard.component import Component, Publish, Reaction, Seen
from stigmergy.blackboard.core.visibility import Named, name_of
from stigmergy.blackboard.definitions import is_number
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import Activated, Ended, Event, Published, Redriven
from stigmergy.blackboard.reading.dead_letters import RECOVERY
from stigmergy.blackboard.text import short
from stigmergy.phases.work import WorkDiscovery

_REMEMBERED = 10_000
"""Descendants of recovery work that are known as such; older ones count as if they descended from none."""


@dataclass(frozen=True, slots=True)
class Recoveries:
    """How deep in recovery artifacts and activations are, when each agent's last failure was recovered from, and the
    failures of now that nobody has taken care of."""

    depth: Mapping[int, int] = field(default_factory=dict)
    last: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[int, int] = field(default_factory=dict)


class Recovery(Component[Recoveries]):
    """Publishes critical work about what failed for good, so that some agent finds a way around it.

    Only who may see all inputs of what failed sees that work: it quotes the error.

    Args:
        agents: whose failures; none = everybody's.
        phase: the phase that is to see to it.
        depth: how deep recovery may nest: 1 = what fails in recovery work is not recovered from.
        cooldown: seconds after a recovery in which further failures of the same agent get none.
    """

    publishes = (WorkDiscovery,)
    observes: ClassVar[tuple[type[Event] | type[BaseModel], ...]] = (Published, Activated, Ended, Redriven)

    def __init__(
        self, *agents: str | Named, phase: str = "analysis", depth: int = 2, cooldown: Seconds | None = None
    ) -> None:
        if not is_number(depth, whole=True) or depth < 1:
            raise BadComponent(f"Recovery(depth={depth!r}): a whole number from 1.")
        if not isinstance(phase, str) or not phase.strip():
            raise BadComponent(f"Recovery(phase={phase!r}): the name of a phase that sees to failures.")
        self._agents = frozenset(map(name_of, agents))
        self._phase = phase
        self._depth = depth
        self._cooldown = 0.0 if cooldown is None else in_seconds(cooldown, "cooldown=")

    def start(self) -> Recoveries:
        return Recoveries()

    def step(self, state: Recoveries, seen: Seen, /) -> Recoveries:
        event, a = seen.event, seen.activation
        match event:
            case Published() if event.producer == self.name and seen.artifact is not None:
                work = seen.artifact.as_type(WorkDiscovery)
                about = work.metadata if work is not None else {}
                return Recoveries(
                    _with(state.depth, event.seq, int(str(about.get("recovery", 1)))),
                    {**state.last, str(about.get("agent", "")): event.at},
                    {id_: end for id_, end in state.failed.items() if end != event.cause},
                )
            case Published() if event.cause in state.depth:
                return replace(state, depth=_with(state.depth, event.seq, state.depth[event.cause]))
            case Activated():
                deepest = max((state.depth.get(i, 0) for i in (*event.inputs, event.redriven)), default=0)
                return replace(state, depth=_with(state.depth, event.seq, deepest)) if deepest else state
            case Ended(outcome="dead_letter") if a is not None and (not self._agents or a.agent in self._agents):
                now = {id_: end for id_, end in state.failed.items() if end >= event.tx}
                return replace(state, failed={**now, a.id: event.seq})
            case Redriven():
                return replace(state, failed={id_: end for id_, end in state.failed.items() if id_ != event.cause})
            case _:
                return state

    def react(self, state: Recoveries, seen: Seen, /) -> Iterable[Reaction]:
        event, a = seen.event, seen.activation
        if not isinstance(event, Ended) or a is None or a.id not in state.failed:
            return
        depth = state.depth.get(a.id, 0) + 1
        last = state.last.get(a.agent)
        if depth > self._depth or (last is not None and event.at < last + self._cooldown):
            return
        error = f"{event.error.type}: {short(event.error.message, 500)}" if event.error else event.reason
        work = WorkDiscovery(
            description=f"{a.agent}@{a.id} failed: {error}",
            phase=self._phase,
            priority="critical",
            done_definition=f"What {a.agent} was to do is done in another way, or it is clear why it cannot be.",
            discovered_by=self.name,
            metadata={"agent": a.agent, "activation": a.id, "inputs": list(a.inputs), "recovery": depth},
        )
        yield Publish(work, tags=(RECOVERY,), run=a.run, about=(a.id,))


def _with(depth: Mapping[int, int], id_: int, deep: int) -> Mapping[int, int]:
    kept = {**depth, id_: deep}
    if len(kept) > _REMEMBERED:
        del kept[next(iter(kept))]
    return kept
