"""Rewind: a board at a past position shows what it showed when that was its present, in every view."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import (
    PHASES,
    Consensus,
    Context,
    Costs,
    Limits,
    PhaseContextProvider,
    PhaseStatistics,
    Progress,
    Retry,
    Roster,
    Tally,
    View,
    Vote,
    WorkDiscovery,
)
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.errors import NotFound
from stigmergy.blackboard.reading.report import report_of
from stigmergy.blackboard.reading.view import Fixed, Source
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards
from tests.simulation import Simulation

pytestmark = pytest.mark.anyio


class Draft(BaseModel):
    n: int


def votes() -> Consensus:
    return Consensus(options=("good", "bad"), voters=("kind", "strict", "moody"), quorum=2, of=Draft)


def team(rng: Random, look: Callable[[], None]) -> Roster:
    """Agents that fail, wait, retry, discover work, join and vote; some of them look at the board meanwhile."""
    roster = Roster(components=[votes(), Costs(), Progress()], context=PhaseContextProvider(PHASES))
    (roster.agent("analyzer").phase("analysis").consumes(WorkDiscovery, where={"phase": "analysis"})
        .publishes(WorkDiscovery, A).body(analyzed))  # fmt: skip
    roster.agent("builder").phase("implementation").consumes(
        WorkDiscovery, where={"phase": "implementation"}
    ).publishes(B).body(built)

    @roster.agent(retry=Retry(attempts=2, backoff=rng.choice((0.0, 2.0))), concurrency=rng.choice((1, 3)))
    async def shaky(a: A, ctx: Context) -> Draft | None:
        look()
        if a.n % 5 == 0:
            raise ValueError("no")
        if a.n % 3 == 0 and ctx.attempt == 1:
            raise ValueError("not yet")
        await ctx.call("think", lambda: a.n)
        return Draft(n=a.n)

    @roster.agent(by="key", within=rng.choice((3.0, 60.0, 600.0)))
    async def joined(a: A, b: B) -> None:
        look()

    for name, limit in (("kind", 0), ("strict", 4), ("moody", 2)):
        roster.agent(name).consumes(Draft).publishes(Vote).body(voter(limit))
    return roster


async def analyzed(work: WorkDiscovery) -> list[Any]:
    again = WorkDiscovery(description="build it", phase="implementation", done_definition="built")
    return [again, A(n=len(work.description), key=work.description[:1])]


async def built(work: WorkDiscovery) -> B:
    return B(key=work.description[:1])


def voter(limit: int) -> Any:
    async def vote(draft: Artifact[Draft]) -> Vote:
        return Vote(subject=draft.id, option="good" if draft.payload.n >= limit else "bad", confidence=0.5)

    return vote


def shown(view: View) -> dict[str, Any]:
    """Everything that a view shows."""
    found: dict[str, Any] = {
        "report": view.report(),
        "text": str(view.report()),
        "artifacts": [repr(a) for a in view.artifacts(held=True)],
        "drafts": [a.payload for a in view.artifacts(Draft, where=lambda d: d.n > 2)],
        "tallies": view.artifacts(Tally).payloads,
        "from analyzer": view.artifacts(producer="analyzer").total,
        "phases": view.fold(PhaseStatistics(PHASES)),
        "costs": view.fold(Costs()),
        "progress": view.fold(Progress()),
        "consensus": view.fold(votes()),
        "graph": view.graph().mermaid(),
        "events": sum(1 for _ in view.events()),
    }
    drafts = view.artifacts(Draft)
    if drafts:
        found["why"] = str(view.why(drafts[-1].id))
        found["why not"] = str(view.why_not("moody", drafts[-1].id))
    return found


@pytest.mark.req("S3.59")
@pytest.mark.parametrize("seed", range(6))
async def test_every_view_of_a_past_position_is_what_was_shown_then(new_board: Boards, seed: int) -> None:
    rng = Random(seed)
    then: dict[int, dict[str, Any]] = {}

    def look(always: bool = False) -> None:
        # While bodies run, a file goes on being written between two reads; a memory board stands still.
        if board.last and (always or (new_board.kind == "memory" and rng.random() < 0.3)):
            then[board.last] = shown(board)

    board = new_board(team(rng, look), clock=VirtualClock(), limits=Limits(activations=rng.choice((None, 12))))
    for step in range(6):
        if rng.random() < 0.5:
            work = WorkDiscovery(description="abc"[step % 3] * rng.randint(1, 9), phase="analysis", done_definition="d")
            await board.publish(work)
        else:
            await board.publish_many([A(n=rng.randint(0, 9), key="ab"[step % 2]) for _ in range(2)])
        look(always=True)
        if rng.random() < 0.7:
            await board.run_until_idle(horizon=rng.choice((0, 5, None)))
            look(always=True)
        if rng.random() < 0.3:
            await board.cancel(*[e.seq for e in board.events() if isinstance(e, ev.Activated)][-1:])
            look(always=True)
    assert len(then) > 4
    for position, views in then.items():
        now = shown(board.at(position))
        for name, view in views.items():
            assert now[name] == view, f"{name} at {position}"


async def test_a_file_that_was_closed_is_rewound_like_the_living_board(file_board: Boards) -> None:
    board = file_board(team(Random(1), lambda: None), clock=VirtualClock())
    then: dict[int, Any] = {}
    for n in range(1, 4):
        await board.publish(A(n=n))
        await board.run_until_idle()
        then[board.last] = board.report()
    reopened = await file_board.reopened(board, team(Random(1), lambda: None), clock=VirtualClock())
    await reopened.publish(A(n=9))
    for position, report in then.items():
        assert reopened.at(position).report() == replace(report, limits=reopened.report().limits)


async def test_a_moment_is_a_position_or_a_time_and_nothing_after_it_is_seen(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    first = await board.publish(A(n=1))
    clock.jump(first.at + 100.0)
    second = await board.publish(A(n=2))
    between = datetime.fromtimestamp(first.at, UTC) + timedelta(seconds=50)
    for view in (board.at(first.id), board.at(between)):
        assert [a.payload for a in view.artifacts(A)] == [A(n=1)]
        with pytest.raises(NotFound):
            view.get(second.id)
        assert view.at(second.id).artifacts(A).total == 1, "a past board has no future"
        assert view.report().seeds == 1
    assert board.at(0).artifacts(A).total == 0
    assert board.at(board.last + 99).artifacts(A).total == 2


class Looking(Simulation):
    """A simulation that is looked at now and then; what it records costs money."""

    moments: dict[int, str]

    def do(self, doing: str, decide: Any, *, partly: bool = False) -> list[ev.Event]:
        events = super().do(doing, decide, partly=partly)
        if events and events[-1].seq % 9 == 0:
            self.moments[events[-1].seq] = self.shown()
        return events

    def erase(self) -> None:
        """What is erased is not shown as it was."""

    def crash(self) -> None:
        super().crash()
        durable = {row.seq for rows in self.rows for row in rows}
        self.moments = {seq: text for seq, text in self.moments.items() if seq in durable}

    def open(self) -> None:
        if not hasattr(self, "moments"):
            self.moments = {}
        super().open()

    def shown(self) -> str:
        return report_of(self.folded.ledger, self.folded.state, store="memory", ref=str).to_json()


def test_the_books_of_a_past_position_are_those_of_then_through_crashes_and_costs() -> None:
    spent = 0
    for seed in range(24, 32):
        simulation = Looking(seed)
        simulation.run(100)
        store = MemoryStore()
        for rows in simulation.rows:
            store.append_now(rows)
        view = Fixed(Source(store.reader(), simulation.types, "memory"))
        for position, text in simulation.moments.items():
            at = view.at(position)
            report = at.report()
            assert report.artifacts == at.artifacts(held=True).total
            spent += report.cost > 0
            assert _without_names(report.to_json()) == _without_names(text), f"seed {seed}, position {position}"
    assert spent


def _without_names(report: str) -> Any:
    """The report without the names of artifacts, which the living state does not know once they are forgotten."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: len(v) if k in ("inputs", "has") else strip(v) for k, v in value.items() if k != "subject"}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip(json.loads(report))
