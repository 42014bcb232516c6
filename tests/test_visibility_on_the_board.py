"""Who is offered and shown what: private, labelled, tenant, delayed and held artifacts, also in the context."""

from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from stigmergy import (
    Artifact,
    Blackboard,
    Briefing,
    Component,
    Context,
    ContextRequest,
    Release,
    Seen,
    after,
    labelled,
    private,
    tenant,
)
from stigmergy.blackboard.component import Reaction, Withdraw
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Enrolled, Event, Published, Visibility
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C

pytestmark = pytest.mark.anyio


class Secret(BaseModel):
    text: str = "secret"


class Verdict(BaseModel):
    subject: int
    good: bool


class EverythingThereIs:
    """A careless provider: it hands out all it can get, and artifacts that it got hold of otherwise."""

    def __init__(self, smuggled: Iterable[Artifact[Any]] = ()) -> None:
        self.smuggled = list(smuggled)
        self.asked: list[str] = []

    async def provide(self, request: ContextRequest, /) -> Briefing:
        self.asked.append(request.agent_name)
        return Briefing((C(key="instructions"),), (*self.smuggled, *request.recent(1_000), *request.inputs))


def context_of_everybody(board: Blackboard, **agents: dict[str, Any]) -> dict[str, set[int]]:
    """Agents by name that note, per run of A, which artifacts their context showed."""
    shown: dict[str, set[int]] = {}

    def define(name: str, options: dict[str, Any]) -> None:
        async def look(a: A, ctx: Context) -> None:
            shown[name] = {x.id for x in ctx.past}

        builder = board.agent(name).labels(*options.get("labels", ()))
        if "tenant" in options:
            builder = builder.tenant(options["tenant"])
        builder.consumes(A).body(look)

    for name, options in agents.items():
        define(name, options)
    return shown


# -- who is offered it, and who is shown it ----------------------------------------------------------------------------


@pytest.mark.req("S3.71")
@pytest.mark.parametrize(
    ("visibility", "readers"),
    [
        (None, {"anna", "bert", "carl"}),
        (private("anna"), {"anna"}),
        (private("anna", "bert"), {"anna", "bert"}),
        (labelled("medical"), {"anna", "bert"}),
        (labelled("medical", "senior"), {"bert"}),
        (tenant("north"), {"anna", "carl"}),
        (Visibility(labels=["medical"], tenant="north"), {"anna"}),
        (private("nobody"), set()),
    ],
    ids=["public", "one", "two", "label", "labels", "tenant", "label and tenant", "nobody"],
)
async def test_only_who_may_see_an_artifact_takes_it_and_finds_it_in_the_context(
    new_board: Boards, visibility: Visibility | None, readers: set[str]
) -> None:
    board = new_board(context=EverythingThereIs())
    took: set[str] = set()
    shown: set[str] = set()

    def define(name: str, labels: tuple[str, ...], of: str) -> None:
        async def look(x: Secret | A, ctx: Context) -> None:
            if isinstance(x, Secret):
                took.add(name)
            elif any(past.type_name == "Secret" for past in ctx.past):
                shown.add(name)

        board.agent(name).labels(*labels).tenant(of).consumes(Secret).consumes(A).body(look)

    define("anna", ("medical",), "north")
    define("bert", ("medical", "senior"), "south")
    define("carl", (), "north")
    await board.publish(Secret(), visibility=visibility)
    await board.publish(A())
    report = await board.run_until_idle()
    assert took == shown == readers
    assert [left.type for left in report.left.no_consumer] == ([] if readers else ["Secret"])


@pytest.mark.parametrize(
    ("visibility", "readers"),
    [
        (private("anna"), {"anna"}),
        (labelled("medical"), {"anna", "bert"}),
        (tenant("north"), {"anna"}),
        (after(1000), set()),
    ],
    ids=["private", "labelled", "tenant", "delayed"],
)
@pytest.mark.req("S3.32")
async def test_no_provider_can_show_what_its_agent_may_not_see(
    new_board: Boards, visibility: Visibility, readers: set[str]
) -> None:
    provider = EverythingThereIs()
    board = new_board(context=provider)
    shown = context_of_everybody(
        board, anna={"labels": ("medical",), "tenant": "north"}, bert={"labels": ("medical",)}, carl={}
    )
    secret = await board.publish(Secret(), visibility=visibility)
    public = await board.publish(B())
    provider.smuggled = [secret]
    await board.publish(A())
    await board.run_until_idle(horizon=0)
    assert {name for name, ids in shown.items() if secret.id in ids} == readers
    assert all(public.id in ids for ids in shown.values())


@pytest.mark.parametrize(
    "odd",
    [
        Visibility(agents="anna"),  # type: ignore[arg-type]
        Visibility(agents=["anna", 5]),  # type: ignore[list-item]
        Visibility(labels="medical"),  # type: ignore[arg-type]
        Visibility(tenant=5),  # type: ignore[arg-type]
        Visibility(after="soon"),  # type: ignore[arg-type]
        Visibility(after=float("nan")),
        "anna",
    ],
    ids=str,
)
async def test_what_is_no_visibility_lets_nobody_in(new_board: Boards, odd: Any) -> None:
    """A text in the place of a list would be for everybody whose name is a part of it."""
    board = new_board()
    took: list[str] = []
    for name in ("a", "anna", "nn"):
        board.agent(name).consumes(A).body(lambda a: took.append("one"))
    with pytest.raises(DefinitionError, match=r"is none of private\(…\), labelled\(…\), tenant\(…\), after\(…\)"):
        await board.publish(A(), visibility=odd)
    with pytest.raises(DefinitionError, match=r'agent "x": visibility=.* is none of private'):
        board.agent("x").consumes(B).publishes(A, visibility=odd)
    assert took == []
    assert board.artifacts(A).total == 0


# -- the context -------------------------------------------------------------------------------------------------------


async def test_the_context_never_repeats_the_inputs(new_board: Boards) -> None:
    board = new_board(context=EverythingThereIs())
    shown = context_of_everybody(board, anna={})
    first = await board.publish(A())
    await board.run_until_idle()
    assert shown == {"anna": set()}
    await board.publish(A())
    await board.run_until_idle()
    assert shown == {"anna": {first.id}}


async def test_without_a_provider_the_context_is_what_the_inputs_descend_from(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[str]] = []

    @board.agent
    async def first(a: A) -> B:
        return B()

    @board.agent
    async def second(b: B) -> C:
        return C()

    @board.agent
    async def third(c: C, ctx: Context) -> None:
        seen.append([x.ref for x in ctx.past])

    seed = await board.publish(A())
    await board.publish(A(n=2), run="another")
    await board.run_until_idle()
    own = next(refs for refs in seen if seed.ref in refs)
    assert [ref.split("@")[0] for ref in own] == ["A", "B"]
    assert all(len(refs) == 2 for refs in seen)


async def test_default_ancestors_leave_out_what_the_agent_may_not_see(new_board: Boards) -> None:
    board = new_board()
    seen: dict[str, list[str]] = {}

    async def answer(secret: Secret) -> B:
        return B()

    async def stranger(b: B, ctx: Context) -> None:
        seen["stranger"] = [x.type_name for x in ctx.past]

    async def friend(b: B, ctx: Context) -> None:
        seen["friend"] = [x.type_name for x in ctx.past]

    board.agent(answer)
    board.agent(stranger)
    board.agent(friend)
    await board.publish(Secret(), visibility=private("answer", "friend"))
    await board.run_until_idle()
    assert seen == {"stranger": [], "friend": ["Secret"]}


@pytest.mark.req("S3.26", "S3.30")
async def test_the_provider_of_an_agent_comes_before_that_of_the_board_before_the_default(new_board: Boards) -> None:
    class Says:
        def __init__(self, word: str) -> None:
            self.word = word
            self.asked = 0

        async def provide(self, request: ContextRequest, /) -> Briefing:
            self.asked += 1
            return Briefing((C(key=self.word),), ())

    heard: dict[str, list[str]] = {}

    async def own(a: A, ctx: Context) -> None:
        heard["own"] = [str(getattr(i, "key", "")) for i in ctx.instructions]

    async def common(a: A, ctx: Context) -> None:
        heard["common"] = [str(getattr(i, "key", "")) for i in ctx.instructions]

    of_agent, of_board = Says("agent"), Says("board")
    board = new_board(context=of_board)
    board.agent("own").context(of_agent).consumes(A).body(own)
    board.agent("common").consumes(A).body(common)
    await board.publish_many([A(), A()])
    await board.run_until_idle()
    assert heard == {"own": ["agent"], "common": ["board"]}
    assert (of_agent.asked, of_board.asked) == (2, 2)

    plain = new_board()
    plain.agent("common").consumes(A).body(common)
    await plain.publish(A())
    await plain.run_until_idle()
    assert heard["common"] == []


async def test_a_provider_that_raises_is_the_failure_of_that_activation(new_board: Boards) -> None:
    class Broken:
        async def provide(self, request: ContextRequest, /) -> Briefing:
            raise LookupError("no briefing today")

    board = new_board(context=Broken())

    @board.agent
    async def needs_it(a: A, ctx: Context) -> None: ...

    await board.publish(A())
    report = await board.run_until_idle()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert dead.error.message == "no briefing today"


async def test_a_context_cannot_be_used_to_publish_for_others_or_to_change_payloads(new_board: Boards) -> None:
    board = new_board(context=EverythingThereIs())
    seen: list[str] = []

    @board.agent
    async def vandal(a: A, ctx: Context) -> None:
        assert not hasattr(ctx, "store")
        assert not hasattr(ctx, "board")
        [past] = ctx.past
        past.payload.text = "overwritten"
        with pytest.raises(AttributeError):
            past.id = 7  # type: ignore[misc]

    @board.agent
    async def reader(a: A, ctx: Context) -> None:
        seen.extend(x.payload.text for x in ctx.past)

    secret = await board.publish(Secret())
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.dead == 0
    assert seen == ["secret"]
    assert board.get(secret.id).payload == Secret()


async def test_the_context_is_as_of_the_claim(new_board: Boards) -> None:
    class Later:
        def __init__(self) -> None:
            self.board: Blackboard | None = None

        async def provide(self, request: ContextRequest, /) -> Briefing:
            return Briefing((), tuple(request.recent()))

    board = new_board(context=Later())
    seen: list[list[str]] = []

    @board.agent("late").consumes(A).publishes(B).body
    async def late(a: A, ctx: Context) -> None:
        await ctx.publish(B())
        seen.append([x.type_name for x in ctx._request.recent()])

    await board.publish(C())
    await board.publish(A())
    await board.run_until_idle()
    assert seen == [["C"]]


# -- later -------------------------------------------------------------------------------------------------------------


async def test_a_delayed_artifact_is_delivered_once_when_its_time_has_come(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    seen: list[float] = []
    start = clock.now()

    @board.agent
    async def take(a: A, ctx: Context) -> None:
        seen.append(ctx.now() - start)

    made = await board.publish(A(), visibility=after(3600))
    report = await board.run_until_idle()
    assert (seen, report.reason) == ([], "waiting")
    assert [left.id for left in report.left.held] == [made.id]
    assert board.artifacts(A).total == 0
    assert board.artifacts(A, held=True).total == 1

    clock.advance(3599)
    assert (await board.run_until_idle(horizon=0)).reason == "waiting"
    assert (await board.run_until_idle()).reason == "idle"
    await board.run_until_idle(horizon=None)
    assert seen == [3600.0]
    assert board.artifacts(A).total == 1


async def test_after_its_delay_an_artifact_may_be_for_some_only(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    seen: list[str] = []

    async def friend(a: A) -> None:
        seen.append("friend")

    async def stranger(a: A) -> None:
        seen.append("stranger")

    board.agent(friend)
    board.agent(stranger)
    await board.publish(A(), visibility=after(5, private("friend")))
    await board.run_until_idle()
    assert seen == ["friend"]


async def test_a_delayed_artifact_enters_joins_and_batches_when_it_is_offered(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    seen: list[tuple[int, int]] = []

    @board.agent
    async def pair(a: A, b: B) -> None:
        seen.append((a.n, b.n))

    await board.publish(A(n=1), visibility=after(30))
    await board.publish(A(n=2))
    await board.publish(B(n=1))
    await board.publish(B(n=2))
    await board.run_until_idle()
    assert seen == [(2, 1), (1, 2)]


async def test_an_output_may_be_delayed(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    start = clock.now()
    seen: list[float] = []

    async def plan(a: A) -> B:
        return B()

    async def do(b: B, ctx: Context) -> None:
        seen.append(ctx.now() - start)

    board.agent("plan").consumes(A).publishes(B, visibility=after(20)).body(plan)
    board.agent("do").consumes(B).body(do)
    await board.publish(A())
    await board.run_until_idle()
    assert seen == [20.0]


# -- held for review ---------------------------------------------------------------------------------------------------


class Desk(Component[None]):
    """Lets out what the reviewer found good, and takes back the rest."""

    observes: ClassVar[tuple[type[Event] | type[BaseModel], ...]] = (Verdict,)

    def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
        verdict = seen.artifact.as_type(Verdict) if seen.artifact is not None else None
        if verdict is not None:
            yield Release(verdict.subject) if verdict.good else Withdraw(verdict.subject, "not good enough")


async def test_a_held_artifact_is_offered_to_its_reviewer_alone_until_it_is_released(new_board: Boards) -> None:
    board = new_board(components=[Desk()])
    order: list[str] = []

    async def reviewer(a: Artifact[A]) -> Verdict:
        order.append(f"reviewed {a.payload.n}")
        return Verdict(subject=a.id, good=a.payload.n > 0)

    async def worker(a: A) -> None:
        order.append(f"worked {a.n}")

    board.agent("worker").consumes(A).body(worker)
    board.agent("reviewer").consumes(A).publishes(Verdict).body(reviewer)
    good = await board.publish(A(n=1), review_by="reviewer")
    bad = await board.publish(A(n=0), review_by="reviewer")
    assert board.artifacts(A).total == 0
    report = await board.run_until_idle()
    assert order == ["reviewed 1", "reviewed 0", "worked 1"]
    assert [a.id for a in board.artifacts(A)] == [good.id]
    assert [(aside.outcome, aside.first, aside.reason) for aside in report.put_aside] == [
        ("withdrawn", bad.id, "not good enough")
    ]


async def test_what_nobody_releases_stays_held_and_is_listed(new_board: Boards) -> None:
    board = new_board()
    seen: list[int] = []

    @board.agent
    async def worker(a: A) -> None:
        seen.append(a.n)

    made = await board.publish(A(), review_by="reviewer")
    report = await board.run_until_idle()
    assert seen == []
    assert [(left.id, left.by) for left in report.left.held] == [(made.id, "reviewer")]


def reviewing(board: Blackboard) -> list[int]:
    """An agent that reviews, and the numbers it was given."""
    given: list[int] = []

    async def reviewer(a: Artifact[A]) -> Verdict:
        given.append(a.payload.n)
        return Verdict(subject=a.id, good=True)

    board.agent("reviewer").consumes(A).publishes(Verdict).body(reviewer)
    return given


@pytest.mark.parametrize("known", [False, True])
async def test_what_is_held_for_a_reviewer_that_is_away_is_offered_to_it_once_when_it_comes(
    new_board: Boards, known: bool
) -> None:
    board = new_board()
    if known:
        given = reviewing(board)
        await board.publish(A(n=1), review_by="reviewer")
        await board.run_until_idle()  # nothing here releases what was reviewed
        assert given == [1]
        board = await new_board.reopened(board)
    await board.publish(A(n=2), review_by="reviewer")
    assert (await board.run_until_idle()).left.held

    board = await new_board.reopened(board, components=[Desk()])
    given = reviewing(board)
    report = await board.run_until_idle()
    assert given == [2]
    assert len(report.left.held) == known

    board = await new_board.reopened(board, components=[Desk()])
    given = reviewing(board)
    await board.run_until_idle()
    assert given == []


async def test_a_reviewer_that_was_away_until_the_release_takes_it_like_everybody_else(new_board: Boards) -> None:
    board = new_board()
    reviewing(board)
    await board.run_until_idle()
    board = await new_board.reopened(board)
    held = await board.publish(A(n=1), review_by="reviewer")
    board = await new_board.reopened(board, components=[Desk()])
    await board.publish(Verdict(subject=held.id, good=True))
    board = await new_board.reopened(board)
    given = reviewing(board)
    await board.run_until_idle()
    assert given == [1]


class Inbox(Component[tuple[int, ...]]):
    """Reviews by itself, also what came before it."""

    name = "inbox"

    def start(self) -> tuple[int, ...]:
        return ()

    def step(self, state: tuple[int, ...], seen: Seen, /) -> tuple[int, ...]:
        held = isinstance(seen.event, Published) and seen.event.held_by == self.name
        return (*state, seen.event.seq) if held else state

    def react(self, state: tuple[int, ...], seen: Seen, /) -> Iterable[Reaction]:
        if isinstance(seen.event, Enrolled) and seen.event.name == self.name:
            yield from map(Release, state)


async def test_a_component_that_comes_late_finds_what_is_held_for_it(new_board: Boards) -> None:
    board = new_board()
    held = await board.publish(A(n=1), review_by="inbox")
    board.add(Inbox())
    await board.run_until_idle()
    assert [a.id for a in board.artifacts(A)] == [held.id]


@pytest.mark.parametrize("decorated", [False, True])
async def test_what_an_agent_publishes_may_be_reviewed_before_anybody_takes_it(
    new_board: Boards, decorated: bool
) -> None:
    board = new_board(components=[Desk()])
    taken: list[int] = []
    given = reviewing(board)

    async def author(b: B) -> A:
        return A(n=b.n)

    async def reader(a: A) -> None:
        taken.append(a.n)
        assert given == [7], "it was not reviewed before"

    if decorated:
        board.agent(review_by="reviewer")(author)
    else:
        board.agent("author").consumes(B).publishes(A, review_by="reviewer").body(author)
    board.agent("reader").consumes(A).body(reader)
    await board.publish(B(n=7))
    assert (await board.run_until_idle()).ok
    assert (given, taken) == ([7], [7])


async def test_a_held_artifact_is_in_nobodys_context_but_its_reviewers(new_board: Boards) -> None:
    provider = EverythingThereIs()
    board = new_board(context=provider)
    shown = context_of_everybody(board, reviewer={}, stranger={})
    held = await board.publish(Secret(), review_by="reviewer")
    await board.publish(A())
    await board.run_until_idle()
    assert shown == {"reviewer": {held.id}, "stranger": set()}
