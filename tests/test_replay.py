"""Replay: the same definitions decide a recorded run the same way; with others the first difference is named."""

import itertools
import json
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from examples.auth import SEED
from examples.auth import roster as auth
from examples.hello import Question
from examples.hello import board as hello
from pydantic import BaseModel

from stigmergy import (
    Blackboard,
    Close,
    Component,
    Context,
    Costs,
    Limits,
    Progress,
    Publish,
    Retry,
    Roster,
    Seen,
    View,
    artifact_type,
    read,
    replay,
)
from stigmergy.agents.outputs import plain_outputs
from stigmergy.blackboard import component as cp
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.component import ActivationRequest
from stigmergy.blackboard.errors import CallRefused
from stigmergy.blackboard.events import Event
from stigmergy.blackboard.reading.view import Fixed
from stigmergy.blackboard.replaying.divergence import Divergence
from stigmergy.blackboard.replaying.playback import Playback
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.blackboard.stores.rows import encode
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C
from tests.simulation import Simulation
from tests.simulation_world import MODELS

pytestmark = pytest.mark.anyio


# -- equal ------------------------------------------------------------------------------------------------------------


async def test_the_examples_are_decided_the_same_way_again(new_board: Boards) -> None:
    for roster, seed in ((hello, Question(text="hello")), (auth, SEED)):
        board = new_board(roster)
        await board.publish(seed)
        await board.run_until_idle()
        found = replay(board, roster)
        assert (found.ok, found.first, found.changed) == (True, None, ())
        assert found.events == board.last > 5
        assert repr(found) == f"<Difference none: {found.decisions} decisions>"


class Bundle(BaseModel):
    ns: list[int]


class Scout(Component[int]):
    """Counts what it sees and says so now and then."""

    publishes = (C,)
    observes = (A, ev.Rang)

    def start(self) -> int:
        return 0

    def step(self, state: int, seen: Seen, /) -> int:
        return state + 1

    def react(self, state: int, seen: Seen, /) -> Iterable[cp.Reaction]:
        if state == 3:
            yield Publish(C(n=state), key="three")

    def admit(self, state: int, request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
        if isinstance(request, ActivationRequest) and request.agent == "single" and request.attempt == 1:
            return cp.Deny("not that one") if request.inputs[0] % 7 == 0 else cp.ADMIT
        return cp.ADMIT

    def alarm(self, state: int, /) -> float | None:
        return None


def busy_team() -> Roster:
    """One of everything: a join, a batch, retries, an effect, a publish from inside, components."""
    roster = Roster(components=[Progress(), Scout(), Costs()])

    @roster.agent(retry=Retry(attempts=3, backoff=1.0))
    async def single(a: A, ctx: Context) -> B | C:
        if a.n == 2 and ctx.attempt < 3:
            raise ValueError("twice")
        if a.n == 4:
            raise ValueError("always")
        value: Any = await ctx.call("double", lambda: a.n * 2)
        if a.n == 1:
            await ctx.sleep("nap", 5)
            await ctx.publish(C(n=9), key="inside")
        return B(n=value, key=a.key)

    @roster.agent(by="key", within=30)
    async def joined(a: A, b: B, c: C | None) -> None: ...

    @roster.agent(batch=3, within="idle")
    async def batched(bs: list[B]) -> Bundle:
        return Bundle(ns=[b.n for b in bs])

    return roster


@pytest.mark.req("S0.37")
async def test_joins_batches_retries_effects_and_components_are_decided_the_same_way_again(new_board: Boards) -> None:
    roster = busy_team()
    board = new_board(roster, clock=VirtualClock())
    for n in range(8):
        await board.publish(A(n=n, key="xyz"[n % 3]), key=f"a{n}", priority="high" if n == 5 else None)
    report = await board.run_until_idle()
    await board.publish(A(n=3, key="x"), run="side")
    await board.run_until_idle()
    await board.retry(report.left.dead_letters[0].activation)
    await board.run_until_idle()
    found = replay(board, roster)
    assert found.ok, str(found)
    kinds = {type(e).__name__ for e in board.events()}
    assert kinds >= {"Matched", "Failed", "Calling", "Called", "Rang", "Redriven", "Recalled", "Idled", "Ended"}


async def test_a_board_that_was_reopened_with_other_agents_and_components_is_replayed_as_it_was(
    new_board: Boards,
) -> None:
    everything = busy_team()
    some = Roster(components=[Progress()])
    some._register(everything.find("batched"))
    board = new_board(some, clock=VirtualClock())
    await board.publish_many([A(n=n, key="k") for n in range(4)])
    await board.run_until_idle()
    board = await new_board.reopened(board, everything, clock=VirtualClock())
    await board.publish_many([A(n=n, key="k") for n in range(4)])
    await board.run_until_idle()
    board = await new_board.reopened(board, some, clock=VirtualClock())
    await board.run_until_idle()
    found = replay(board, everything)
    assert found.ok, str(found)


async def test_agents_that_were_defined_between_two_runs_are_replayed_from_there_on(new_board: Boards) -> None:
    board = new_board()
    await board.publish(A(n=1))
    await board.run_until_idle()

    @board.agent
    async def late(a: A) -> B:
        return B(n=a.n)

    await board.publish(A(n=2))
    await board.run_until_idle()
    found = replay(board, board)
    assert found.ok, str(found)
    assert found.events == board.last, "the log has everything, also what came before the definition"


async def test_a_board_whose_process_died_is_replayed_with_its_suspects(file_board: Boards) -> None:
    roster = Roster()
    seen: list[Blackboard] = []

    @roster.agent
    async def work(a: A) -> B:
        if a.n == 1 and not seen:
            seen.append(file_board.crashed(board, roster))
        return B(n=a.n)

    board = file_board(roster)
    await board.publish_many([A(n=n) for n in range(3)])
    await board.run_until_idle()
    other = seen[0]
    await other.run_until_idle()
    assert any(isinstance(e, ev.Opened) and not e.clean for e in other.events())
    found = replay(other, roster)
    assert found.ok, str(found)
    assert found.events < other.last, "positions were skipped after the crash"


class Till(Component[int]):
    """Counts; its first version breaks when it is asked about an effect."""

    observes = (A,)

    def __init__(self, version: int) -> None:
        self.version = version  # type: ignore[misc]  # two versions of one class in one file

    def start(self) -> int:
        return 0

    def step(self, state: int, seen: Seen, /) -> int:
        return state + 1

    def admit(self, state: int, request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
        if self.version == 1 and isinstance(request, cp.CallRequest):
            raise ZeroDivisionError("it broke")
        return cp.ADMIT


def shop(version: int) -> Roster:
    roster = Roster(components=[Till(version)])

    @roster.agent
    async def caller(a: A, ctx: Context) -> B:
        try:
            return B(n=await ctx.call("effect", lambda: 1))
        except CallRefused:
            return B(n=0)

    return roster


async def test_a_component_that_was_mended_is_replayed_as_it_was_in_and_out_of_service(new_board: Boards) -> None:
    board = new_board(shop(1))
    await board.publish(A())
    assert (await board.run_until_idle()).reason == "component_failed"
    board = await new_board.reopened(board, shop(2))
    await board.publish(A())
    assert (await board.run_until_idle()).reason == "idle"
    assert [b.n for b in board.artifacts(B).payloads] == [0, 1]
    found = replay(board, shop(2))
    assert found.ok, str(found)


class Faithful(Simulation):
    """A simulation whose agents and components come and go, and are never redefined: one roster replays all of it."""

    def change_roster(self) -> None:
        rng, world = self.rng, self.world
        if rng.random() < 0.3 and len(world.roster) > 1:
            world.away.append(world.roster.pop(rng.randrange(len(world.roster))))
        if world.away and rng.random() < 0.5:
            world.roster.append(world.away.pop())

    def mend_components(self) -> None:
        return

    def erase(self) -> None:
        """What is erased cannot be decided again."""

    def replayed(self) -> Divergence | None:
        store = MemoryStore()
        for rows in self.rows:
            store.append_now(rows)
        specs = [replace(a, outputs=plain_outputs(MODELS)) for a in (*self.world.roster, *self.world.away)]
        components = [*self.world.components, *self.world.stored]
        playback = AnyOutputs(store.reader(), specs, components, self.limits, self.types)
        found = playback.play(None)
        assert found is not None or playback.events == sum(map(len, self.rows))
        return found


class AnyOutputs(Playback):
    """The bodies of a simulation publish with any option."""

    def _outputs(self, *_: Any) -> None:
        return None


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_whatever_happens_to_a_board_is_decided_the_same_way_again(first: int) -> None:
    for seed in range(first, first + 10):
        simulation = Faithful(seed)
        simulation.run(120)
        found = simulation.replayed()
        assert found is None, f"seed {seed}: {found.lines()}"


# -- differences ------------------------------------------------------------------------------------------------------


class Order(BaseModel):
    n: int = 0
    city: str = "Oslo"
    day: str = "Monday"


class Bill(BaseModel):
    n: int = 0


class Parcel(BaseModel):
    ns: list[int] = []


class Alarm(BaseModel):
    count: int = 0


def watch(limit: int = 3) -> Component[int]:
    """A component that raises an alarm after so many orders."""

    class Watch(Component[int]):
        publishes = (Alarm,)
        observes = (Order,)
        name = "watch"

        def start(self) -> int:
            return 0

        def step(self, state: int, seen: Seen, /) -> int:
            return state + 1

        def react(self, state: int, seen: Seen, /) -> Iterable[cp.Reaction]:
            if state == limit:
                yield Publish(Alarm(count=state))

    return Watch()


def small(order: Order) -> bool:
    return order.n < 100


def team(
    *, wanted: Callable[[Order], bool] = small, city: str = "Oslo", by: Any = "city", count: int = 3,
    attempts: int = 2, timeout: float = 60.0, within: float = 500.0, component: Component[Any] | None = None,
    bill: type[BaseModel] = Bill, extra: bool = False, ship: bool = True, self_trigger: bool = False,
    limits: Limits | None = None, tags: tuple[str, ...] = (),
) -> Roster:  # fmt: skip
    """The team whose runs are replayed, with one thing changed at a time."""
    roster = Roster(components=[component or watch()], limits=limits)
    (roster.agent("bill").consumes(Order, where=[{"city": city}, wanted], tags=tags)
        .publishes(bill).limits(retry=Retry(attempts=attempts, backoff=4.0), timeout=timeout)
        .body(_bill))  # fmt: skip
    if ship:
        (roster.agent("pack").consumes(Order, batch=count, by=by, within=within).publishes(Parcel).body(_pack))

    @roster.agent(self_trigger=self_trigger)
    async def echo(parcel: Parcel) -> Parcel | None:
        return Parcel(ns=[]) if parcel.ns else None

    if extra:
        roster.agent("audit").consumes(Bill).publishes(Alarm).body(_audit)
    return roster


async def _bill(order: Order) -> Any:
    if order.n == 7:
        raise ValueError("no")
    return Bill(n=order.n)


async def _pack(orders: list[Order]) -> Parcel:
    return Parcel(ns=[o.n for o in orders])


async def _audit(bill: Bill) -> None: ...


async def recorded(boards: Boards, **options: Any) -> Blackboard:
    """A run of the team with ten orders, one of them that fails, one for another city, and one that is left over."""
    board = boards(team(**options), clock=VirtualClock())
    for n in range(10):
        await board.publish(Order(n=n, city="Bergen" if n == 4 else "Oslo", day="Monday" if n % 2 else "Friday"))
    await board.run_until_idle(horizon=None)
    return board


def offered_to(agent: str, n: int) -> Callable[[View], int]:
    """The n-th time that something becomes an activation or takes a place of an agent."""

    def find(view: View) -> int:
        offers = (e for e in view.events() if isinstance(e, ev.Activated | ev.Matched))
        taken = (e for e in offers if e.subscription == f"{agent}/0")
        return next(itertools.islice(taken, n - 1, None)).seq

    return find


def first(kind: type[Event], **fields: object) -> Callable[[View], int]:
    """The first event of a kind with these fields."""

    def find(view: View) -> int:
        return next(
            e.seq for e in view.events()
            if isinstance(e, kind) and all(getattr(e, name) == value for name, value in fields.items())
        )  # fmt: skip

    return find


async def test_the_same_team_decides_the_same(new_board: Boards) -> None:
    found = replay(await recorded(new_board), team())
    assert found.ok, str(found)


def picky(order: Order) -> bool:
    return order.n != 3


def orderless(order: Order) -> bool:
    raise RuntimeError("broken")


SEED_OF_CHANCE = 3


def random_use() -> Callable[[Order], bool]:
    """A predicate that says yes by chance."""
    rng = random.Random(SEED_OF_CHANCE)
    return lambda order: rng.random() < 0.6


def first_refused(view: View) -> int:
    """Where that predicate first says no: of those with the right city, which alone it is asked about."""
    rng = random.Random(SEED_OF_CHANCE)
    asked = next(n for n in itertools.count(1) if rng.random() >= 0.6)
    assert 1 < asked < 8
    return offered_to("bill", asked)(view)


def clock_use(order: Order) -> bool:
    return time.time() < 1_000_000


PLANTED: list[Any] = [
    pytest.param({"wanted": picky}, "predicate", offered_to("bill", 4), "picky", id="predicate"),
    pytest.param({"wanted": orderless}, "predicate", offered_to("pack", 1), "RuntimeError: broken", id="raising"),
    pytest.param({"wanted": random_use}, "predicate", first_refused, "uses a clock, chance", id="random use"),
    pytest.param({"wanted": clock_use}, "predicate", offered_to("bill", 1), "clock_use", id="clock use"),
    pytest.param({"city": "Bergen"}, "filter", offered_to("bill", 1), "city='Bergen'", id="equality key"),
    pytest.param({"tags": ("hot",)}, "filter", offered_to("bill", 1), "the artifact has none", id="tags"),
    pytest.param({"by": "day"}, "key", offered_to("pack", 1), 'had key "Oslo"', id="key"),
    pytest.param({"by": lambda o: o.city[:1]}, "key", offered_to("pack", 1), 'has "O" now', id="key function"),
    pytest.param({"count": 4}, "count", first(ev.Activated, agent="pack"), "is not now", id="count"),
    pytest.param({"within": 3.0}, "deadline", None, "deadline", id="earlier deadline"),
    pytest.param({"within": 900.0}, "deadline", first(ev.Rang, timer="group"), "deadline", id="later deadline"),
    pytest.param({"attempts": 1}, "retry", first(ev.Failed), "run again", id="retry"),
    pytest.param({"component": watch(4)}, "component", first(ev.Published, type="Alarm"), "watch", id="component"),
    pytest.param({"bill": Alarm}, "output", first(ev.Published, type="Bill"), "publishes Alarm now", id="output type"),
    pytest.param({"extra": True}, "roster", first(ev.Enrolled), "'audit' is new", id="new agent"),
    pytest.param({"ship": False}, "roster", first(ev.Enrolled, name="pack"), "not in this roster", id="agent gone"),
    pytest.param({"limits": Limits(activations=2)}, "limit", None, "activations 2 of 2", id="limit"),
    pytest.param({"self_trigger": True}, "filter", None, "echo", id="self-trigger"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "cause", "where", "text"), PLANTED)
async def test_a_planted_difference_is_found_where_it_is_with_its_cause(
    new_board: Boards, options: dict[str, Any], cause: str, where: Callable[[View], int] | None, text: str
) -> None:
    board = await recorded(new_board)
    if options.get("wanted") is random_use:
        options = {"wanted": random_use()}
    found = replay(board, team(**options))
    assert not found.ok
    assert found.first is not None
    assert found.first.cause == cause, str(found)
    assert text in found.first.detail
    if where is not None:
        assert found.first.seq == where(board)
    assert found.first.expected is None or found.first.expected["seq"] == found.first.seq
    assert f"differs at {found.first.seq}" in str(found)
    assert repr(found) == f"<Difference at {found.first.seq}: {cause}>"
    shown = json.loads(found.to_json())
    assert (shown["ok"], shown["first"]["cause"]) == (False, cause)
    board.get(board.artifacts(Order)[0].id)  # the board is as it was


async def test_a_predicate_that_says_otherwise_is_named_with_the_artifact_and_its_place(new_board: Boards) -> None:
    board = await recorded(new_board)
    found = replay(board, team(wanted=picky)).first
    third = board.artifacts(Order)[3]
    assert found is not None
    assert f"bill/0 took {third.ref} and does not now: its predicate picky (test_replay.py:" in found.detail
    assert found.tx == third.id
    assert found.expected is not None
    assert found.expected["subscription"] == "bill/0"


def clock(state: int) -> int:
    return time.time_ns()


def chance(state: int) -> int:
    return random.getrandbits(60)


class Impure(Component[int]):
    """Says something that does not follow from the log alone: in what it publishes, or in what it lets others do."""

    publishes = (Alarm,)
    observes = (Order,)
    name = "watch"

    def __init__(self, use: Callable[[int], int], method: str) -> None:
        self.use = use
        self.method = method

    def start(self) -> int:
        return 0

    def step(self, state: int, seen: Seen, /) -> int:
        return self.use(state) if self.method == "step" else state + 1

    def react(self, state: int, seen: Seen, /) -> Iterable[cp.Reaction]:
        if self.method == "step":
            yield Publish(Alarm(count=state))

    def admit(self, state: int, request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
        return cp.Deny(f"not at {self.use(state)}") if self.method == "admit" else cp.ADMIT

    def review(self, state: int, request: cp.ActivationRequest, outputs: tuple[BaseModel, ...], /) -> cp.Verdict:
        accepts = self.method != "review" or self.use(state) >= 0
        return cp.ACCEPT if accepts else cp.Reject("not now")


@pytest.mark.parametrize("use", [clock, chance])
@pytest.mark.parametrize("method", ["step", "admit"])
async def test_a_component_that_uses_the_clock_or_chance_is_found_where_its_answer_shows(
    new_board: Boards, use: Callable[[int], int], method: str
) -> None:
    board = await recorded(new_board, component=Impure(use, method))
    found = replay(board, team(component=Impure(use, method))).first
    shows = first(ev.Published, type="Alarm") if method == "step" else first(ev.Ended, outcome="skipped")
    assert found is not None
    assert (found.cause, found.seq) == ("component", shows(board))
    assert "watch does otherwise at" in found.detail


async def test_a_review_that_accepts_by_the_clock_is_found_where_it_accepted(new_board: Boards) -> None:
    board = await recorded(new_board, component=Impure(clock, "review"))
    found = replay(board, team(component=Impure(lambda _: -1, "review"))).first
    assert found is not None
    assert (found.cause, found.seq) == ("component", first(ev.Completed)(board))
    assert "watch" in found.detail


def renamed_order(version: int, upcast: Any = None) -> Roster:
    """The team with another class of orders."""

    @artifact_type(name="Order", version=version, upcast=upcast)
    class Later(BaseModel):
        n: int
        city: str
        day: str
        street: str

    class Watch(Component[int]):
        publishes = (Alarm,)
        observes = (Later,)
        name = "watch"

        def start(self) -> int:
            return 0

        def step(self, state: int, seen: Seen, /) -> int:
            return state + 1

        def react(self, state: int, seen: Seen, /) -> Iterable[cp.Reaction]:
            if state == 3:
                yield Publish(Alarm(count=state))

    roster = Roster(components=[Watch()])
    (roster.agent("bill").consumes(Later, where=[{"city": "Oslo"}, lambda o: o.n < 100])
        .publishes(Bill).limits(retry=Retry(attempts=2, backoff=4.0), timeout=60.0).body(_any))  # fmt: skip
    roster.agent("pack").consumes(Later, batch=3, by="city", within=500.0).publishes(Parcel).body(_any_list)
    roster._register(team().find("echo"))
    return roster


async def _any(order: Any) -> Any: ...


async def _any_list(orders: Any) -> Any: ...


@pytest.mark.parametrize("version", [1, 2])
async def test_an_artifact_that_todays_class_cannot_read_is_found_at_its_first_artifact(
    new_board: Boards, version: int
) -> None:
    board = await recorded(new_board)
    found = replay(board, renamed_order(version)).first
    assert found is not None
    assert (found.cause, found.seq) == ("version", first(ev.Published, type="Order")(board))
    assert "Order" in found.detail


async def test_a_new_version_that_reads_the_old_one_and_decides_the_same_is_equal_and_mentioned(
    new_board: Boards,
) -> None:
    board = await recorded(new_board)
    found = replay(board, renamed_order(2, {1: lambda value: {**value, "street": "?"}}))
    assert found.ok, str(found)
    assert "Order is version 2; it was 1" in found.changed
    assert "changed   Order is version 2" in str(found)


def tampered(board: Blackboard, change: Callable[[Event], None]) -> Fixed:
    """The log of a board with something changed."""
    source, store = board._source(), MemoryStore()
    for event in board.events():
        change(event)
        store.append_now([encode(event)])
    return Fixed(replace(source, reader=store.reader()))


async def test_inputs_that_were_reordered_in_the_log_are_found(new_board: Boards) -> None:
    board = await recorded(new_board)

    def reverse(event: Event) -> None:
        if isinstance(event, ev.Activated):
            event.inputs = event.inputs[::-1]

    found = replay(tampered(board, reverse), team()).first
    assert found is not None
    assert (found.cause, found.seq) == ("order", first(ev.Activated, agent="pack")(board))


async def test_a_log_that_was_changed_is_found_though_no_definition_explains_it(new_board: Boards) -> None:
    board = await recorded(new_board)
    third = board.artifacts(Bill)[2].id

    def promote(event: Event) -> None:
        if isinstance(event, ev.Activated) and event.cause == third - 1:
            event.priority = "critical"
        if isinstance(event, ev.Published) and event.seq == third:
            event.depth = 7

    found = replay(tampered(board, promote), team()).first
    assert found is not None
    assert (found.cause, found.seq) == ("library", third)


async def test_a_component_that_held_denied_or_rejected_is_found_when_it_no_longer_does(new_board: Boards) -> None:
    class Guard(Component):
        name = "watch"
        strict = True

        def admit(self, state: None, request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
            return cp.Deny("not today") if self.strict and request.inputs[0] % 2 else cp.ADMIT  # type: ignore[union-attr]

    board = await recorded(new_board, component=Guard())
    assert replay(board, team(component=Guard())).ok
    lax = Guard()
    lax.strict = False
    found = replay(board, team(component=lax)).first
    assert found is not None
    assert (found.cause, found.seq) == ("component", first(ev.Ended, outcome="skipped")(board))
    assert "watch" in found.detail


# -- the verb ---------------------------------------------------------------------------------------------------------


async def test_no_body_runs_and_nothing_is_written(new_board: Boards) -> None:
    calls: list[str] = []
    roster = Roster()

    @roster.agent
    async def note(a: A) -> B:
        calls.append("ran")
        return B(n=a.n)

    board = new_board(roster)
    await board.publish(A(n=1))
    await board.run_until_idle()
    last = board.last
    assert replay(board, roster).ok
    assert (calls, board.last) == (["ran"], last)


async def test_a_replay_up_to_a_position_sees_nothing_after_it(new_board: Boards) -> None:
    board = await recorded(new_board)
    where = replay(board, team(wanted=picky)).first
    assert where is not None
    assert replay(board, team(wanted=picky), until=where.tx - 1).ok
    assert replay(board.at(where.tx - 1), team(wanted=picky)).ok
    assert not replay(board, team(wanted=picky), until=where.seq).ok


async def test_a_file_is_replayed_without_the_classes_that_only_others_published(file_board: Boards) -> None:
    board = await recorded(file_board)
    await board.publish(C(n=1))
    name = board._source().name
    await board.close()
    found = replay(name, team())
    assert found.ok, str(found)
    assert str(found).startswith(f"{name}: equal, ")
    assert "<pre>" in found._repr_html_()


async def test_a_replay_needs_no_more_memory_for_a_longer_log(file_board: Boards) -> None:
    def peak(count: int, board: Blackboard) -> int:
        for n in range(count):
            board.run_sync(A(n=n))
        with read(board._source().name) as view:
            tracemalloc.start()
            assert replay(view, roster).ok
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return most

    roster = Roster()

    @roster.agent
    async def note(a: A) -> B:
        return B(n=a.n)

    short, long = (peak(count, file_board(roster, durability="fast")) for count in (150, 900))
    assert long < 1.5 * short


async def test_a_closed_run_that_went_on_is_replayed(new_board: Boards) -> None:
    class Enough(Component[int]):
        observes = (B,)

        def start(self) -> int:
            return 0

        def step(self, state: int, seen: Seen, /) -> int:
            return state + 1

        def react(self, state: int, seen: Seen, /) -> Iterable[cp.Reaction]:
            if state == 2:
                yield Close(detail="two are enough")

    roster = Roster(components=[Enough()], concurrency=1)

    @roster.agent
    async def note(a: A) -> B:
        return B(n=a.n)

    @roster.agent
    async def voter(b: B) -> C:
        return C(n=b.n)

    board = new_board(roster)
    await board.publish_many([A(n=n) for n in range(5)])
    assert (await board.run_until_idle()).reason == "goal"
    open_work = [e.seq for e in board.events() if isinstance(e, ev.Activated)][-1]
    await board.cancel(open_work)
    await board.run_until_idle()
    found = replay(board, roster)
    assert found.ok, str(found)
