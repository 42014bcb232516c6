"""Stigmergy, an agent for each step. Variants: bare, call, pure; with `+key`, the provider gets an idempotency key."""

import asyncio
import json
import sys
from pathlib import Path

from pydantic import BaseModel
from scenario import ITEMS, STEPS, Provider

from stigmergy import Blackboard, Context


class Item(BaseModel):
    number: int
    step: int


async def main(variant: str, folder: Path, kill: str) -> None:
    """Run to the end; print the items that came out."""
    provider = Provider(folder, kill)
    style, _, key = variant.partition("+")
    board = Blackboard(folder / "run.db")

    async def work(item: Item, ctx: Context) -> Item:
        token = ctx.idempotency_key("pay") if key else None
        if style == "bare":
            await provider.pay(item.number, item.step, token)
        else:
            await ctx.call("pay", provider.pay, item.number, item.step, token)
        return Item(number=item.number, step=item.step + 1)

    for step in range(STEPS):
        agent = board.agent(f"step{step}").consumes(Item, where={"step": step}).publishes(Item)
        (agent.pure() if style == "pure" else agent).body(work)
    async with board:
        for number in range(ITEMS):
            await board.publish(Item(number=number, step=0), key=str(number))
        await board.run_until_idle()
        ends = [a.number for a in board.artifacts(Item).payloads if a.step == STEPS]
    print(json.dumps(ends))


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
