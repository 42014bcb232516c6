"""The books that a simulation keeps beside the core, from its events alone, and what must always hold in them.

Nothing here asks the core's state: who takes an artifact is found by trying every agent, what waits is a plain list.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.definitions import AgentSpec, Ancestor, Subscription
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.types import TypeTable

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
    faulted: dict[str, int] = field(default_factory=dict)
    notes: set[tuple[str, int]] = field(default_factory=set)
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
        for id in e.subscriptions:
            self.seen.pop(id, None)
            self.enrolled.add(id)

    def _published(self, e: Published) -> None:
        self.published[e.seq] = e
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
            if p.work is not None and self._status(artifact) == "done":
                self.done.add((p.run, p.work))

    def _status(self, artifact: int) -> str:
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

    def _faulted(self, e: ev.Faulted) -> None:
        self.faulted[e.component] = e.seq

    # -- who takes what -------------------------------------------------------------------------------------------

    def takers(self, e: Published, now: float, only: str = "") -> list[Offer]:
        """The offers of an artifact, found by trying everybody."""
        found = (self._taker(agent, e, now) for agent in self.agents.values() if not only or agent.name == only)
        return [offer for offer in found if offer is not None]

    def _taker(self, agent: AgentSpec, e: Published, now: float) -> Offer | None:
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

    # -- checking -------------------------------------------------------------------------------------------------

    def decision(self, events: Sequence[Event], partly: bool) -> None:
        """Check one decision and take it into the books.

        Args:
            partly: whether places may fire before they are full (a deadline, or nothing else to do).
        """
        self._check_positions(events)
        expected: list[tuple[str, str, int, bool]] = []
        changed: list[int] = []
        missed: dict[str, int] = {}
        for i, e in enumerate(events):
            following = events[i + 1] if i + 1 < len(events) else None
            if isinstance(e, ev.Released) and e.cause in self.held:
                reviewer = self.held[e.cause].held_by
                offers = self.takers(self.held[e.cause], e.at)
                expected += _offered(e.cause, (o for o in offers if o.agent != reviewer))
            if isinstance(e, ev.Enrolled):
                self._note_missed(e, missed)
            if isinstance(e, ev.Expired) and e.reason == "changed":
                changed += e.artifacts
            self._check(e, following, partly)
            self.absorb(e)
            if isinstance(e, Published):
                delayed = e.visibility is not None and bool(e.visibility.after)
                offers = [] if delayed else self.takers(e, e.at, e.held_by)
                expected += _offered(e.seq, offers)
        expected += self._missed_offers(missed, changed, events[0])
        made = [o for e, then in zip(events, [*events[1:], None], strict=True) if (o := _made(e, then)) is not None]
        assert sorted(made) == sorted(expected), f"offered {sorted(made)}, not {sorted(expected)}"
        self._check_places()
        self._check_works()

    def _check_positions(self, events: Sequence[Event]) -> None:
        first = events[0]
        gap = first.gap if isinstance(first, ev.Opened) else 0
        assert first.seq == self.last + 1 + gap, f"event {first.seq} follows {self.last}"
        for i, e in enumerate(events):
            assert e.seq == first.seq + i, "the log is not dense"
            assert e.tx == first.seq, "a decision is not whole"
            assert e.at == first.at >= self.at, "time goes back"
            assert e.cause < e.seq, "a cause follows its effect"
            assert not e.cause or e.cause in self.events or e.cause >= first.seq, f"{e.seq} has a lost cause {e.cause}"

    def _note_missed(self, e: ev.Enrolled, missed: dict[str, int]) -> None:
        for id in e.subscriptions:
            [subscription] = [s for s in self.agents[e.name].subscriptions if s.id == id]
            after = self.seen.get(id, 0 if subscription.since == "start" else None)
            if id not in self.enrolled and after is not None:
                missed[id] = after

    def _missed_offers(
        self, missed: dict[str, int], changed: Iterable[int], first: Event
    ) -> list[tuple[str, str, int, bool]]:
        """What agents that enroll are offered: what they missed, and what waited for an older shape of theirs."""
        found = []
        for agent in self.agents.values():
            mine = {s.id for s in agent.subscriptions}
            if not mine & missed.keys() and not changed:
                continue
            for id, position in self.offered_at.items():
                if position >= first.seq:
                    continue
                offer = self._taker(agent, self.published[id], first.at)
                late = offer is not None and position > missed.get(offer.subscription.id, self.last)
                if offer is not None and (late or (id in changed and self._was_in(id, offer.subscription.id))):
                    found += _offered(id, [offer])
        return found

    def _was_in(self, artifact: int, subscription: str) -> bool:
        """Whether the artifact has just left its place because the subscription changed."""
        at = self.events[self.last].tx
        return any(
            isinstance(e := self.events[i], ev.Expired) and e.subscription == subscription and artifact in e.artifacts
            for i in range(at, self.last + 1)
        )

    def _check(self, e: Event, following: Event | None, partly: bool) -> None:
        match e:
            case Published():
                self._check_published(e)
            case ev.Activated():
                self._check_activated(e, following, partly)
            case ev.Matched():
                self._check_new(e.subscription.rpartition("/")[0], e.cause)
                assert e.cause not in self.waiting.get(e.subscription, {}), "it waits already"
            case ev.Expired():
                self._check_expired(e)
            case ev.Claimed():
                self._check_claimed(e)
            case ev.Completed():
                assert self.open[e.cause].fence, "what does not run was completed"
            case ev.Failed():
                self._check_failed(e, following)
            case ev.Ended():
                assert e.cause in self.open, "what is not open was ended"
            case ev.Redriven():
                old = self.runs[e.cause]
                assert old.outcome not in ("", *GOOD), f"{old.outcome or 'open'} was redriven"
                assert not old.redriven, "redriven twice"
            case ev.Withdrawn():
                assert e.cause in self.held, "what is not held was withdrawn"
            case ev.Faulted():
                assert e.component not in self.faulted, f"{e.component} broke twice"

    def _check_published(self, e: Published) -> None:
        assert e.key is None or (e.run, e.key) not in self.keys, f"key {e.key!r} was used twice"
        assert e.work is None or (e.run, e.work) not in self.works, f"work id {e.work!r} was used twice"
        assert e.producer not in self.faulted, f"{e.producer} publishes though it broke"
        payload = self.types.decode(e.type, e.version, e.payload)
        if e.type == "Note" and e.system:
            about: int = getattr(payload, "about", 0)
            assert (e.producer, about) not in self.notes, f"{e.producer} reacted twice to event {about}"
            cause = self.events[about]
            assert not isinstance(cause, Published) or cause.producer != e.producer, "it reacted to itself"
        run = self.runs.get(e.cause)
        if run is not None and e.producer == run.event.agent:
            assert e.run == run.event.run
            assert e.depth == run.event.depth + 1
            assert e.root == min(self.published[i].root or i for i in run.event.inputs)
            assert e.ancestors == self._ancestors(run.event.inputs), "wrong ancestors"

    def _ancestors(self, inputs: Sequence[int]) -> dict[str, int]:
        asked = {s.by.type_name for a in self.agents.values() for s in a.subscriptions if isinstance(s.by, Ancestor)}
        nearest: dict[str, set[int]] = {}
        for id in inputs:
            p = self.published[id]
            for name, ancestor in {**p.ancestors, **({p.type: id} if p.type in asked else {})}.items():
                nearest.setdefault(name, set()).add(ancestor)
        return {name: next(iter(ids)) for name, ids in nearest.items() if len(ids) == 1} if asked else {}

    def _check_new(self, agent: str, artifact: int) -> None:
        p = self.published[artifact]
        key = (agent, self.generation.get(agent, 0), artifact)
        again = key in self.offers and not self._was_in(artifact, f"{agent}/0") and not self._was_in(artifact, f"{agent}/1")
        assert not again, f"artifact {artifact} is offered to {agent} a second time"
        assert artifact not in self.held or self.held[artifact].held_by == agent, f"{artifact} is held"
        assert artifact not in self.withdrawn, f"{artifact} was withdrawn"
        assert p.producer != agent or self.agents[agent].self_trigger, f"{agent} triggered itself"

    def _check_activated(self, e: ev.Activated, following: Event | None, partly: bool) -> None:
        assert e.inputs and len(set(e.inputs)) == len(e.inputs)
        assert all(i in self.published for i in e.inputs), "an input does not exist"
        assert e.cause in e.inputs
        blocking = dict.fromkeys((self.published[i].run, w) for i in e.inputs for w in self.published[i].blocking)
        pending = [work for run, work in blocking if (run, work) not in self.done]
        if e.redriven:
            assert e.inputs == self.runs[e.redriven].event.inputs
            assert e.blockers == pending, f"blocked by {e.blockers}, not {pending}"
            return
        [subscription] = [s for s in self.agents[e.agent].subscriptions if s.id == e.subscription]
        raised = not e.slots and isinstance(following, ev.Ended) and following.reason == "filter raised"
        if not raised:
            assert e.blockers == pending, f"blocked by {e.blockers}, not {pending}"
        if subscription.single or raised:
            assert len(e.inputs) == 1 and not e.slots
            self._check_new(e.agent, e.inputs[0])
            return
        self._check_group(e, subscription, partly)

    def _check_group(self, e: ev.Activated, subscription: Subscription, partly: bool) -> None:
        width = len(subscription.slots)
        groups, rest = divmod(len(e.slots), width)
        assert rest == 0 and sum(e.slots) == len(e.inputs)
        assert groups == subscription.groups or (partly and groups < subscription.groups)
        inputs = list(e.inputs)
        left = {id: spot for id, spot in self.waiting[e.subscription].items() if spot.scope == e.scope}
        for g in range(groups):
            keys = set()
            for i, slot in enumerate(subscription.slots):
                n = e.slots[g * width + i]
                taken, inputs = inputs[:n], inputs[n:]
                full = n == slot.count or (partly and ((slot.optional and n == 0) or (subscription.batch and n)))
                assert full, f"slot {i} of {e.subscription} fired with {n} of {slot.count}"
                for id in taken:
                    assert id in left, f"{id} does not wait in {e.subscription}"
                    keys.add(left[id].key)
                    assert left[id].slot == i, f"{id} belongs to slot {left[id].slot}, not {i}"
                assert len(keys) <= 1, f"{e.subscription} joined different keys {keys}"
                queue = [id for id, s in left.items() if s.slot == i and s.key in keys]
                assert queue[:n] == taken, f"{taken} were taken before {queue}"
                left = {id: spot for id, spot in left.items() if id not in taken}
        if subscription.scope == "run":
            assert {self.published[i].run for i in e.inputs} == {e.run}, "runs were mixed"
        assert e.depth == max(self.published[i].depth for i in e.inputs)

    def _check_expired(self, e: ev.Expired) -> None:
        places = self.waiting[e.subscription]
        [subscription] = [s for a in self.agents.values() for s in a.subscriptions if s.id == e.subscription]
        for id in e.artifacts:
            spot = places[id]
            if e.reason == "window":
                entered = self.ordinals[e.subscription, spot.scope]
                counted = subscription.window is not None and entered - spot.ordinal > subscription.window
                within = subscription.within
                assert counted or (isinstance(within, float) and e.at >= spot.at + within), f"{id} expired too early"
            elif e.reason == "waiting_limit":
                assert len(places) > subscription.max_waiting and id == next(iter(places))

    def _check_claimed(self, e: ev.Claimed) -> None:
        run = self.open[e.cause]
        assert not run.fence, "it runs already"
        assert e.attempt == run.attempts + 1, f"attempt {e.attempt} after {run.attempts} failures"
        assert run.event.agent in self.agents, "its agent is not here"
        assert run.event.run not in self.closed, "its run is closed"
        pending = [w for w in run.event.blockers if (run.event.run, w) not in self.done]
        assert not pending, f"it waits for {pending}"
        running = [r for r in self.open.values() if r.fence]
        assert not any(r.alone for r in running), "a suspect is to run alone"
        assert e.alone == run.suspect
        if e.alone:
            assert not running, "a suspect runs beside others"
        else:
            assert not self.guards & self.faulted.keys(), "a guard that broke let it pass"

    def _check_failed(self, e: ev.Failed, following: Event | None) -> None:
        run = self.open[e.cause]
        assert run.fence, "what does not run failed"
        assert e.guilty == (e.kind == "crashed" and run.alone), "the wrong one is guilty"
        if e.retry_at is None:
            assert isinstance(following, ev.Ended) and following.cause == e.cause
        if isinstance(following, ev.Ended) and following.reason == "kills_process":
            assert run.crashes + 1 >= self.agents[run.event.agent].max_crashes, "an innocent was punished"

    def _check_places(self) -> None:
        for agent in self.agents.values():
            for subscription in agent.subscriptions:
                spots = self.waiting.get(subscription.id)
                if spots and not subscription.single and subscription.id in self.enrolled:
                    full = full_groups(subscription, spots.values())
                    assert full < subscription.groups, f"{subscription.id} has {full} complete groups and did not fire"

    def _check_works(self) -> None:
        failed = {w for w, id in self.works.items() if w not in self.done and self._status(id) == "failed"}
        for id, run in self.open.items():
            assert not any((run.event.run, w) in failed for w in run.event.blockers), f"{id} waits for failed work"


def full_groups(subscription: Subscription, spots: Iterable[Spot]) -> int:
    """How many groups of one scope are complete; the most of any scope."""
    counts: dict[tuple[str, str], list[int]] = {}
    for spot in spots:
        counts.setdefault((spot.scope, spot.key), [0] * len(subscription.slots))[spot.slot] += 1
    by_scope: dict[str, int] = {}
    for (scope, _), n in counts.items():
        full = min(have // slot.count for have, slot in zip(n, subscription.slots, strict=True))
        by_scope[scope] = by_scope.get(scope, 0) + full
    return max(by_scope.values(), default=0)


def _key(subscription: Subscription, e: Published, payload: BaseModel) -> str:
    by = subscription.by
    if subscription.single or by is None:
        return ""
    if isinstance(by, Ancestor):
        return str(e.seq if e.type == by.type_name else e.ancestors[by.type_name])
    return json.dumps(getattr(payload, by) if isinstance(by, str) else by(payload))


def _offered(artifact: int, offers: Iterable[Offer]) -> list[tuple[str, str, int, bool]]:
    return [
        (o.subscription.id, "" if o.error or o.subscription.single else f"{o.slot} {o.key}", artifact, o.error)
        for o in offers
    ]


def _made(e: Event, following: Event | None) -> tuple[str, str, int, bool] | None:
    """The offer that an event records, if it does."""
    if isinstance(e, ev.Matched):
        return e.subscription, f"{e.slot} {e.key}", e.cause, False
    if isinstance(e, ev.Activated) and not e.slots and not e.redriven:
        return e.subscription, "", e.cause, isinstance(following, ev.Ended) and following.reason == "filter raised"
    return None
