"""Why not: what held an agent back from an artifact, named; and lineage for other tools."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import (
    PHASES,
    Blackboard,
    Budget,
    Component,
    Context,
    Deny,
    Hold,
    Limits,
    PhaseContextProvider,
    Publish,
    Retry,
    Roster,
    Seen,
    WorkDiscovery,
    after,
    labelled,
    private,
    read,
    tenant,
)
from stigmergy.blackboard import component as cp
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.errors import NotFound
from stigmergy.blackboard.reading.why_not import WhyNot
from stigmergy.cli.looking import informed
from stigmergy.models import Scripted
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C

pytestmark = pytest.mark.anyio


def only(answer: WhyNot) -> tuple[bool, str]:
    """Whether it took it, and the kind of the only reason."""
    assert len(answer.reasons) == 1, str(answer)
    return answer.took, answer.reasons[0].kind


async def noted(a: Any) -> None: ...


def odd(a: A) -> bool:
    return a.n % 2 == 1


def broken(a: A) -> bool:
    raise RuntimeError("out of order")


async def test_the_test_of_a_definition_that_failed_is_named(new_board: Boards) -> None:
    board = new_board()
    board.agent("predicate").consumes(A, where=odd).body(noted)
    board.agent("equality").consumes(A, where={"key": {"x", "y"}}).body(noted)
    board.agent("producer").consumes(A, producer="equality").body(noted)
    board.agent("tags").consumes(A, tags=("hot", "cold")).body(noted)
    board.agent("type").consumes(B).body(noted)
    made = await board.publish(A(n=2, key="z"), tags=("mild",))
    await board.run_until_idle()
    for kind, text in {
        "predicate": "its predicate odd (test_why_not.py:",
        "equality": "it wants key='x' or 'y'; the artifact has key='z'",
        "producer": "it wants what equality published; this is by outside",
        "tags": "it wants one of the tags cold, hot; the artifact has mild",
        "type": "it consumes B, not A",
    }.items():
        answer = board.why_not(kind, made.id)
        assert only(answer) == (False, kind)
        assert text in answer.reasons[0].text
        assert str(answer) == f"{kind} did not take {made.ref}: {answer.reasons[0].text}"
        assert json.loads(answer.to_json())["reasons"][0]["kind"] == kind
        assert kind in answer._repr_html_()


async def test_every_subscription_to_the_type_gives_its_reason(new_board: Boards) -> None:
    board = new_board()
    board.agent("picky").consumes(A, where={"n": 1}).consumes(A, where={"key": "x"}).consumes(B).body(noted)
    made = await board.publish(A())
    answer = board.why_not("picky", made.ref)
    assert [(r.subscription, r.kind) for r in answer.reasons] == [("picky/0", "equality"), ("picky/1", "equality")]
    assert str(answer).splitlines()[0] == f"picky did not take {made.ref}:"


@pytest.mark.parametrize(
    ("visibility", "text"),
    [
        (private("boss"), "only boss may see"),
        (labelled("red"), "with the labels red may see the artifact; worker carries blue"),
        (tenant("acme"), "of tenant acme may see the artifact; worker is of no tenant"),
        (after(3600), "nobody may see it until"),
    ],
)
async def test_a_visibility_rule_is_named(new_board: Boards, visibility: Any, text: str) -> None:
    board = new_board(clock=VirtualClock())
    board.agent("worker").labels("blue").consumes(A).body(noted)
    made = await board.publish(A(), visibility=visibility)
    await board.run_until_idle(horizon=0)
    answer = board.why_not("worker", made.id)
    assert only(answer) == (False, "visibility")
    assert text in str(answer)


async def test_an_agent_that_published_it_itself_and_one_whose_review_is_awaited_are_told_so(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def echo(a: A) -> A | None:
        return A(n=1) if a.n == 0 else None

    await board.publish(A())
    await board.run_until_idle()
    held = await board.publish(A(n=5), review_by="editor")
    assert only(board.why_not(echo, board.artifacts(A)[1].id)) == (False, "self_trigger")
    answer = board.why_not("echo", held.id)
    assert only(answer) == (False, "reviewer")
    assert "held for review by editor" in str(answer)


async def test_a_join_that_waits_says_what_it_has_and_lacks(new_board: Boards) -> None:
    roster = Roster()

    @roster.agent(by="key", within=60)
    async def ship(a: A, b: B, c: C) -> None: ...

    board = new_board(roster, clock=VirtualClock())
    a = await board.publish(A(key="k"))
    b = await board.publish(B(key="k"))
    report = await board.run_until_idle(horizon=0)
    answer = board.why_not("ship", b.id)
    assert only(answer) == (False, "waiting")
    assert f'it waits by key="k": has {a.ref}, {b.ref}; lacks C; until ' in str(answer)
    assert f"why_not('ship', {b.id})" in str(report) or f"why-not {board._source().name} ship {b.id}" in str(report)
    await board.run_until_idle(horizon=None)
    assert only(board.why_not("ship", b.id)) == (False, "expired")
    assert only(board.at(b.id).why_not("ship", b.id)) == (False, "waiting")


async def test_what_completed_failed_waits_for_a_retry_or_for_a_place_is_told(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    gate = asyncio.Event()
    answers: list[WhyNot] = []

    @board.agent(retry=Retry(attempts=2, backoff=3600), concurrency=1)
    async def work(a: A) -> B:
        if a.n == 1:
            raise ValueError("not this one")
        if a.n == 2:
            answers.extend(board.why_not("work", id) for id in (made[2].id, made[3].id))
            gate.set()
        return B(n=a.n)

    made = [await board.publish(A(n=n)) for n in range(4)]
    await board.run_until_idle(horizon=0)
    assert gate.is_set()
    assert [only(a) for a in answers] == [(True, "running"), (True, "full")]
    assert "1 place for work, taken by work@" in str(answers[1])
    answer = board.why_not("work", made[0].id)
    assert only(answer) == (True, "completed")
    assert "with 1 output" in str(answer)
    answer = board.why_not("work", made[1].id)
    assert only(answer) == (True, "retry")
    assert "failed 1 time and runs again at" in str(answer)
    await board.run_until_idle(horizon=None)
    answer = board.why_not("work", made[1].id)
    assert only(answer) == (True, "failed")
    assert "dead letter: ValueError: not this one, 2 attempts" in str(answer)
    dead = board.artifacts(A)[1].id
    [failed] = [e for e in board.events() if isinstance(e, ev.Ended)]
    await board.retry(failed.cause)
    assert only(board.why_not("work", dead)) == (True, "ready")


class Guard(Component):
    """Holds what is small and denies what is large."""

    def admit(self, state: None, request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
        assert isinstance(request, cp.ActivationRequest)
        return Hold("too early") if request.agent == "slow" else Deny("too late")


async def test_what_a_component_holds_or_denies_is_told_with_its_reason(new_board: Boards) -> None:
    board = new_board(components=[Guard()])
    board.agent("slow").consumes(A).body(noted)
    board.agent("late").consumes(A).body(noted)
    made = await board.publish(A())
    await board.run_until_idle()
    held, denied = board.why_not("slow", made.id), board.why_not("late", made.id)
    assert (only(held), only(denied)) == ((True, "held"), (True, "ended"))
    assert "is held by guard: too early" in str(held)
    assert "ended skipped: guard: too late" in str(denied)


async def test_a_limit_and_a_closed_run_are_told(new_board: Boards) -> None:
    board = new_board(limits=Limits(activations=1), concurrency=1)
    board.agent("work").consumes(A).publishes(B).body(answer_b)
    made = [await board.publish(A(n=n)) for n in range(2)]
    await board.run_until_idle()
    answer = board.why_not("work", made[1].id)
    assert only(answer) == (True, "budget")
    assert "may not start: activations 1 of 1" in str(answer)


async def answer_b(a: A) -> B:
    return B(n=a.n)


async def test_a_cost_limit_that_is_spent_or_would_be_is_told(new_board: Boards) -> None:
    board = new_board(limits=Limits(cost="1.00"), concurrency=1)

    @board.agent
    async def pay(a: A, ctx: Context) -> None:
        await ctx.charge("model", cost="1.00")

    made = [await board.publish(A(n=n)) for n in range(2)]
    await board.run_until_idle()
    answer = board.why_not("pay", made[1].id)
    assert only(answer) == (True, "budget")
    assert "may not start: cost $1.00 of $1.00" in str(answer)


@pytest.mark.parametrize("cap", ["limit", "component"])
async def test_a_budget_that_stopped_what_had_begun_is_told_also_after_a_crash_and_from_a_file(
    file_board: Boards, cap: str
) -> None:
    def thinking(board: Blackboard) -> Blackboard:
        board.agent("thinker").consumes(A).publishes(B)
        return board

    caps: dict[str, Any] = {"limits": Limits(cost="0.15")} if cap == "limit" else {"components": [Budget(cost="0.15")]}
    model = Scripted(["no", [B()]], cost="0.10")
    board = thinking(file_board(model=model, **caps))
    made = await board.publish(A())
    assert (await board.run_until_idle()).reason == "budget"
    crashed = thinking(file_board.crashed(board, model=model, **caps))
    for known in (board, crashed, read(board._source().name)):
        answer = known.why_not("thinker", made.id)
        assert only(answer) == (True, "budget")
        assert "refuses effect 'scripted' of 'thinker': cost $0.10 of $0.15" in str(answer)
    assert (await crashed.run_until_idle()).reason == "budget"
    assert only(crashed.why_not("thinker", made.id)) == (True, "budget")


class Budgeted(Component[int]):
    """Parks all after the first, and says why; denies nothing."""

    observes = (B,)

    def start(self) -> int:
        return 0

    def step(self, state: int, seen: Seen, /) -> int:
        return state + 1

    def admit(self, state: int, request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
        return Deny(f"{state} of 1 answers", park=True) if state else cp.ADMIT


async def test_a_component_that_parks_is_told_with_its_reason_also_from_a_file(file_board: Boards) -> None:
    board = file_board(components=[Budgeted()], concurrency=1)
    board.agent("work").consumes(A).publishes(B).body(answer_b)
    made = [await board.publish(A(n=n)) for n in range(2)]
    await board.run_until_idle()
    answer = board.why_not("work", made[1].id)
    assert only(answer) == (True, "budget")
    assert "may not start: budgeted: 1 of 1 answers" in str(answer)
    await board.close()
    with read(board._source().name) as view:
        assert "1 of 1 answers" in str(informed(view, board).why_not("work", made[1].id))


async def test_who_has_the_places_of_the_board_is_told(new_board: Boards) -> None:
    board = new_board(concurrency=1)
    answers: list[WhyNot] = []

    @board.agent
    async def work(a: A) -> None:
        answers.append(board.why_not("work", made[1].id))

    made = [await board.publish(A(n=n)) for n in range(2)]
    await board.run_until_idle()
    assert only(answers[0]) == (True, "ready")
    assert "starts when the board has a free place; work@" in str(answers[0])


class Enough(Component):
    observes = (B,)

    def react(self, state: None, seen: Seen, /) -> Iterable[cp.Reaction]:
        yield cp.Close(detail="enough")


async def test_a_closed_run_is_told(new_board: Boards) -> None:
    board = new_board(components=[Enough()], concurrency=1)
    board.agent("work").consumes(A).publishes(B).body(answer_b)
    made = [await board.publish(A(n=n)) for n in range(2)]
    await board.run_until_idle()
    answer = board.why_not("work", made[1].id)
    assert only(answer) == (True, "closed")
    assert "run 'main' is closed (goal: enough)" in str(answer)


async def test_work_that_waits_for_other_work_is_told(new_board: Boards) -> None:
    board = new_board(context=PhaseContextProvider(PHASES))
    board.agent("analyzer").consumes(WorkDiscovery, where={"phase": "analysis"}).body(noted)
    made = await board.publish(
        WorkDiscovery(description="b", phase="analysis", done_definition="d", blocking_work_ids=["first"])
    )
    await board.run_until_idle()
    answer = board.why_not("analyzer", made.id)
    assert only(answer) == (True, "blocked")
    assert "waits for work 'first', which is not done" in str(answer)


async def test_an_agent_that_came_later_or_took_no_part_is_told_so(new_board: Boards) -> None:
    board = new_board()
    made = await board.publish(A())
    board.agent("newcomer").consumes(A).body(noted)
    assert only(board.why_not("newcomer", made.id)) == (False, "absent")
    await board.publish(A())
    assert only(board.why_not("newcomer", made.id)) == (False, "late")


async def test_a_file_alone_says_what_the_log_says_and_asks_for_the_definitions(file_board: Boards) -> None:
    roster = Roster()
    roster.agent("odd").consumes(A, where=odd).body(noted)
    board = file_board(roster)
    no, yes = [await board.publish(A(n=n)) for n in (2, 3)]
    await board.run_until_idle()
    name = board._source().name
    await board.close()
    with read(name) as view:
        answer = view.why_not("odd", no.id)
        assert only(answer) == (False, "unknown")
        assert str(answer).endswith(f"stigmergy why-not {name} odd {no.id} FILE")
        assert only(view.why_not("odd", yes.id)) == (True, "completed")
    assert only(Blackboard(name, roster=roster).why_not("odd", no.id)) == (False, "predicate")


async def test_an_agent_redefined_since_and_an_unknown_one_are_told(new_board: Boards) -> None:
    roster = Roster()
    roster.agent("work").consumes(A, where=odd).body(noted)
    board = new_board(roster)
    made = await board.publish(A(n=2))
    await board.run_until_idle()
    lax = Roster()
    lax.agent("work").consumes(A).body(noted)
    board = await new_board.reopened(board, lax)
    await board.run_until_idle()
    assert only(board.why_not("work", made.id)) == (False, "redefined")
    with pytest.raises(NotFound, match="Did you mean 'work'"):
        board.why_not("wrok", made.id)
    with pytest.raises(NotFound, match="no artifact"):
        board.why_not("work", 1)


# -- lineage ----------------------------------------------------------------------------------------------------------


class Summary(BaseModel):
    n: int


class Notes(Component):
    publishes = (Summary,)
    observes = (C,)

    def react(self, state: None, seen: Seen, /) -> Iterable[cp.Reaction]:
        yield Publish(Summary(n=1))


async def test_lineage_is_a_valid_prov_document(new_board: Boards) -> None:
    board = new_board(components=[Notes()])

    @board.agent
    async def split(a: A) -> list[B]:
        return [B(n=0, key="k"), B(n=1, key="k")]

    @board.agent(batch=2)
    async def merge(bs: list[B]) -> C:
        return C(n=len(bs))

    seed = await board.publish(A())
    await board.run_until_idle()
    [summary] = board.artifacts(Summary)
    document = json.loads(board.why(summary.id).to_prov())
    assert document.keys() == {
        "prefix", "entity", "activity", "agent", "used", "wasGeneratedBy", "wasAssociatedWith", "wasDerivedFrom",
        "wasAttributedTo",
    }  # fmt: skip
    names = {kind: set(document[kind]) for kind in ("entity", "activity", "agent")}
    assert (len(names["entity"]), len(names["activity"])) == (5, 2)
    assert names["agent"] == {f"board:agent.{a}" for a in ("outside", "split", "merge", "notes")}
    ends = {
        "used": ("activity", "entity"), "wasGeneratedBy": ("entity", "activity"),
        "wasAssociatedWith": ("activity", "agent"), "wasAttributedTo": ("entity", "agent"),
    }  # fmt: skip
    for kind, (one, other) in ends.items():
        for relation in document[kind].values():
            assert relation[f"prov:{one}"] in names[one]
            assert relation[f"prov:{other}"] in names[other]
    derived = [(d["prov:generatedEntity"], d["prov:usedEntity"]) for d in document["wasDerivedFrom"].values()]
    assert {e for pair in derived for e in pair} == names["entity"]
    assert len(document["used"]) == 3
    assert f"board:artifact.{seed.id}" in names["entity"]
    activation = next(e for e in board.events() if isinstance(e, ev.Activated))
    about = json.loads(board.why(activation.seq).to_prov())
    assert set(about["activity"]) == {f"board:activation.{activation.seq}"}
