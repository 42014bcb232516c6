"""Agents whose annotations are strings, as with this import they all are."""

from __future__ import annotations

from pydantic import BaseModel

from stigmergy.agents.agent import Agent
from stigmergy.agents.roster import Roster


def define_with_a_local_model(roster: Roster) -> tuple[Agent, type[BaseModel]]:
    class Local(BaseModel):
        n: int = 0

    @roster.agent
    async def work(thing: Local) -> list[Local]:
        return [thing]

    return work, Local


async def names_an_unknown_type(thing: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    ...
