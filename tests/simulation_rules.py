"""What must hold of every decision, by the books."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.definitions import Ancestor, Subscription
from stigmergy.blackboard.events import Event, Published
from tests.simulation_books import GOOD, Books, Offer, Spot


class Auditor:
    """Checks each decision against the books before it goes into them."""

    def __init__(self, books: Books) -> None:
        self.books = books

    def decision(self, events: Sequence[Event], partly: bool) -> None:
        """Check one decision and take it into the books.

        Args:
            partly: whether places may fire before they are full (a deadline, or nothing else to do).
        """
        self._check_positions(events)
        expected: list[tuple[str, str, int, bool]] = []
        changed: list[int] = []
        missed: dict[str, int] = {}
        enrolled: list[str] = []
        held = set(self.books.held)
        for i, e in enumerate(events):
            following = next((then for then in events[i + 1 :] if not isinstance(then, ev.Faulted | ev.Called)), None)
            if isinstance(e, ev.Released) and e.cause in self.books.held:
                reviewer = self.books.held[e.cause].held_by
                offers = self.books.takers(self.books.held[e.cause], e.at)
                had = (reviewer, e.cause) in self.books.had
                expected += _offered(e.cause, (o for o in offers if o.agent != reviewer or not had))
            if isinstance(e, ev.Enrolled):
                self._note_missed(e, missed)
                enrolled.append(e.name)
            if isinstance(e, ev.Expired) and e.reason == "changed":
                changed += e.artifacts
            self._check(e, following, partly)
            self.books.absorb(e)
            if isinstance(e, Published):
                delayed = e.visibility is not None and bool(e.visibility.after)
                offers = [] if delayed else self.books.takers(e, e.at, e.held_by)
                expected += _offered(e.seq, offers)
        expected += self._missed_offers(missed, changed, events[0])
        expected += self._review_offers(enrolled, held, events[0])
        whole = [e for e in events if not isinstance(e, ev.Faulted)]
        made = [o for e, then in zip_longest(whole, whole[1:]) if (o := _made(e, then)) is not None]
        assert sorted(made) == sorted(expected), f"offered {sorted(made)}, not {sorted(expected)}"
        self._check_places()
        self._check_works()

    def _check_positions(self, events: Sequence[Event]) -> None:
        first = events[0]
        gap = first.gap if isinstance(first, ev.Opened) else 0
        assert first.seq == self.books.last + 1 + gap, f"event {first.seq} follows {self.books.last}"
        for i, e in enumerate(events):
            assert e.seq == first.seq + i, "the log is not dense"
            assert e.tx == first.seq, "a decision is not whole"
            assert e.at == first.at >= self.books.at, "time goes back"
            assert e.cause < e.seq, "a cause follows its effect"
            assert not e.cause or e.cause in self.books.events or e.cause >= first.seq, (
                f"{e.seq} has a lost cause {e.cause}"
            )

    def _note_missed(self, e: ev.Enrolled, missed: dict[str, int]) -> None:
        for id in e.subscriptions:
            [subscription] = [s for s in self.books.agents[e.name].subscriptions if s.id == id]
            after = self.books.seen.get(id, 0 if subscription.since == "start" else None)
            if id not in self.books.enrolled and after is not None:
                missed[id] = after

    def _missed_offers(
        self, missed: dict[str, int], changed: Iterable[int], first: Event
    ) -> list[tuple[str, str, int, bool]]:
        """What agents that enroll are offered: what they missed, and what waited for an older shape of theirs."""
        found = []
        for agent in self.books.agents.values():
            mine = {s.id for s in agent.subscriptions}
            if not mine & missed.keys() and not changed:
                continue
            for id, p in self.books.published.items():
                if id >= first.seq or id in self.books.gone:
                    continue
                if (offer := self.books.taker(agent, p, first.at)) is None:
                    continue
                position = self.books.offered_at.get(id, first.seq)
                late = missed.get(offer.subscription.id, first.seq) < position < first.seq
                had = self.books.had.get((agent.name, id), first.seq) < first.seq
                reviewed = position > id and agent.name == p.held_by and had
                if (late and not reviewed) or (id in changed and self._was_in(id, offer.subscription.id)):
                    found += _offered(id, [offer])
        return found

    def _review_offers(self, agents: Iterable[str], held: set[int], first: Event) -> list[tuple[str, str, int, bool]]:
        """What agents that enroll are offered of what is held for their review, if they never had it."""
        found = []
        for name in agents:
            for id in held:
                p = self.books.published[id]
                if p.held_by == name and self.books.had.get((name, id), first.seq) >= first.seq:
                    found += _offered(id, self.books.takers(p, first.at, name))
        return found

    def _was_in(self, artifact: int, subscription: str) -> bool:
        """Whether the artifact has just left its place because the subscription changed."""
        at = self.books.events[self.books.last].tx
        return any(
            isinstance(e := self.books.events[i], ev.Expired)
            and (e.reason, e.subscription) == ("changed", subscription)
            and artifact in e.artifacts
            for i in range(at, self.books.last + 1)
        )

    def _check(self, e: Event, following: Event | None, partly: bool) -> None:
        match e:
            case Published():
                self._check_published(e)
            case ev.Activated():
                self._check_activated(e, following, partly)
            case ev.Matched():
                self._check_new(e.subscription.rpartition("/")[0], e.cause)
                assert e.cause not in self.books.waiting.get(e.subscription, {}), "it waits already"
            case ev.Expired():
                self._check_expired(e)
            case ev.Claimed():
                self._check_claimed(e)
            case ev.Completed():
                assert self.books.open[e.cause].fence, "what does not run was completed"
            case ev.Failed():
                self._check_failed(e, following)
            case ev.Ended():
                assert e.cause in self.books.open, "what is not open was ended"
            case ev.Redriven():
                old = self.books.runs[e.cause]
                assert old.outcome not in ("", *GOOD), f"{old.outcome or 'open'} was redriven"
                assert not old.redriven, "redriven twice"
            case ev.Withdrawn():
                assert e.cause in self.books.held, "what is not held was withdrawn"
            case ev.Faulted():
                assert (e.component, e.fingerprint) not in self.books.faults, f"{e.component} broke twice"

    def _check_published(self, e: Published) -> None:
        assert e.key is None or (e.run, e.key) not in self.books.keys, f"key {e.key!r} was used twice"
        assert e.work is None or (e.run, e.work) not in self.books.works, f"work id {e.work!r} was used twice"
        assert e.producer not in self.books.faulted, f"{e.producer} publishes though it broke"
        payload = self.books.types.decode(e.type, e.version, e.payload)
        if e.type == "Note" and e.system:
            about: int = getattr(payload, "about", 0)
            assert (e.producer, about) not in self.books.notes, f"{e.producer} reacted twice to event {about}"
            cause = self.books.events[about]
            assert not isinstance(cause, Published) or cause.producer != e.producer, "it reacted to itself"
        run = self.books.runs.get(e.cause)
        if run is not None and e.producer == run.event.agent:
            assert e.run == run.event.run
            assert e.depth == run.event.depth + 1
            assert e.root == min(self.books.published[i].root or i for i in run.event.inputs)
            assert e.ancestors == self._ancestors(run.event.inputs), "wrong ancestors"

    def _ancestors(self, inputs: Sequence[int]) -> dict[str, int]:
        asked = {
            s.by.type_name for a in self.books.agents.values() for s in a.subscriptions if isinstance(s.by, Ancestor)
        }
        nearest: dict[str, set[int]] = {}
        for id in inputs:
            p = self.books.published[id]
            for name, ancestor in {**p.ancestors, **({p.type: id} if p.type in asked else {})}.items():
                nearest.setdefault(name, set()).add(ancestor)
        return {name: next(iter(ids)) for name, ids in nearest.items() if len(ids) == 1} if asked else {}

    def _check_new(self, agent: str, artifact: int) -> None:
        p = self.books.published[artifact]
        key = (agent, self.books.generation.get(agent, 0), artifact)
        again = (
            key in self.books.offers
            and not self._was_in(artifact, f"{agent}/0")
            and not self._was_in(artifact, f"{agent}/1")
        )
        assert not again, f"artifact {artifact} is offered to {agent} a second time"
        assert artifact not in self.books.held or self.books.held[artifact].held_by == agent, f"{artifact} is held"
        assert artifact not in self.books.withdrawn or p.held_by == agent, f"{artifact} was withdrawn"
        assert p.producer != agent or self.books.agents[agent].self_trigger, f"{agent} triggered itself"

    def _check_activated(self, e: ev.Activated, following: Event | None, partly: bool) -> None:
        assert e.inputs and len(set(e.inputs)) == len(e.inputs)
        assert all(i in self.books.published for i in e.inputs), "an input does not exist"
        assert e.cause in e.inputs
        blocking = dict.fromkeys(
            (self.books.published[i].run, w) for i in e.inputs for w in self.books.published[i].blocking
        )
        pending = [work for work in blocking if work not in self.books.done]
        if e.redriven:
            assert e.inputs == self.books.runs[e.redriven].event.inputs
            assert e.waits == pending, f"blocked by {e.waits}, not {pending}"
            return
        [subscription] = [s for s in self.books.agents[e.agent].subscriptions if s.id == e.subscription]
        raised = not e.slots and isinstance(following, ev.Ended) and following.reason == "filter raised"
        if not raised:
            assert e.waits == pending, f"blocked by {e.waits}, not {pending}"
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
        left = {id: spot for id, spot in self.books.waiting[e.subscription].items() if spot.scope == e.scope}
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
            assert {self.books.published[i].run for i in e.inputs} == {e.run}, "runs were mixed"
        assert e.depth == max(self.books.published[i].depth for i in e.inputs)

    def _check_expired(self, e: ev.Expired) -> None:
        places = self.books.waiting[e.subscription]
        [subscription] = [s for a in self.books.agents.values() for s in a.subscriptions if s.id == e.subscription]
        for id in e.artifacts:
            spot = places[id]
            if e.reason == "window":
                entered = self.books.ordinals[e.subscription, spot.scope]
                counted = subscription.window is not None and entered - spot.ordinal > subscription.window
                within = subscription.within
                assert counted or (isinstance(within, float) and e.at >= spot.at + within), f"{id} expired too early"
            elif e.reason == "waiting_limit":
                assert len(places) > subscription.max_waiting and id == next(iter(places))

    def _check_claimed(self, e: ev.Claimed) -> None:
        run = self.books.open[e.cause]
        assert not run.fence, "it runs already"
        assert e.attempt == run.attempts + 1, f"attempt {e.attempt} after {run.attempts} failures"
        assert run.event.agent in self.books.agents, "its agent is not here"
        assert run.event.run not in self.books.closed, "its run is closed"
        pending = [w for w in run.event.waits if w not in self.books.done]
        assert not pending, f"it waits for {pending}"
        running = [r for r in self.books.open.values() if r.fence]
        assert not any(r.alone for r in running), "a suspect is to run alone"
        assert e.alone == run.suspect
        if e.alone:
            assert not running, "a suspect runs beside others"
        else:
            assert not self.books.guards & self.books.faulted.keys(), "a guard that broke let it pass"

    def _check_failed(self, e: ev.Failed, following: Event | None) -> None:
        run = self.books.open[e.cause]
        assert run.fence, "what does not run failed"
        assert e.guilty == (e.kind == "crashed" and run.alone), "the wrong one is guilty"
        if e.retry_at is None:
            assert isinstance(following, ev.Ended) and following.cause == e.cause
        if isinstance(following, ev.Ended) and following.reason == "kills_process":
            assert run.crashes + 1 >= self.books.agents[run.event.agent].max_crashes, "an innocent was punished"

    def _check_places(self) -> None:
        for agent in self.books.agents.values():
            for subscription in agent.subscriptions:
                spots = self.books.waiting.get(subscription.id)
                if spots and not subscription.single and subscription.id in self.books.enrolled:
                    full = full_groups(subscription, spots.values())
                    assert full < subscription.groups, f"{subscription.id} has {full} complete groups and did not fire"

    def _check_works(self) -> None:
        failed = {
            w for w, id in self.books.works.items() if w not in self.books.done and self.books.status(id) == "failed"
        }
        for id, run in self.books.open.items():
            assert not any(w in failed for w in run.event.waits), f"{id} waits for failed work"


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
