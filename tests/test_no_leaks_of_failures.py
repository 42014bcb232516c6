"""Random boards on which things fail: what components publish about them tells nobody what it may not see."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from stigmergy import (
    Blackboard,
    Completion,
    Context,
    Escalation,
    Failures,
    Fallback,
    HumanAnswer,
    HumanQuestion,
    LimitReached,
    Metrics,
    NestedWork,
    Quota,
    Recovery,
    WorkDiscovery,
    WorkflowComplete,
    WorkflowError,
    WorkflowMetrics,
    labelled,
    private,
    tenant,
)
from stigmergy.blackboard.component import (
    ADMIT,
    ActivationRequest,
    Admission,
    CallRequest,
    Component,
    Deny,
    Publish,
    Reaction,
    Seen,
)
from stigmergy.blackboard.errors import KeyReused, NotAChoice, NotFound
from stigmergy.blackboard.events import Ended, Faulted, Visibility
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.loop import in_a_loop
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards
from tests.test_no_leaks import LABELS, NAMES, TENANTS, Greedy, People, Person, allowed, leaks, people

NEWS = (WorkDiscovery, HumanQuestion, HumanAnswer, WorkflowError, LimitReached, WorkflowComplete)
"""What components publish. Metrics are seen in contexts: who works on them makes new ones."""
DOES = ("fails", "asks", "pays", "blocks")
"""What becomes of a secret: whoever works on it fails, asks, pays, or waits for other work; all by its name."""
some = st.none() | st.sampled_from([
    *(private(name) for name in NAMES), *(labelled(label) for label in LABELS), *(tenant(name) for name in TENANTS),
    private("anna", "bert"), private("carl", "dora"), labelled(*LABELS), Visibility(list(NAMES[1:]), None, "north"),
])  # fmt: skip


class Secret(BaseModel):
    text: str


class Stingy(Component):
    """Refuses every effect until the next run."""

    observes = ()

    def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Admission:
        return Deny("nothing is left", park=True) if isinstance(request, CallRequest) else ADMIT


def chain(name: str = "anna") -> list[Component[Any]]:
    """Everything that publishes about what others do."""
    return [
        Fallback({name: "spare"}), Escalation(within=100, default="skip"), Recovery(), Failures(), Completion(),
        Metrics(), NestedWork(), Quota(artifacts=3, per="tree"), Stingy(),
    ]  # fmt: skip


async def pay() -> None: ...


def define(board: Blackboard, everybody: People, seen: dict[str, set[str]]) -> None:
    """Agents that work on secrets, fail, ask and pay in their words, and note all news that they are given."""

    def a_person(name: str, person: Person) -> None:
        labels, of = person

        async def body(ctx: Context) -> HumanAnswer | None:
            seen[name].update(str(a.payload) for a in (*ctx.artifacts, *ctx.past))
            [given] = ctx.artifacts
            if isinstance(given.payload, HumanQuestion):
                asked = given.payload
                answers = name == "dora" and not asked.refused
                return HumanAnswer(question=given.id, value=asked.what) if answers else None
            text = given.payload.text if isinstance(given.payload, Secret) else ""
            if "asks" in text:
                await ctx.ask("it", f"What of {text}?", answer=str, within=50, default=text)
            if "pays" in text:
                await ctx.call(f"pay {text}", pay)
            if text:
                raise ValueError(f"{text} cannot be done")
            return None

        whole: Any = board.agent(name).labels(*labels)
        if of is not None:
            whole = whole.tenant(of)
        whole = whole.consumes(Secret)
        for news in NEWS:
            whole = whole.consumes(news)
        whole.publishes(HumanAnswer, visibility=private(name)).body(body)

    for name, person in everybody.items():
        a_person(name, person)


async def published(board: Blackboard, shown: Iterable[Visibility | None]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for i, v in enumerate(shown):
        text = f"canary-{i}-{DOES[i % 4]}."
        payload: BaseModel = Secret(text=text)
        if text.endswith("blocks."):
            payload = WorkDiscovery(description=text, phase=f"phase {text}", done_definition=text, work_id=f"id {text}",
                                    blocking_work_ids=[f"before {text}"])  # fmt: skip
        artifact = await board.publish(payload, visibility=v, run=f"run {i}")
        facts[text] = (v, artifact.at)
    return facts


async def echoed(board: Blackboard) -> None:
    """A person answers questions in their own words; what the board itself asks takes none, and is then given up."""
    for question in [q for q in board.artifacts(HumanQuestion) if not q.payload.refused and int(q.run[4:]) < len(DOES)]:
        with suppress(NotFound, KeyReused):
            try:
                await board.answer(question.id, question.payload.what)
            except NotAChoice:
                await board.answer(question.id, "skip")


def store(kind: str, folder: str) -> Any:
    return MemoryStore() if kind == "memory" else Path(folder) / "board.db"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(max_examples=30)
@given(everybody=people, spare=st.tuples(st.frozensets(st.sampled_from(["medical", "senior"])), st.none()),
       shown=st.lists(some, min_size=4, max_size=8))  # fmt: skip
def test_nobody_learns_from_a_failure_a_question_or_a_sum_what_it_may_not_see(
    kind: str, everybody: People, spare: Person, shown: list[Visibility | None]
) -> None:
    async def main(folder: str) -> None:
        seen: dict[str, set[str]] = defaultdict(set)
        provider, clock, team = Greedy(seen), VirtualClock(), {**everybody, "spare": spare}
        board = Blackboard(store(kind, folder), context=provider, clock=clock, components=chain())
        define(board, team, seen)
        facts = await published(board, shown)
        for horizon in (0.0, 60.0, None):
            await board.run_until_idle(horizon=horizon)
            await echoed(board)
        await board.run_until_idle()
        for name, person in team.items():
            assert not leaks(seen[name], allowed(facts, name, person, clock.now()), facts), name
        assert not any(isinstance(e, Faulted) for e in board.events())
        await board.close()

    with tempfile.TemporaryDirectory() as folder:
        in_a_loop(lambda: main(folder))


# -- who does learn of it ----------------------------------------------------------------------------------------------


def failing(board: Blackboard, told: dict[str, list[str]]) -> Blackboard:
    """The board, with anna of the north, a doctor, who fails; bert, a doctor of the south; and carl of the north."""
    for name, labels, of in (("anna", ["doctor"], "north"), ("bert", ["doctor"], "south"), ("carl", [], "north")):

        async def note(news: BaseModel, ctx: Context) -> None:
            told.setdefault(ctx.agent_name, []).append(f"{type(news).__name__} {news}")

        whole: Any = board.agent(f"{name}'s news").labels(*labels).tenant(of)
        for kind in NEWS:
            whole = whole.consumes(kind)
        whole.body(note)

    async def work(a: A, b: B) -> None:
        raise ValueError(f"the canary {a.key} and {b.key} cannot be done")

    board.agent("anna").labels("doctor").tenant("north").consumes(A, B).body(work)
    return board


@pytest.mark.anyio
@pytest.mark.req("S3.71")
@pytest.mark.parametrize(
    ("of_a", "of_b", "readers"),
    [
        (None, None, {"anna", "bert", "carl"}),
        (labelled("doctor"), None, {"anna", "bert"}),
        (None, tenant("north"), {"anna", "carl"}),
        (labelled("doctor"), tenant("north"), {"anna"}),
        (private("anna", "bert's news"), private("anna", "anna's news", "bert's news"), {"bert"}),
        (private("anna"), private("anna"), set()),
    ],
    ids=["public", "a label", "a tenant", "label and tenant", "some", "one"],
)
@pytest.mark.parametrize("component", [Recovery, Escalation, Failures])
async def test_a_failure_is_told_to_those_who_may_see_all_that_it_is_about(
    new_board: Boards, component: Callable[[], Component[Any]], of_a: Visibility | None, of_b: Visibility | None,
    readers: set[str],
) -> None:  # fmt: skip
    told: dict[str, list[str]] = {}
    board = failing(new_board(components=[component()]), told)
    await board.publish(A(key="a"), visibility=of_a)
    await board.publish(B(key="b"), visibility=of_b)
    report = await board.run_until_idle()
    assert set(told) == {f"{name}'s news" for name in readers}
    assert all("canary a and b" in said for news in told.values() for said in news)
    assert "canary a and b" in str(report)  # whoever has the board reads everything


@pytest.mark.anyio
async def test_what_a_reviewer_says_of_what_is_held_for_it_is_for_the_reviewer_alone(new_board: Boards) -> None:
    told: dict[str, list[str]] = {}
    board = failing(new_board(components=[Failures()]), told)

    @board.agent
    async def reviewer(a: A) -> None:
        raise ValueError(f"the canary {a.key} is no good")

    await board.publish(A(key="draft"), review_by="reviewer")
    await board.run_until_idle()
    assert told == {}
    [error] = board.artifacts(WorkflowError)
    assert error.visibility == private("reviewer")


@pytest.mark.anyio
async def test_a_question_about_a_secret_and_what_is_answered_are_told_to_those_who_may_see_it(
    new_board: Boards,
) -> None:
    told: dict[str, list[str]] = {}
    board = failing(new_board(components=[Escalation()], clock=VirtualClock()), told)

    async def ask(a: A, ctx: Context) -> None:
        await ctx.ask("it", f"what of canary {a.key}?", answer=str, within=10, default=f"canary {a.key}")

    board.agent("carl").tenant("north").consumes(A).body(ask)
    await board.publish(A(key="one"), visibility=tenant("north"))
    await board.run_until_idle(horizon=0)
    [question] = board.artifacts(HumanQuestion)
    await board.answer(question.id, "a canary of mine")
    await board.publish(A(key="two"), visibility=tenant("north"))
    await board.run_until_idle(horizon=None)
    assert [a.payload.by for a in board.artifacts(HumanAnswer)] == ["person", "deadline"]
    assert set(told) == {"anna's news", "carl's news"}
    assert sorted(news.split()[0] for news in told["carl's news"]) == ["HumanAnswer"] * 2 + ["HumanQuestion"] * 2


@pytest.mark.anyio
async def test_a_fallback_gets_nothing_that_it_may_not_see_and_the_next_link_is_asked(new_board: Boards) -> None:
    board = new_board(components=[Fallback({"first": "spare"}), Failures()])
    given: list[str] = []

    async def fails(a: A) -> None:
        raise ValueError(f"the canary {a.key}")

    async def takes(a: A) -> None:
        given.append(a.key)

    board.agent("first").labels("doctor").consumes(A).body(fails)
    board.agent("spare").consumes(A).body(takes)
    secret = await board.publish(A(key="secret"), visibility=labelled("doctor"))
    await board.publish(A(key="open"))
    report = await board.run_until_idle()
    assert given == ["open"]
    assert (report.dead, report.done) == (1, 1)
    [error] = board.artifacts(WorkflowError)
    assert error.payload.message == f"spare may not see A@{secret.id}"
    assert f"spare may not see A@{secret.id}" in str(report)


@pytest.mark.anyio
async def test_a_person_cannot_try_again_what_the_agent_may_no_longer_see(new_board: Boards) -> None:
    board = new_board()
    given: list[str] = []

    async def fails(a: A) -> None:
        given.append(a.key)
        raise ValueError("never mind")

    board.agent("first").labels("doctor").consumes(A).body(fails)
    secret = await board.publish(A(key="secret"), visibility=labelled("doctor"))
    [dead] = (await board.run_until_idle()).left.dead_letters
    again = await new_board.reopened(board)
    again.agent("first").consumes(A).body(fails)
    await again.retry(dead.activation)
    report = await again.run_until_idle()
    assert given == ["secret"]
    assert f"first may not see A@{secret.id}" in str(report)


@pytest.mark.anyio
async def test_sums_for_everybody_leave_out_the_names_that_only_private_work_says(new_board: Boards) -> None:
    board = new_board(components=[Metrics(), Completion()])

    async def do(work: WorkDiscovery) -> None: ...

    board.agent("do").labels("doctor").consumes(WorkDiscovery).body(do)

    async def work(said: str, visibility: Visibility | None, *blocking: str) -> None:
        some = WorkDiscovery(description="x", phase=said, done_definition="y", blocking_work_ids=[*blocking])
        await board.publish(some, visibility=visibility)

    await work("open phase", None)
    await work("secret phase", labelled("doctor"))
    await board.run_until_idle()
    complete = board.one(WorkflowComplete)
    assert (complete.phases_completed, complete.total_work_items) == (["open phase"], 2)
    await work("open phase", None, "open work")
    await work("secret phase", labelled("doctor"), "secret work")
    await board.run_until_idle()
    [*_, metrics] = board.artifacts(WorkflowMetrics).payloads
    assert (metrics.blocked_work, metrics.blocked_by) == (2, ["open work"])
    assert metrics.active_phases == ["open phase"]


class Indiscreet(Component):
    """Publishes errors and does not say what they are about."""

    publishes = (WorkflowError,)
    observes = (Ended,)

    def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
        if isinstance(seen.event, Ended) and seen.event.error is not None:
            message = seen.event.error.message
            yield Publish(WorkflowError(agent="", activation=0, inputs=(), error_type="", message=message, attempts=1))


@pytest.mark.anyio
async def test_a_component_that_does_not_say_what_an_error_is_about_is_found_by_this_test(new_board: Boards) -> None:
    told: dict[str, list[str]] = {}
    board = failing(new_board(components=[Indiscreet()]), told)
    await board.publish(A(key="a"), visibility=labelled("doctor"))
    await board.publish(B(key="b"))
    await board.run_until_idle()
    assert "carl's news" in told
