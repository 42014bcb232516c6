"""LangGraph, a thread for each item, a node for each step, the call in a task. Variants: task, task+key."""

import asyncio
import json
import operator
import sys
from pathlib import Path
from typing import Annotated, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import task
from langgraph.graph import END, START, StateGraph
from scenario import ITEMS, STEPS, Provider


class State(TypedDict):
    number: int
    done: Annotated[list[int], operator.add]


async def main(variant: str, folder: Path, kill: str) -> None:
    """Run to the end; print the items that came out."""
    provider = Provider(folder, kill)

    @task
    async def pay(number: int, step: int) -> str:
        return await provider.pay(number, step, f"{number}-{step}" if variant.endswith("+key") else None)

    def node(step: int):
        async def work(state: State) -> dict[str, list[int]]:
            await pay(state["number"], step)
            return {"done": [step]}

        return work

    graph = StateGraph(State)
    names = [f"step{step}" for step in range(STEPS)]
    for step, name in enumerate(names):
        graph.add_node(name, node(step))
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)

    async with AsyncSqliteSaver.from_conn_string(str(folder / "run.db")) as saver:
        await saver.setup()
        await saver.conn.execute("PRAGMA synchronous=FULL")
        app = graph.compile(checkpointer=saver)

        async def one(number: int) -> list[int]:
            config = {"configurable": {"thread_id": str(number)}}
            before = await app.aget_state(config)
            if not before.values and not before.next:  # it was never begun
                await app.ainvoke({"number": number, "done": []}, config, durability="sync")
            elif len(before.values["done"]) < STEPS:  # `next` is empty, too, of one that has only its input on record
                await app.ainvoke(None, config, durability="sync")
            return (await app.aget_state(config)).values["done"]

        done = await asyncio.gather(*map(one, range(ITEMS)))
    print(json.dumps([number for number in range(ITEMS) for step in done[number] if step == STEPS - 1]))


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
