"""The books that a simulation keeps beside the core, from its events alone.

Nothing here asks the core's state: who takes an artifact is found by trying every agent, what waits is a plain list.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.definitions import AgentSpec, Ancestor, Subscription
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.payloads.table import TypeTable

GOOD = ("completed", "skipped")


@dataclass(slots=True)
class Run:
    """An activation, open or ended."""

    event: ev.Activated
    attempts: int = 0
    crashes: int = 0
    fence: int = 0
    alone: bool = False
    suspect: bool = False
    outcome: str = ""
    redriven: bool = False


@dataclass(slots=True)
class Spot:
    """Where an artifact waits."""

    scope: str
    key: str
    slot: int
    at: float
    ordinal: int


@dataclass(slots=True)
class Offer:
    """An agent is to get an artifact, in this place; or its filter raised."""

    agent: str
    subscription: Subscription
    slot: int
    key: str
    error: bool = False


@dataclass(slots=True)
class Books:
    """Everything that ever happened on a board."""

    types: TypeTable
    agents: dict[str, AgentSpec] = field(default_factory=dict)
    guards: frozenset[str] = frozenset()
    events: dict[int, Event] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    open: dict[int, Run] = field(default_factory=dict)
    published: dict[int, Published] = field(default_factory=dict)
    payloads: dict[int, Any] = field(default_factory=dict)
    held: dict[int, Published] = field(default_factory=dict)
    withdrawn: set[int] = field(default_factory=set)
    offered_at: dict[int, int] = field(default_factory=dict)
    offers: dict[tuple[str, int, int], int] = field(default_factory=dict)
    had: dict[tuple[str, int], int] = field(default_factory=dict)
    """When an agent was offered an artifact first."""
    generation: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, dict[int, Spot]] = field(default_factory=dict)
    ordinals: dict[tuple[str, str], int] = field(default_factory=dict)
    keys: dict[tuple[str, str], int] = field(default_factory=dict)
    works: dict[tuple[str, str], int] = field(default_factory=dict)
    done: set[tuple[str, str]] = field(default_factory=set)
    consumers: dict[int, list[int]] = field(default_factory=dict)
    enrolled: set[str] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    faults: dict[tuple[str, str], int] = field(default_factory=dict)
    """When a version of a component broke."""
    faulted: dict[str, int] = field(default_factory=dict)
    notes: set[tuple[str, int]] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    """What is erased: nobody who comes later is offered it."""
    last: int = 0
    at: float = 0.0

    # -- absorbing ------------------------------------------------------------------------------------------------

    def absorb(self, e: Event) -> None:
        """Take an event into the books."""
        self.events[e.seq] = e
        self.last, self.at = e.seq, e.at
        name = type(e).__name__.lower()
        absorb = getattr(self, f"_{name}", None)
        if absorb is not None:
            absorb(e)

    def _opened(self, e: ev.Opened) -> None:
        for id in self.enrolled:
            self.seen[id] = e.seq - 1 - e.gap
        self.enrolled = set()

    def _enrolled(self, e: ev.Enrolled) -> None:
        if (e.name, e.fingerprint) not in self.faults:
            self.faulted.pop(e.name, None)
        for id in e.subscriptions:
            self.seen.pop(id, None)
            self.enrolled.add(id)

    def _published(self, e: Published) -> None:
        self.published[e.seq] = e
        if e.payload:  # or it is erased by now, and was known before
            self.payloads[e.seq] = self.types.decode(e.type, e.version, e.payload)
        if e.key is not None:
            self.keys[e.run, e.key] = e.seq
        if e.work is not None:
            self.works[e.run, e.work] = e.seq
        if e.held_by:
            self.held[e.seq] = e
        else:
            self.offered_at[e.seq] = e.seq
        if e.type == "Note":
            self.notes.add((e.producer, self.payloads[e.seq].about))

    def _released(self, e: ev.Released) -> None:
        if self.held.pop(e.cause, None) is not None:
            self.offered_at[e.cause] = e.seq

    def _withdrawn(self, e: ev.Withdrawn) -> None:
        del self.held[e.cause]
        self.withdrawn.add(e.cause)

    def _matched(self, e: ev.Matched) -> None:
        ordinal = self.ordinals.get((e.subscription, e.scope), 0) + 1
        self.ordinals[e.subscription, e.scope] = ordinal
        self.waiting.setdefault(e.subscription, {})[e.cause] = Spot(e.scope, e.key, e.slot, e.at, ordinal)
        self._offered(e.subscription.rpartition("/")[0], e.cause)

    def _expired(self, e: ev.Expired) -> None:
        for artifact in e.artifacts:
            del self.waiting[e.subscription][artifact]

    def _offered(self, agent: str, artifact: int) -> None:
        self.offers[agent, self.generation.get(agent, 0), artifact] = self.last
        self.had.setdefault((agent, artifact), self.last)

    def _activated(self, e: ev.Activated) -> None:
        run = self.runs[e.seq] = self.open[e.seq] = Run(e)
        for artifact in e.inputs:
            self.consumers.setdefault(artifact, []).append(e.seq)
            if e.slots and not e.redriven:
                del self.waiting[e.subscription][artifact]
            elif not e.redriven:
                self._offered(e.agent, artifact)
        if e.redriven:
            self.runs[e.redriven].redriven = True
        run.crashes = 0

    def _claimed(self, e: ev.Claimed) -> None:
        run = self.open[e.cause]
        run.fence, run.alone, run.suspect = e.seq, e.alone, False

    def _completed(self, e: ev.Completed) -> None:
        self._end(e.cause, "completed")

    def _failed(self, e: ev.Failed) -> None:
        run = self.open[e.cause]
        run.fence, run.alone = 0, False
        run.attempts += e.kind not in ("crashed", "interrupted")
        run.crashes += e.guilty
        run.suspect = e.kind == "crashed"

    def _ended(self, e: ev.Ended) -> None:
        self._end(e.cause, e.outcome)

    def _end(self, id: int, outcome: str) -> None:
        run = self.open.pop(id)
        run.outcome, run.fence = outcome, 0
        for artifact in run.event.inputs:
            p = self.published[artifact]
            if p.work is not None and self.status(artifact) == "done":
                self.done.add((p.run, p.work))

    def status(self, artifact: int) -> str:
        """What has become of the work that this artifact is: "open", "failed" or "done"."""
        runs = [r for id in self.consumers.get(artifact, ()) if not (r := self.runs[id]).redriven]
        if any(r.outcome not in ("", *GOOD) for r in runs):
            return "failed"
        return "done" if runs and all(r.outcome for r in runs) else "open"

    def _closed(self, e: ev.Closed) -> None:
        if e.run:
            self.closed.add(e.run)

    def _resumed(self, e: ev.Resumed) -> None:
        self.closed.discard(e.run)

    def _erased(self, e: ev.Erased) -> None:
        self.gone |= {id for id in self.published if id < e.before} - set(e.keep)

    def _faulted(self, e: ev.Faulted) -> None:
        self.faults[e.component, e.fingerprint] = self.faulted[e.component] = e.seq

    # -- who takes what -------------------------------------------------------------------------------------------

    def takers(self, e: Published, now: float, only: str = "") -> list[Offer]:
        """The offers of an artifact, found by trying everybody."""
        found = (self.taker(agent, e, now) for agent in self.agents.values() if not only or agent.name == only)
        return [offer for offer in found if offer is not None]

    def taker(self, agent: AgentSpec, e: Published, now: float) -> Offer | None:
        payload = self.payloads[e.seq]
        v = e.visibility
        if (e.producer == agent.name and not agent.self_trigger) or (
            v is not None
            and (
                (v.agents is not None and agent.name not in v.agents)
                or (v.labels is not None and not set(v.labels) <= agent.labels)
                or (v.tenant is not None and v.tenant != agent.tenant)
                or (v.after is not None and now < e.at + v.after)
            )
        ):
            return None
        for subscription in agent.subscriptions:
            for i, slot in enumerate(subscription.slots):
                if (
                    slot.type_name != e.type
                    or (slot.producers and e.producer not in slot.producers)
                    or (slot.tags and not slot.tags & set(e.tags))
                    or any(getattr(payload, name) not in allowed for name, allowed in slot.where.equals)
                ):
                    continue
                try:
                    if all(test(payload) for test in slot.where.predicates):
                        return Offer(agent.name, subscription, i, _key(subscription, e, payload))
                except (ValueError, LookupError):
                    return Offer(agent.name, subscription, i, "", error=True)
        return None


def _key(subscription: Subscription, e: Published, payload: BaseModel) -> str:
    by = subscription.by
    if subscription.single or by is None:
        return ""
    if isinstance(by, Ancestor):
        return str(e.seq if e.type == by.type_name else e.ancestors[by.type_name])
    return json.dumps(getattr(payload, by) if isinstance(by, str) else by(payload))
