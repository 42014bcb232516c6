"""A board under random schedules: people, bodies, a disk and the clock, interleaved as a seed says.

Each history has lives. In one, people use a board in every way at once, on a disk that takes its time and may fail; it
ends closed, dead, or broken. The last life is quiet: nothing disturbs it, and everything has to come to its end there.

There are three sizes. In long histories everything happens; brief ones go where long ones seldom come, into the first
and the last moments; tiny ones are rounds: two people do one thing each at once, then everything comes to rest. What
many rounds share, an open board and a look at its whole log, is most of what a schedule costs.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial

from stigmergy import Blackboard, Roster
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.errors import KeyReused, QueryError, StoreError
from stigmergy.blackboard.question import HumanQuestion
from stigmergy.blackboard.shell import attempts, writer
from stigmergy.blackboard.stores.rows import decode
from tests.boards import A
from tests.schedule_people import People, Verb, any_verb
from tests.schedule_world import HERE, PATIENCE, Dice, Disk, Instant, LoopClock, World, some
from tests.seeded_loop import SeededLoop, run_seeded

TAKERS = {"A": ("copy", "pay", "wonder"), "B": ("nap", "spread"), "C": ("inquire",)}
"""Who takes every artifact of a type."""
ENDS = {ev.Completed, ev.Ended}


async def calm(people: People) -> None:
    """Open the board once more, and let everything come to its end."""
    async with people.board:
        await to_the_end(people)


async def to_the_end(people: People) -> None:
    """Let everything come to its end, and see that it does."""
    board, world = people.board, people.world
    owner = board._owner
    if owner is not None and not owner.decider.state.activations:
        return
    world.calm = True
    for _ in range(100):
        await board.resume()
        report = await board.run_until_idle(horizon=None)
        if report.reason == "broken":
            raise StoreError(report.detail)
        if report.reason != "waiting":
            break
        for question in board.artifacts(HumanQuestion):
            with suppress(QueryError, KeyReused):
                await board.answer(question.id, True)
    assert (report.reason, report.open) == ("idle", 0), f"it does not come to its end: {report}"
    world.calm = False


def check(world: World) -> None:
    """Nothing is lost and nothing doubled in the whole log."""
    log = [decode(row) for row in world.disk.reader().events()]
    published = {e.seq: e for e in log if e.__class__ is ev.Published}
    activated = {e.seq: e for e in log if e.__class__ is ev.Activated}
    for id, payload in world.acknowledged.items():
        assert id in published, f"acknowledged, and lost: {payload}"
        assert A.model_validate_json(published[id].payload) == payload, "another payload than was acknowledged"
    keys = [e.key for e in published.values() if e.key is not None]
    assert len(keys) == len(set(keys)), "a key was published twice"
    ends = [e.cause for e in log if e.__class__ in ENDS]
    assert sorted(ends) == list(activated), "not every activation ended exactly once"
    takers = Counter((e.agent, i) for e in activated.values() if not e.redriven for i in e.inputs)
    there = {e.name for e in log if e.__class__ is ev.Enrolled}
    for id, artifact in published.items():
        for agent in there.intersection(TAKERS.get(artifact.type, ())):
            times = takers[agent, id]
            assert times == 1, f"{agent} was offered {artifact.type}@{id} {times} times"
    _check_order(log, Counter((e.tx, e.cause) for e in published.values()))


def _check_order(log: list[ev.Event], outputs: Counter[tuple[int, int]]) -> None:
    left, running = 0, set[int]()
    for e in log:
        kind = e.__class__
        if kind is ev.Activated:
            left += 1
        elif kind is ev.Claimed:
            running.add(e.cause)
        elif kind in ENDS or kind is ev.Failed:
            running.discard(e.cause)
            left -= kind in ENDS
        elif isinstance(e, ev.Idled) and e.reason != "timeout":
            assert not running, f"rest was announced ({e.reason}) while bodies ran"
            assert not left or e.reason != "idle", "rest was announced while work was open"
        if isinstance(e, ev.Completed):
            assert outputs[e.tx, e.cause] == e.outputs, "outputs are not with their completion"


class ScheduleFailed(AssertionError):
    """What does not hold, and the line that shows it again."""


def history(seed: int) -> World:
    """The history of several people who do much, over some lives, with all agents, on a disk.

    Raises:
        ScheduleFailed: something does not hold.
    """
    return _told("history", _history, seed)


def brief(seed: int) -> World:
    """The history of one or two people who do one or two things each, with few agents, on either store.

    Raises:
        ScheduleFailed: something does not hold.
    """
    return _told("brief", _brief, seed)


def tiny(seed: int) -> World:
    """The history of rounds in which two people do one thing each at once, with an agent or two; at rest in between.

    Raises:
        ScheduleFailed: something does not hold.
    """
    return _told("tiny", _tiny, seed)


def _told(name: str, tell: Callable[[Dice], World], seed: int) -> World:
    before = writer.STARVING, attempts._trace
    writer.STARVING = PATIENCE  # there is no other thread to make way for
    attempts._trace = lambda error: ""  # a traceback takes as long as a schedule, and decides nothing
    try:
        return tell(Dice(seed))
    except Exception as error:
        again = f'python -c "from tests.schedules import {name}; {name}({seed})"'
        raise ScheduleFailed(f"{type(error).__name__}: {error}\n{again}") from error
    finally:
        writer.STARVING, attempts._trace = before


def _life(
    world: World, team: Roster, life: Callable[[People], Awaitable[object]], wild: float, stops_at: int = 0
) -> World:
    """One life of a board; the world as it is after it."""
    HERE.world = world
    dying: list[World] = []
    loop = SeededLoop(world.dice, wild, world.passed)
    people = People(world, Blackboard(world.disk, roster=team, clock=LoopClock(loop)))

    async def main() -> None:
        await life(people)

    run_seeded(main(), loop, stops_at, lambda: dying.append(world.after_death()))
    world = dying[0] if dying else world
    assert not world.wrong, world.wrong
    world.passed, world.disk.fails_at = loop.passed, 0
    return world


def _calm(world: World, team: Roster, wild: float) -> World:
    world = _life(world, team, calm, wild)
    check(world)
    return world


# -- long and brief ----------------------------------------------------------------------------------------------------

EVERYBODY = some("copy", "pay", "nap", "spread", "inquire", "pair")
TEAMS = [some(*names) for names in (("copy",), ("pay",), ("copy", "pay"), ("copy", "spread"), ("pay", "copy", "pair"))]


def _people(dice: Dice, people: Sequence[int], verbs: Sequence[int]) -> list[list[Verb]]:
    """What so many people do, who do so much each."""
    return [[any_verb(dice) for _ in range(dice.choice(verbs))] for _ in range(dice.choice(people))]


def _history(dice: Dice) -> World:
    world, wild = World(dice, Disk(dice)), dice.choice((0.05, 0.3, 1.0))
    for _ in range(dice.choice((1, 1, 2, 3))):
        world.disk.fails_at = world.disk.appends + dice.randrange(1, 40) if dice.random() < 0.3 else 0
        wills = _people(dice, (1, 2, 4), (1, 3, 8))
        stops_at = dice.randrange(1, 1_000) if dice.random() < 0.4 else 0
        world = _life(world, EVERYBODY, partial(People.live, rounds=[wills]), wild, stops_at)
    return _calm(world, EVERYBODY, wild)


def _brief(dice: Dice) -> World:
    disk = Disk(dice) if dice.random() < 0.7 else Instant()
    team, wild = dice.choice(TEAMS), dice.choice((0.05, 0.3, 1.0))
    if isinstance(disk, Disk) and dice.random() < 0.2:
        disk.fails_at = dice.randrange(1, 8)
    wills = _people(dice, (1, 2, 2), (1, 2))
    stops_at = dice.randrange(1, 100) if dice.random() < 0.2 else 0
    world = _life(World(dice, disk), team, partial(People.live, rounds=[wills]), wild, stops_at)
    return _calm(world, team, wild)


# -- tiny --------------------------------------------------------------------------------------------------------------


async def nothing(people: People) -> None:
    """Nobody was here."""


async def published(people: People) -> None:
    """Something waits for the first run."""
    await people.publish()
    await people.board.close()


async def paused(people: People) -> None:
    """The same, and nothing may start."""
    await people.publish()
    await people.pause()
    await people.board.close()


async def dead(people: People) -> None:
    """There is a dead letter."""
    people.world.unlucky = True
    await people.publish()
    await people.board.run_until_idle(horizon=None)
    await people.board.close()
    people.world.unlucky = False


async def asked(people: People) -> None:
    """Somebody waits for an answer."""
    await people.publish()
    await people.board.run_until_idle(horizon=0)
    await people.board.close()


async def killed(people: People) -> None:
    """The process died while a body ran."""
    await people.publish()
    run = asyncio.create_task(people.board.run_until_idle())
    while not people.world.running:
        await asyncio.sleep(0)
    asyncio.get_running_loop().stop()
    await run


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is there when a tiny history begins, and what somebody may do then who does not run the board."""

    agents: tuple[str, ...]
    before: Callable[[People], Awaitable[object]]
    verbs: tuple[Verb, ...] = (People.publish,)


@cache
def begun(beginning: Beginning) -> tuple[Roster, World]:
    """The team, and the world from which all tiny histories with that beginning go on."""
    dice, team = Dice(0), some(*beginning.agents)
    dice.turns = (1,)
    world = World(dice, Disk(dice), calm=beginning.before is not dead)
    world = _life(world, team, beginning.before, wild=0.0)
    world.calm = False
    return team, world


BEGINNINGS = (
    *(Beginning(("copy",), nothing, (People.publish, People.publish_many)),) * 3,
    *(Beginning(("copy",), published),) * 5,
    *(Beginning(("pay",), published),) * 3,
    Beginning(("pay",), nothing),
    Beginning(("copy", "pay"), published),
    Beginning(("copy", "pair"), published),
    Beginning(("copy", "nap"), published),
    Beginning(("copy", "spread"), published),
    Beginning(("copy",), paused, (People.resume,)),
    Beginning(("pay",), dead, (People.retry,)),
    Beginning(("wonder",), asked, (People.answer,)),
    Beginning(("pay",), killed),
)
RUNS = (People.run, People.run, People.run, People.run_until)
MEDDLING = (People.publish, People.cancel, People.pause, People.run)
"""What another may do meanwhile."""


def _two(dice: Dice, beginning: Beginning, *, last: bool) -> list[list[Verb]]:
    """What two people do at once: who runs the board, and who meddles; in the last round they may close it."""
    one: list[Verb] = [dice.choice(beginning.verbs)] if beginning.before is nothing or dice.random() < 0.2 else []
    if not one or dice.random() < 0.6:
        one.append(dice.choice(RUNS))
    if last and dice.random() < 0.5:
        return [one, [People.close]]
    return [one, [dice.choice(beginning.verbs if dice.random() < 0.4 else MEDDLING)]]


def _tiny(dice: Dice) -> World:
    beginning, many = dice.choice(BEGINNINGS), dice.choice((1, 6, 12))
    team, before = begun(beginning)
    dice.turns, wild = (0, 0, 1, 2), dice.choice((0.05, 0.3, 1.0))
    world = before.after_death(dice, Disk(dice) if dice.random() < 0.7 else Instant())
    world.done = Counter()
    if isinstance(world.disk, Disk) and dice.random() < 0.2:
        world.disk.fails_at = dice.randrange(1, 5 * many)
    rounds = [_two(dice, beginning, last=n == many) for n in range(1, many + 1)]
    stops_at = dice.randrange(1, 40 * many) if dice.random() < 0.2 else 0
    life = partial(People.live, rounds=rounds, watching=dice.random() < 0.3, between=to_the_end)
    world = _life(world, team, life, wild, stops_at)
    if not world.at_end:
        return _calm(world, team, wild)
    check(world)
    return world
