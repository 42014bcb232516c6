"""A program to be killed: joins, journaled effects and random outputs on one durable board. `kill_target.py FOLDER`."""

import asyncio
import os
import sys
from pathlib import Path

from pydantic import BaseModel

from stigmergy import Blackboard, Context

ORDERS = 60
STEPS = 6


class Order(BaseModel):
    number: int


class Step(BaseModel):
    number: int
    left: int
    noise: str


class Paid(BaseModel):
    number: int
    receipt: str


class Packed(BaseModel):
    number: int
    noise: str


class Shipped(BaseModel):
    number: int


def note(path: Path, line: str) -> None:
    """Append a line that survives the process."""
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def board_in(folder: Path) -> Blackboard:
    board = Blackboard(folder / "run.db", concurrency=8)

    def pay(number: int, key: str) -> str:
        note(folder / "effects", key)
        return os.urandom(4).hex()

    @board.agent
    async def cashier(order: Order, ctx: Context) -> Paid:
        receipt = await ctx.call("pay", pay, order.number, ctx.idempotency_key("pay"))
        return Paid(number=order.number, receipt=receipt)

    @board.agent(pure=True)
    async def start(order: Order) -> Step:
        return Step(number=order.number, left=STEPS, noise=os.urandom(4).hex())

    @board.agent(pure=True, self_trigger=True)
    async def walk(step: Step) -> Step | Packed:
        if step.left:
            return Step(number=step.number, left=step.left - 1, noise=os.urandom(4).hex())
        return Packed(number=step.number, noise=step.noise)

    @board.agent(by="number")
    async def ship(paid: Paid, packed: Packed) -> Shipped:
        return Shipped(number=paid.number)

    return board


async def main(folder: Path) -> None:
    board = board_in(folder)
    print("running", flush=True)  # noqa: T201

    async def publish() -> None:
        for number in range(ORDERS):
            artifact = await board.publish(Order(number=number), key=f"order {number}")
            note(folder / "acknowledged", str(artifact.id))

    publishing = asyncio.create_task(publish())
    while not publishing.done():
        await board.run_until_idle()
        await asyncio.wait([publishing], timeout=0.01)
    await publishing
    report = await board.run_until_idle()
    while report.left.dead_letters:
        # Who is killed three times while it runs alone is taken for the killer; whoever knows better tries again.
        assert {letter.reason for letter in report.left.dead_letters} == {"kills_process"}
        await board.retry(*(letter.activation for letter in report.left.dead_letters))
        report = await board.run_until_idle()
    await board.close()
    print("done" if report.ok else report, flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
