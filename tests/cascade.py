"""A cascade with everything that a crash could break: a chain, a join, paid effects, a vote, a retry, a dead letter."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from stigmergy import Artifact, Blackboard, Consensus, Context, Report, Retry, Roster, View, Vote
from stigmergy.blackboard.clock import Clock
from stigmergy.blackboard.events import Activated, Called, Calling, Completed, Ended, Failed, Published
from stigmergy.testing import VirtualClock

ORDERS = 3
STEPS = 2
SPOILT = 1
"""The order that the inspector never gets through."""


class Order(BaseModel):
    number: int


class Step(BaseModel):
    number: int
    left: int


class Packed(BaseModel):
    number: int


class Paid(BaseModel):
    number: int
    receipt: str


class Shipped(BaseModel):
    number: int


class Inspected(BaseModel):
    number: int


TYPES: list[type[BaseModel]] = [Order, Step, Packed, Paid, Shipped, Inspected, Vote]


@dataclass
class World:
    """What the cascade does outside of its board.

    Attributes:
        payments: the idempotency key of every payment that was executed.
        acknowledged: the ids that `publish` returned.
    """

    payments: list[str] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)

    def pay(self, key: str) -> str:
        """An effect that costs money; what it answers depends only on what is asked."""
        self.payments.append(key)
        return "paid"

    def acknowledge(self, id: int) -> None:
        """The board said that it has it."""
        self.acknowledged.append(id)


class FileWorld(World):
    """The same, in files that survive the process."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def pay(self, key: str) -> str:
        self._note("payments", key)
        return super().pay(key)

    def acknowledge(self, id: int) -> None:
        self._note("acknowledged", str(id))

    @classmethod
    def seen_in(cls, folder: Path) -> World:
        """What a process did that kept its notes there."""
        payments, acknowledged = (
            (folder / name).read_text(encoding="utf-8").split() if (folder / name).exists() else []
            for name in ("payments", "acknowledged")
        )
        return World(payments, [int(id) for id in acknowledged])

    def _note(self, name: str, line: str) -> None:
        with (self._folder / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


B = TypeVar("B", bound=Roster)


def define(board: B, world: World, backoff: float = 1.0) -> B:
    """The agents and the vote.

    Args:
        backoff: seconds before an inspector tries again.
    """

    @board.agent(pure=True)
    async def plan(order: Order) -> Step:
        return Step(number=order.number, left=STEPS)

    @board.agent(pure=True, self_trigger=True)
    async def walk(step: Step) -> Step | Packed:
        return Step(number=step.number, left=step.left - 1) if step.left else Packed(number=step.number)

    @board.agent
    async def cashier(order: Order, ctx: Context) -> Paid:
        return Paid(number=order.number, receipt=await ctx.call("pay", world.pay, ctx.idempotency_key("pay")))

    @board.agent(by="number")
    async def ship(paid: Paid, packed: Packed) -> Shipped:
        return Shipped(number=paid.number)

    @board.agent(retry=Retry(attempts=2, backoff=backoff))
    async def inspect(order: Order, ctx: Context) -> Inspected:
        if order.number == SPOILT or ctx.attempt == 1:
            raise ValueError("not like this")
        return Inspected(number=order.number)

    for name, option in (("kind", "good"), ("strict", "bad"), ("moody", "good")):

        def voter(option: str) -> Callable[[Any], Any]:
            async def vote(shipped: Artifact[Shipped]) -> Vote:
                return Vote(subject=shipped.id, option=option)

            return vote

        board.agent(name).consumes(Shipped).publishes(Vote).body(voter(option))
    board.add(Consensus(options=("good", "bad"), voters=("kind", "strict", "moody"), of=Shipped))
    return board


async def run(board: Blackboard, world: World, orders: int = ORDERS) -> Report:
    """Publish the orders, as somebody would who does not know which of them arrived, and run to the end."""
    for number in range(orders):
        artifact = await board.publish(Order(number=number), key=f"order {number}")
        world.acknowledge(artifact.id)
    report = await board.run_until_idle(horizon=None)
    await board.close()
    return report


def board_on(path: Any, world: World, clock: Clock | None = None) -> Blackboard:
    """The cascade's board on a file or store, in virtual time."""
    return define(Blackboard(path, concurrency=3, clock=clock or VirtualClock()), world)


@dataclass(frozen=True)
class Story:
    """What happened, without what may differ between two runs: ids, times, order, and deaths.

    Attributes:
        artifacts: how often each was published, named by producer, type, payload and all it descends from.
        endings: agent, what it ran on, how that ended, and after how many failures of its own.
    """

    artifacts: Counter[str]
    endings: Counter[tuple[str, tuple[str, ...], str, int]]


def story(view: View, *, erased: bool = False) -> Story:
    """What is on a board.

    Args:
        erased: payloads may be gone, so that nothing is named by them; orders are, by their keys.
    """
    names: dict[int, str] = {}
    activated: dict[int, Activated] = {}
    failures: Counter[int] = Counter()
    endings: Counter[tuple[str, tuple[str, ...], str, int]] = Counter()
    payloads = {artifact.id: artifact.payload for artifact in view.artifacts()}
    for event in view.events():
        match event:
            case Published():
                cause = activated.get(event.cause)
                parents = sorted(names[id] for id in cause.inputs) if cause is not None else []
                data: dict[str, Any] = {"key": event.key} if erased else payloads[event.seq].model_dump()
                if "subject" in data:
                    data["subject"] = names[data["subject"]]
                names[event.seq] = f"{event.producer}:{event.type}{data} < {parents}"
            case Activated():
                activated[event.seq] = event
            case Failed(kind="error"):
                failures[event.cause] += 1
            case Completed() | Ended():
                a = activated[event.cause]
                how = "completed" if isinstance(event, Completed) else f"{event.outcome} {event.reason}"
                endings[a.agent, tuple(names[id] for id in a.inputs), how, failures[event.cause]] += 1
    return Story(Counter(names.values()), endings)


def check_kept(view: View, world: World) -> None:
    """What a board has at the moment of a death: whatever was promised, and the announcement of whatever was done."""
    events = list(view.events())
    published = {e.seq for e in events if isinstance(e, Published)}
    assert set(world.acknowledged) <= published, "an acknowledged artifact is lost"
    announced = {e.cause for e in events if isinstance(e, Calling)}
    assert {activation_of(key) for key in world.payments} <= announced, "an effect was executed before its announcement"


def check_ended(view: View, world: World, expected: Story, *, erased: bool = False) -> None:
    """Nothing is lost, nothing is done twice, every effect is recorded once."""
    found = story(view, erased=erased)
    assert found.artifacts == expected.artifacts
    assert found.endings == expected.endings
    assert view.report().open == 0
    check_kept(view, world)
    assert set(recorded(view).values()) == {1}
    assert set(recorded(view)) == {activation_of(key) for key in world.payments}


def activation_of(key: str) -> int:
    """The activation that an idempotency key was made for."""
    return int(key.split("-")[-2])


def recorded(view: View) -> Counter[int]:
    """How many results of effects each activation has on the log."""
    events = list(view.events())
    callings = {e.seq: e for e in events if isinstance(e, Calling)}
    return Counter(callings[e.cause].cause for e in events if isinstance(e, Called) and e.outcome == "done")
