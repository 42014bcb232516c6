"""What a model would be asked about an artifact: the prompt before it is sent."""

from collections.abc import Callable, Sequence
from typing import Any

from stigmergy.agents.agent import Agent
from stigmergy.agents.models.model import Estimate, OnToken, Reply, Request
from stigmergy.agents.prompting.answer import answered, asking
from stigmergy.agents.prompting.servers import Servers
from stigmergy.agents.roster import Roster
from stigmergy.agents.worker import BodyWorker
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.errors import NotFound, UseContext
from stigmergy.blackboard.events import Called, Calling, Published
from stigmergy.blackboard.reading.view import View
from stigmergy.blackboard.shell.job import Job
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.rows import as_published
from stigmergy.loop import in_a_loop


def prompt_of(view: View, roster: Roster, agent: Agent | str, *ids: int | str) -> Request:
    """What the model of an agent would be asked first, given these artifacts; nothing is sent, and nothing changes.

    Args:
        view: where the artifacts are, and what context they have there.
        ids: the inputs, in the order of the subscription: `12` or `"Type@12"`.

    Raises:
        NotFound: there is no such agent or artifact, or the agent does not consume it.
        DefinitionError: the agent has a body of its own, so that nothing is asked.
    """
    found = roster.find(agent if isinstance(agent, str) else agent.name)
    servers = Servers()  # opened for a look
    alone = answered(found, roster.model if roster.model is not None else _NoModel(), servers)
    body = asking(alone)
    artifacts = [view.get(id) for id in ids]
    consumed = {slot.type_name for s in found.subscriptions for slot in s.slots}
    strange = next((a for a in artifacts if a.type_name not in consumed), None)
    if strange is not None or not artifacts:
        what = strange.ref if strange is not None else "nothing"
        raise NotFound(f'agent "{found.name}" does not consume {what}. It consumes {", ".join(sorted(consumed))}.')
    first = artifacts[0]
    source, last = view._source(), view.last
    row = source.reader.event(last)
    now = row.at if row is not None else first.at
    worker = BodyWorker([alone], source.types, roster.context)
    inputs, desk = [a.id for a in artifacts], _Reading(source.reader, now)
    job = Job(-1, last, 1, alone.spec, "", inputs, [], first.run, "", now, 0, desk)

    async def ask() -> Request:
        try:
            return await body.opening(await worker.context(job))
        finally:
            await servers.close()

    return in_a_loop(ask)


class _NoModel:
    """Stands for a model that nobody has named."""

    name = "(no model)"

    def estimate(self, request: Request, /) -> Estimate:
        return Estimate()

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        raise NotImplementedError


class _Reading:
    """The desk of a body that only looks."""

    def __init__(self, reader: Reader, now: float) -> None:
        self._reader, self._now = reader, now

    def now(self) -> float:
        return self._now

    def published(self, id: int) -> Published:
        event = as_published(self._reader.event(id))
        if event is None:
            raise NotFound(f"there is no artifact {id}.")
        return event

    def reader(self) -> Reader:
        return self._reader

    def chain(self, job: Job) -> list[int]:
        return [job.id]

    def recorded(self, job: Job) -> dict[str, tuple[Calling, Called | None]]:
        return {}

    async def calling(self, job: Job, event: Calling) -> int:
        raise UseContext("a context provider has no effects.")

    async def called(self, job: Job, calling: int, event: Called) -> None:
        raise UseContext("a context provider has no effects.")

    async def sleep(self, job: Job, calling: int) -> None:
        raise UseContext("a context provider has no effects.")

    async def publish_from(self, job: Job, drafts: Sequence[Draft]) -> list[int]:
        raise UseContext("a context provider publishes nothing.")

    def watched(self, type_name: str) -> bool:
        return False

    def lingering(self, job: Job) -> Callable[[], Any]:
        raise UseContext("a context provider runs on the loop.")
