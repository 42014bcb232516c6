"""Boards to which something happened that a person, a model or a component had to deal with: each with its team, what
is done to it, and one change of the team that decides otherwise."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from pydantic import BaseModel

from stigmergy import (
    Blackboard,
    Breaker,
    Budget,
    Component,
    Context,
    Costs,
    Escalation,
    Fallback,
    HumanQuestion,
    Progress,
    Questions,
    Quota,
    Retry,
    Roster,
    View,
)
from stigmergy.agents.models.scripted import Answer, Scripted
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.events import Event
from stigmergy.models import ToolCall
from stigmergy.testing import outputs
from tests.boards import A, B, C

Look = Callable[[], None]
"""Called when the board stands still, to note what it shows."""


@dataclass(frozen=True)
class Story:
    """A team, what happens to it, and a change that is found at one event.

    Attributes:
        team: makes the roster; with what is changed, if anything is.
        happens: drives the board; after each step it looks.
        change: what is changed.
        cause: what a replay with that change names.
        where: the first event that comes out otherwise.
        kinds: what has to be on the log, so that the story is the one that it says it is.
    """

    team: Callable[..., Roster]
    happens: Callable[[Blackboard, Look], Coroutine[Any, Any, None]]
    change: dict[str, Any]
    cause: str
    where: Callable[[View], int]
    kinds: frozenset[str]


def nth(kind: type[Event], n: int = 1, **fields: object) -> Callable[[View], int]:
    """Where the n-th event of a kind with these fields is."""

    def find(view: View) -> int:
        found = (e for e in view.events() if isinstance(e, kind) and all(getattr(e, k) == v for k, v in fields.items()))
        return [e.seq for e in found][n - 1]

    return find


async def idle(board: Blackboard, look: Look, horizon: float | None = None) -> None:
    """Run, and look."""
    await board.run_until_idle(horizon=horizon)
    look()


def add_counter(roster: Roster, *, most: int = 100) -> None:
    """An agent that takes every B up to a number: what it takes shows what came before."""
    roster.agent("counter").consumes(B, where=lambda b: b.n < most).publishes(C).body(counted)


async def counted(b: B) -> C:
    return C(n=b.n)


# -- people ------------------------------------------------------------------------------------------------------------


def asking(*, most: int = 100) -> Roster:
    roster = Roster(components=[Questions(), Progress()], concurrency=2)

    @roster.agent
    async def deploy(a: A, ctx: Context) -> B | None:
        await ctx.call("build", lambda: a.n)
        go = await ctx.ask("go", f"Deploy {a.n}?", within=90 if a.n == 3 else None, default=True if a.n == 3 else None)
        return B(n=a.n) if go else None

    add_counter(roster, most=most)
    return roster


async def people_answer(board: Blackboard, look: Look) -> None:
    await board.publish_many([A(n=n) for n in (1, 2, 3)])
    await idle(board, look, horizon=0)
    first, second, _ = board.artifacts(HumanQuestion)
    await board.answer(second.id, False)
    look()
    await idle(board, look, horizon=10)
    await board.answer(first.ref, True)
    await idle(board, look)


# -- an agent that is down: breaker, fallback, escalation ----------------------------------------------------------


def failing(*, failures: int = 2, instead: str = "reserve", asked_for: str = "reserve") -> Roster:
    down: list[Component[Any]] = [
        Breaker("service", failures=failures, recovery=30),
        Fallback({"service": instead}),
        Escalation(asked_for),
    ]
    roster = Roster(components=[*down, Costs()], concurrency=1)

    @roster.agent(retry=Retry(attempts=3, backoff=1))
    async def service(a: A, ctx: Context) -> B:
        if ctx.attempt < 3 or a.n > 1:
            raise ConnectionError("down")
        return B(n=a.n)

    @roster.agent
    async def reserve(a: A) -> B:
        if a.n == 3:
            raise ValueError("neither")
        return B(n=-a.n)

    @roster.agent
    async def spare(a: A) -> B:
        return B(n=0)

    return roster


async def somebody_decides(board: Blackboard, look: Look) -> None:
    for n in (1, 2, 3):
        await board.publish(A(n=n))
        await idle(board, look)
    await board.answer(board.artifacts(HumanQuestion)[0].id, "skip")
    await idle(board, look)


# -- dead letters ------------------------------------------------------------------------------------------------------


def halving(*, attempts: int = 2, most: int = 100) -> Roster:
    roster = Roster(components=[Progress()])

    @roster.agent(retry=Retry(attempts=attempts, backoff=1))
    async def halve(a: A) -> B:
        if a.n % 2:
            raise ValueError("odd")
        return B(n=a.n // 2)

    add_counter(roster, most=most)
    return roster


async def a_person_mends(board: Blackboard, look: Look) -> None:
    await board.publish_many([A(n=n, key=f"k{n}") for n in (1, 3, 4, 5)])
    await idle(board, look)
    one, three, five = board.dead_letters()
    await board.retry(one.id, edited={"n": 40})
    look()
    await board.retry(three.id)
    await board.discard(five.id, reason="nobody wants it")
    look()
    await idle(board, look)


# -- pause and cancel --------------------------------------------------------------------------------------------------


async def it_is_paused_and_cancelled(board: Blackboard, look: Look) -> None:
    await board.publish(A(n=2), run="side")
    roots = [await board.publish(A(n=n)) for n in (4, 6, 8)]
    await board.pause(reason="lunch")
    await idle(board, look)
    await board.cancel(roots[1].ref, reason="a typing error")
    await board.publish(A(n=10))
    look()
    await board.resume()
    await idle(board, look)
    await board.publish(A(n=12), run="side")
    await board.cancel(run="side")
    look()
    await idle(board, look)


# -- caps --------------------------------------------------------------------------------------------------------------


def capped(*, cost: str = "0.45", activations: int = 3) -> Roster:
    roster = Roster(components=[Budget(cost=cost), Quota(activations=activations, per="tree")], concurrency=1)
    roster.agent("spend").description("Spends.").consumes(A).publishes(B)

    @roster.agent
    async def forth(b: B) -> C:
        return C(n=b.n + 1)

    @roster.agent
    async def back(c: C) -> B | None:
        return B(n=c.n) if c.n < 9 else None

    return roster


async def it_reaches_its_caps(board: Blackboard, look: Look) -> None:
    for n in range(6):
        await board.publish(A(n=n))
        await idle(board, look)
    await board.publish(C(n=8))
    await idle(board, look)


# -- models ------------------------------------------------------------------------------------------------------------


def plus_one(n: int) -> int:
    """One more."""
    return n + 1


def thinking(*, out: type[BaseModel] = B, most: int = 100) -> Roster:
    roster = Roster(components=[Costs(), Budget(cost="5")])
    (roster.agent("thinker").description("Thinks.").tools(plus_one).limits(retry=Retry(attempts=2, backoff=1))
        .consumes(A).publishes(out))  # fmt: skip
    add_counter(roster, most=most)
    return roster


BROKEN = "Here it is:\n" + outputs(B(n=5)).replace('"n"', "'n'")


def model() -> Scripted:
    """Calls a tool, answers badly, has its JSON repaired, breaks off, and then says the same again and again."""
    said: list[Answer] = [
        ToolCall(id="c", name="plus_one", arguments='{"n": 1}'), B(n=2), "What?", B(n=3), BROKEN,
        ConnectionError("gone"),
    ]  # fmt: skip
    answers = chain(said, repeat(B(n=4)))
    return Scripted(lambda _: next(answers), name="test/script", cost="0.10", tokens=7)


async def a_model_answers(board: Blackboard, look: Look) -> None:
    for n in range(4):
        await board.publish(A(n=n))
        await idle(board, look)


STORIES: dict[str, Story] = {
    "question": Story(
        asking, people_answer, {"most": 3}, "predicate", nth(ev.Published, 2, type="B"),
        frozenset({"HumanQuestion", "HumanAnswer", "Held", "Rang"}),
    ),
    "breaker": Story(
        failing, somebody_decides, {"failures": 1}, "component", nth(ev.Claimed, 1, attempt=2),
        frozenset({"HumanQuestion", "HumanAnswer", "Held", "Redriven"}),
    ),
    "fallback": Story(
        failing, somebody_decides, {"instead": "spare"}, "component", nth(ev.Activated, 1, agent="spare"),
        frozenset({"Redriven"}),
    ),
    "escalation": Story(
        failing, somebody_decides, {"asked_for": "spare"}, "component", nth(ev.Published, 1, type="HumanQuestion"),
        frozenset({"HumanQuestion", "HumanAnswer"}),
    ),
    "redrive": Story(
        halving, a_person_mends, {"most": 20}, "predicate", nth(ev.Published, 2, type="B"),
        frozenset({"Redriven"}),
    ),
    "discard": Story(
        halving, a_person_mends, {"attempts": 3}, "retry", nth(ev.Failed, 4),
        frozenset({"Redriven", "Ended"}),
    ),
    "pause": Story(
        halving, it_is_paused_and_cancelled, {"most": 5}, "predicate", nth(ev.Published, 4, type="B"),
        frozenset({"Closed", "Resumed", "Ended"}),
    ),
    "budget": Story(
        capped, it_reaches_its_caps, {"cost": "0.35"}, "component", nth(ev.Calling, 4, name="test/script"),
        frozenset({"LimitReached", "Failed"}),
    ),
    "quota": Story(
        capped, it_reaches_its_caps, {"activations": 2}, "component", nth(ev.Claimed, 3),
        frozenset({"LimitReached"}),
    ),
    "model": Story(
        thinking, a_model_answers, {"out": C}, "output", nth(ev.Published, 1, producer="thinker"),
        frozenset({"Calling", "Called"}),
    ),
    "model filter": Story(
        thinking, a_model_answers, {"most": 4}, "predicate", nth(ev.Published, 3, type="B"),
        frozenset({"Calling", "Called"}),
    ),
}  # fmt: skip
"""Name -> story."""
