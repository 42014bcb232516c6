"""People who use one board at once, under a random schedule, and see whether it does to them what it says."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from stigmergy import Blackboard
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.errors import (
    BoardBroken,
    BoardClosed,
    KeyReused,
    NotFound,
    QueryError,
    StoreError,
    UseContext,
)
from stigmergy.blackboard.question import HumanQuestion
from tests.boards import A, B, C
from tests.schedule_world import Dice, World


class People:
    """Several who use one board at once, each with a will of its own."""

    def __init__(self, world: World, board: Blackboard) -> None:
        self.world, self.dice = world, world.dice
        self.board = board

    async def live(
        self, rounds: Sequence[Sequence[Sequence["Verb"]]], *, watching: bool = True, between: "Verb | None" = None
    ) -> None:
        """One life of the board.

        Args:
            rounds: what each of them does, one thing after the other; and the same again, when all are through.
            between: what is done after each round, until somebody has closed the board or the disk failed.
        """
        watch, disk = asyncio.create_task(self.watch()) if watching else None, self.world.disk
        for wills in rounds:
            self.world.rounds += 1
            self.world.at_end = False
            await asyncio.gather(*map(self.person, wills))
            if between is None or self.board._closed or disk.has_failed():
                break
            try:
                await between(self)
            except (StoreError, BoardBroken):
                assert disk.has_failed()
                break
            self.world.at_end = True
        await self.close()
        self.world.at_end &= not disk.has_failed()
        if watch is not None:
            await watch

    async def person(self, will: Sequence["Verb"]) -> None:
        """Do this and that; what is under way may be cancelled at any moment."""
        for verb in will:
            await self.dice.pause()
            doing = asyncio.create_task(self.attempt(verb))
            if self.dice.random() < 0.2:
                await self.dice.pause()
                doing.cancel()
                if self.dice.random() < 0.3:
                    await self.dice.pause()
                    doing.cancel()
            await asyncio.wait([doing])
            if not doing.cancelled():
                doing.result()

    async def attempt(self, verb: "Verb") -> None:
        """Use a verb, which may be refused only for a reason."""
        was_closed = self.board._closed
        name = verb.__name__
        try:
            await verb(self)
        except BoardClosed:
            assert self.board._closed, f"{name} says that an open board is closed"
            name += " (closed)"
        except BoardBroken:
            assert self.world.disk.fails_at, f"{name} says that a board is broken that is not"
            name += " (broken)"
        except StoreError:
            assert self.world.disk.fails_at, f"{name} says that a store fails that does not"
        except (UseContext, QueryError, KeyReused):
            name += " (refused)"
        else:
            assert not was_closed or name == "close", f"{name} was done on a closed board"
        finally:
            self.world.done[name] += 1

    async def publish(self) -> None:
        """Publish something new, or something old again with its key."""
        world = self.world
        again = bool(world.keyed) and self.dice.random() < 0.3
        if again:
            key = self.dice.choice(sorted(world.keyed))
            n = world.keyed[key]
        else:
            world.numbers += 1
            n, key = world.numbers, f"key {world.numbers}"
        world.keyed[key] = n
        artifact = await self.board.publish(A(n=n, key=key), key=key)
        self.acknowledge(artifact.id, artifact.payload)

    async def publish_many(self) -> None:
        """Publish several at once."""
        first = self.world.numbers + 1
        self.world.numbers += 3
        for artifact in await self.board.publish_many([A(n=n) for n in range(first, first + 3)]):
            self.acknowledge(artifact.id, artifact.payload)

    def acknowledge(self, id: int, payload: A) -> None:
        """What is acknowledged is durable."""
        world = self.world
        assert id <= world.disk.kept, "acknowledged, and not durable"
        assert world.acknowledged.setdefault(id, payload) == payload, "an id was dealt twice"

    async def run(self) -> None:
        """Run until idle."""
        timeout, horizon = self.dice.choice((None, 0.5, 30.0)), self.dice.choice((0.0, 3.0, None))
        report = await self.board.run_until_idle(timeout=timeout, horizon=horizon)
        if report.reason == "idle":
            assert report.open == 0, f"idle, with open work: {report.open}"
        self.world.done[report.reason] += 1
        owner = self.board._owner
        if owner is not None and not self.board._busy and not owner.bodies.lingering and not self.board._closed:
            assert not any(owner.decider.agenda._busy.values()), "nothing runs, and a place is taken"

    async def run_until(self) -> None:
        """Run until there is one of these."""
        goal: type[Any] = self.dice.choice((B, C))
        await self.board.run_until(goal, count=self.dice.choice((1, 4)), timeout=30.0)

    def some(self, kind: type[ev.Event]) -> int:
        """The position of one of the last durable events of that kind."""
        found = [row.seq for row in self.world.disk.reader().events(kinds=(kind.__name__,))]
        if not found:
            raise NotFound("there is none.")
        return self.dice.choice(found[-5:])

    async def cancel(self) -> None:
        """Cancel an activation, or a tree."""
        await self.board.cancel(self.some(self.dice.choice((ev.Activated, ev.Activated, ev.Published))))

    async def pause(self) -> None:
        """Pause everything."""
        await self.board.pause()

    async def resume(self) -> None:
        """Go on."""
        await self.board.resume()

    async def retry(self) -> None:
        """Try all dead letters again, or give up one."""
        dead = [d.activation for d in self.board.report().left.dead_letters]
        if dead and self.dice.random() < 0.2:
            await self.board.discard(dead[0], reason="no use")
        else:
            await self.board.retry(*dead)

    async def answer(self) -> None:
        """Answer a question."""
        questions = list(self.board.artifacts(HumanQuestion))
        await self.board.answer(self.dice.choice(questions).id if questions else 0, True)

    async def watch(self) -> None:
        """See every event once, in the order of the log, when it is durable."""
        seen = 0
        try:
            async with aclosing(self.board.watch()) as events:
                async for event in events:
                    assert event.seq > seen, "seen twice"
                    assert event.seq <= self.world.disk.kept, "seen before it was durable"
                    seen = event.seq
                    if self.dice.random() < 0.1:
                        await self.dice.pause()
        except BoardClosed:
            return
        except BoardBroken:
            assert self.world.disk.fails_at
            return
        assert self.board._closed, "a watch ended, and the board is open"
        assert seen == self.world.disk.reader().last(), "not everything was seen"

    async def close(self) -> None:
        """Close the board; nothing runs and nothing is written after that."""
        try:
            await self.board.close()
        except (StoreError, BoardBroken):
            assert self.world.disk.fails_at
        finally:
            self.world.must(not self.world.running, "a body outlives its board")
            last = self.world.disk.reader().last()
            await self.dice.pause()
            self.world.must(self.world.disk.reader().last() == last, "something is written after the board was closed")


Verb = Callable[[People], Awaitable[object]]
VERBS: Sequence[Verb] = (
    People.publish, People.publish, People.publish_many, People.run, People.run, People.run_until, People.cancel,
    People.pause, People.resume, People.retry, People.answer,
)  # fmt: skip
"""What people do on their own account."""


def any_verb(dice: Dice) -> Verb:
    """What somebody does, who may also close the board."""
    return dice.choice(VERBS) if dice.random() > 0.02 else People.close
