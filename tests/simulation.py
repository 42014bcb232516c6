"""A seeded simulation of everything that can happen to a board, on the pure core, with its invariants checked after
every step. No event loop, no clock: one seed is one history.

One history again, with what happens in it: `python -m tests.simulation 1234`
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.decider import Decider
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.events import ErrorInfo, Event, Visibility
from tests import simulation_checks as checks
from tests.simulation_process import Body, Process
from tests.simulation_world import LABELS, MODELS, UNLUCKY, Job

STEPS = 150


class SimulationFailed(AssertionError):
    """An invariant did not hold; the message says how to see it again."""


def simulate(seed: int, steps: int = STEPS, *, talk: bool = False) -> "Simulation":
    """Run one history.

    Raises:
        SimulationFailed: something that must always hold did not.
    """
    simulation = Simulation(seed, talk=talk)
    try:
        simulation.run(steps)
    except Exception as error:
        where = f"seed {seed}, step {simulation.step} ({simulation.doing})"
        raise SimulationFailed(
            f"{where}: {type(error).__name__}: {error}\nAgain: python -m tests.simulation {seed}"
        ) from error
    return simulation


class Simulation(Process):
    """What happens in a process, step by step and by chance."""

    def run(self, steps: int) -> None:
        """That many random steps, then no more faults: everything must come to rest."""
        rng = self.rng
        steps_with_weight: list[tuple[Callable[[], object], int]] = [
            (self.publish, 22), (self.claim, 24), (self.complete, 16), (self.fail, 7), (self.late_worker, 3),
            (self.publish_inside, 3), (self.call, 8), (self.called, 8), (self.cancel, 2), (self.redrive, 2),
            (self.release, 3), (self.wake, 9), (self.rest, 4), (self.close_run, 1), (self.resume, 4),
            (self.body_ends, 3), (self.flush, 5), (self.make_twin, 3), (self.crashes, 2), (self.restart, 2),
            (self.hire, 1), (self.erase, 1),
        ]  # fmt: skip
        kinds, weights = zip(*steps_with_weight, strict=True)
        for self.step in range(1, steps + 1):
            [act] = rng.choices(kinds, weights)
            self.doing = act.__name__
            self.now += rng.choice((0.1, 1.0, 1.0, 1.0, -1.5)) if rng.random() < 0.5 else 0.0
            act()
            if self.talk:
                print(f"{self.step:4} {self.doing} done")  # noqa: T201
        self.settle()
        self.restart()

    def payload(self) -> Any:
        rng = self.rng
        model: Any = rng.choice((*MODELS[:4], Job))
        n = UNLUCKY if rng.random() < 0.03 else rng.choice((0, 1, 2, 3, 4, 9))
        key = rng.choice(("x", "y", "z")) if rng.random() < 0.98 else "long" * 100
        if model is not Job or rng.random() < 0.1:
            return model(key=key, n=n)
        self.works += 1
        known = [f"w{max(1, self.works + rng.randint(-4, 1))}" for _ in range(rng.choice((0, 1, 1, 2)))]
        own = f"w{self.works if rng.random() < 0.9 else rng.randint(1, self.works)}"
        parent = f"w{rng.randint(1, self.works)}" if rng.random() < 0.1 else None
        return Job(key=key, n=n, work_id=own, blocking_work_ids=known, parent_work_id=parent)

    def draft(self) -> Callable[[], Draft]:
        """A random draft, made anew whenever asked, since deciders keep what they are given."""
        rng, payload = self.rng, self.payload()
        visibility = rng.choice(
            (*[None] * 7, Visibility(agents=["agent0", "agent2"]), Visibility(labels=[rng.choice(LABELS)]),
             Visibility(tenant="acme"), Visibility(after=3.0), Visibility(after=1.0, labels=["red"]))
        )  # fmt: skip
        review_by = rng.choice(("agent0", "agent1", "agent2", "nobody")) if rng.random() < 0.1 else ""
        if visibility is not None and visibility.after and rng.random() < 0.9:
            review_by = ""  # both together are refused
        options: dict[str, Any] = {
            "key": f"key{rng.randint(1, 12)}" if rng.random() < 0.15 else None,
            "tags": rng.choice(((), (), ("hot",), ("hot", "cold"))),
            "priority": rng.choice((None, None, "low", "high", "critical")),
            "visibility": visibility, "review_by": review_by, "run": rng.choice(("main", "main", "main", "side")),
        }  # fmt: skip
        return lambda: draft_of(self.types, payload, **options)

    def drafts(self, most: int, run: str | None = None) -> Callable[[], list[Draft]]:
        made = [self.draft() for _ in range(self.rng.randint(0 if run is not None else 1, most))]
        return lambda: [replace(make(), run=run) if run is not None else make() for make in made]

    def publish(self) -> None:
        drafts = self.drafts(4)
        self.attempt("publish", lambda d: d.publish(drafts(), self.now))

    def claim(self) -> None:
        """As many as the board lets run; None means that nothing may run."""
        while len(self.bodies) < self.world.concurrency:
            claimed: list[Activation | None] = []

            def decide(d: Decider, claimed: list[Activation | None] = claimed) -> list[Event]:
                events, a = d.claim(self.now)
                claimed.append(a)
                return events

            events = self.do("claim", decide)
            a = claimed[0]
            if a is None:
                if events:
                    continue  # nobody was let in, but the next one may be
                checks.check_nothing_claimable(self.decider, self.busy)
                return
            self.bodies.append(Body(a.id, a.fence, a.agent))
            checks.check_order(self.decider, a, events, self.busy)
            assert len(claimed) == 1 or claimed[1] == a
            if self.rng.random() < 0.5:
                return

    def body(self) -> Body | None:
        running = [body for body in self.bodies if not body.given_up]
        return self.rng.choice(running) if running else None

    def complete(self, body: Body | None = None) -> None:
        body = body or self.body()
        if body is None:
            return
        drafts = self.drafts(4 if self.rng.random() < 0.05 else 2, "")
        retry = self.decider.index.agents[body.agent].retry
        id, fence = body.id, body.fence
        done = self.attempt("complete", lambda d: d.complete(id, fence, drafts(), 0.5, self.now, retry))
        if done is None:
            self.fail(body)
        else:
            self.gone(body)

    def fail(self, body: Body | None = None) -> None:
        body = body or self.body()
        if body is None:
            return
        retry = self.decider.index.agents[body.agent].retry
        kind: Any = self.rng.choice(("error", "error", "interrupted"))
        error = ErrorInfo("ValueError", "it failed")
        id, fence = body.id, body.fence
        assert self.do("fail", lambda d: d.fail(id, fence, error, 0.1, self.now, retry, kind))
        self.gone(body)

    def gone(self, body: Body) -> None:
        if body in self.bodies:
            self.bodies.remove(body)
        self.late.append(body)

    def body_ends(self) -> None:
        """A body that had been given up has really ended."""
        body = next((b for b in self.bodies if b.given_up), None)
        if body is None:
            return
        self.gone(body)
        self.decider.freed(body.agent)
        if self.twin is not None:
            self.twin.decider.freed(body.agent)

    def late_worker(self) -> None:
        """A worker comes back for what another one holds, or for what is over."""
        late = [*self.late[-5:], *(b for b in self.bodies if b.given_up)]
        if not late:
            return
        body = self.rng.choice(late)
        error = ErrorInfo("ValueError", "late")
        drafts = self.drafts(1)
        assert not self.do("complete late", lambda d: d.complete(body.id, body.fence, drafts(), 1.0, self.now))
        assert not self.do("fail late", lambda d: d.fail(body.id, body.fence, error, 1.0, self.now))
        refused = self.attempt(
            "call late", lambda d: d.calling(body.id, body.fence, ev.Calling(key="late"), self.now)[0]
        )
        assert refused is None, "a late worker may start an effect"

    def publish_inside(self) -> None:
        body = self.body()
        if body is None:
            return
        drafts, id = self.drafts(1, ""), body.id
        self.attempt("publish inside", lambda d: d.publish(drafts(), self.now, d.origin_of(id)))

    def call(self) -> None:
        body = self.body()
        if body is None:
            return
        until = self.now + 2.0 if self.rng.random() < 0.3 else None
        id, fence, key = body.id, body.fence, f"call {self.step}"

        def announce(d: Decider) -> list[Event]:
            return d.calling(id, fence, ev.Calling(key=key, cost="0.01", tokens=3, until=until), self.now)[0]

        self.attempt("call", announce)

    def called(self) -> None:
        if not self.state.calls:
            return
        call = self.rng.choice(list(self.state.calls.values()))

        def record(d: Decider) -> list[Event]:
            event = ev.Called(activation=call.activation, key=call.key, cost="0.02", payload=b"1")
            return d.called(call.id, event, self.now)

        assert self.do("called", record)
        assert not self.do("called twice", record)

    def cancel(self) -> None:
        ids = self.rng.sample(sorted(self.state.activations), min(2, len(self.state.activations)))
        ids.append(self.rng.randint(1, self.state.seq))
        self.do("cancel", lambda d: d.cancel(ids, "cancelled by hand", self.now))

    def redrive(self) -> None:
        ended = [id for id, run in self.books.runs.items() if run.outcome and run.outcome != "completed"]
        id = self.rng.choice(ended[-6:]) if ended and self.rng.random() < 0.8 else self.rng.randint(1, self.state.seq)
        self.attempt("redrive", lambda d: d.redrive(id, self.now))

    def release(self) -> None:
        held = [*self.state.held, *self.books.published]
        if held:
            id = self.rng.choice(held[:4])
            self.attempt("release", lambda d: d.release(id, "a person", self.now))

    def wake(self) -> None:
        if self.rng.random() < 0.6:
            self.now += self.rng.choice((1.0, 2.0, 5.0, 10.0, -3.0))
        self.do("wake", lambda d: d.wake(self.now))
        checks.check_nothing_due(self.decider)

    def rest(self) -> None:
        """If nothing can run, what waits for that fires, and it is announced."""
        self.claim()
        if self.bodies or self.decider.agenda.count or self.decider.suspects:
            return
        if not self.do("fire at idle", lambda d: d.fire_at_idle(self.now), partly=True):
            reason, detail = self.decider.why_idle()
            self.do("idle", lambda d: d.idle(reason, detail, self.now))

    def crashes(self) -> None:
        """The process dies; often, what runs first in the next one kills that as well."""
        self.crash()
        while self.rng.random() < 0.4:
            self.claim()
            self.flush()
            self.crash()

    def close_run(self) -> None:
        run, stop = self.rng.choice(("main", "side")), cast("Any", self.rng.choice(("park", "cancel")))
        self.do("close", lambda d: d.close_run(run, "goal", "enough", "a person", stop, self.now))

    def resume(self) -> None:
        self.do("resume", lambda d: d.resume_runs(self.now))
        assert not any(run.closed for run in self.state.runs.values())

    def settle(self) -> None:
        """Without faults everything comes to rest: bodies end, deadlines pass, and what is left open is explained."""
        for _ in range(3_000):
            self.doing = "settle"
            while any(body.given_up for body in self.bodies):
                self.body_ends()
            while body := self.body():
                id, fence = body.id, body.fence
                self.do("complete", partial(Decider.complete, id=id, fence=fence, drafts=[], seconds=0.1, now=self.now))
                self.gone(body)
            self.claim()
            if self.bodies:
                continue
            if self.do("fire at idle", lambda d: d.fire_at_idle(self.now), partly=True):
                continue
            due = self.decider.next_work_due()
            if due is None:
                break
            self.now = max(self.now, due)
            self.do("wake", lambda d: d.wake(self.now))
        else:
            raise AssertionError("it does not come to rest")
        for a in self.state.activations.values():
            explained = a.id in self.decider.unserved or a.id in self.decider.parked
            assert explained or a.status in ("blocked", "held"), f"{a} is left for no reason"


if __name__ == "__main__":
    simulate(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else STEPS, talk=True)
