"""One agent alone, on a board of its own."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel

from stigmergy.agents.agent import Agent
from stigmergy.blackboard.briefing import Briefing
from stigmergy.blackboard.clock import VirtualClock
from stigmergy.blackboard.events import Called, Calling
from stigmergy.blackboard.reading.report import Report
from stigmergy.blackboard.shell.desk import LocalDesk, Shell
from stigmergy.blackboard.shell.job import Job
from stigmergy.board import Blackboard
from stigmergy.loop import in_a_loop
from stigmergy.testing.by_hand import Told
from stigmergy.testing.desk import Recorded, raised, records
from stigmergy.testing.envelopes import Given, envelopes


@dataclass(frozen=True, slots=True)
class Trial:
    """What one agent alone made of its inputs: what it published, in order, and the report of the run."""

    outputs: tuple[BaseModel, ...]
    report: Report


def trial(
    agent: Agent, /, *inputs: BaseModel, past: Sequence[Given] = (), instructions: Sequence[BaseModel] = (),
    tools: Sequence[str] | None = None, recorded: Recorded | None = None, model: object | None = None,
) -> Trial:  # fmt: skip
    """Run one agent alone, on a board in memory with a virtual clock: matching, retries, limits and output checks too.

    Args:
        inputs: published together, from outside.
        past, instructions, tools: what its context is to hold, and which tools it allows; unless one of them is given,
            what its own context provider says.
        recorded: what `ctx.call` gives, by key: those effects are not executed.
        model: answers if the agent has neither a body nor a model of its own.
    """
    told = Briefing(tuple(instructions), envelopes(past, -1, -1), None if tools is None else tuple(tools))
    alone = copy.copy(agent)
    if told != Briefing():
        alone.means = replace(agent.means, context=Told(told))

    async def run() -> Trial:
        board = Blackboard(clock=VirtualClock(), model=model)
        board._register(alone)
        owner = await board._open()
        owner.desk = _RecordedDesk(owner, recorded or {})
        await board.publish_many(inputs)
        report = await board.run_until_idle(horizon=None)
        outputs = tuple(a.payload for a in board.artifacts(producer=alone, held=True))
        await board.close()
        return Trial(outputs, report)

    return in_a_loop(run)


class _RecordedDesk(LocalDesk):
    """The desk of the trial's board, with effects that are recorded already."""

    def __init__(self, owner: Shell, recorded: Recorded) -> None:
        super().__init__(owner)
        self._told = recorded
        self._records = records(recorded)

    def recorded(self, job: Job) -> dict[str, tuple[Calling, Called | None]]:
        """What the test says, and what earlier attempts here recorded."""
        return {**self._records, **super().recorded(job)}

    async def calling(self, job: Job, event: Calling) -> int:
        """Raise what the test says that this effect raises."""
        error = raised(self._told, event, job.agent.name)
        if error is not None:
            raise error
        return await super().calling(job, event)
