"""The desk of a body that no board runs: its effects are recorded already, or executed and forgotten."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.errors import CallChanged, NotFound
from stigmergy.blackboard.events import Called, Calling, Published
from stigmergy.blackboard.payloads.roundtrip import lossless_json
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.shell.job import Job
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.testing.envelopes import NOON

ACTIVATION = 1_000_000
"""The id of an activation that no board made, above those of the artifacts that it is given."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a recorded effect gave, and a digest of the arguments that it was given.

    Attributes:
        result: what `ctx.call` returns; an exception is raised instead.
        digest: as in `Calling.digest`; other arguments raise `CallChanged`.
    """

    result: object
    digest: str


Recorded = Mapping[str, object]
"""By key what effects gave, as if an earlier attempt had recorded it: results, exceptions to raise, or `Effect`s."""


class _AnyDigest(str):
    """The digest of whatever arguments: a test may leave out what an effect was asked."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


_ANY = _AnyDigest()


def records(recorded: Recorded) -> dict[str, tuple[Calling, Called | None]]:
    """Recorded results as an earlier attempt would have left them; those that are raised are left out."""
    found: dict[str, tuple[Calling, Called | None]] = {}
    for key, value in recorded.items():
        result, digest = (value.result, value.digest) if isinstance(value, Effect) else (value, _ANY)
        if not isinstance(result, BaseException):
            payload = lossless_json(result)
            found[key] = Calling(key=key, name="recorded", digest=digest), Called(key=key, payload=payload)
    return found


def raised(recorded: Recorded, event: Calling, agent: str) -> BaseException | None:
    """What an announced effect raises instead of being executed.

    Raises:
        CallChanged: it is announced with other arguments.
    """
    value = recorded.get(event.key)
    result, digest = (value.result, value.digest) if isinstance(value, Effect) else (value, _ANY)
    if digest != event.digest:
        raise CallChanged(f'call "{event.key}" of {agent!r} was recorded with other arguments.')
    return result if isinstance(result, BaseException) else None


class _Asked(dict[str, tuple[Calling, Called | None]]):
    """Records that note who asks for them."""

    def __init__(self, records: Mapping[str, tuple[Calling, Called | None]], called: list[str]) -> None:
        super().__init__(records)
        self._called = called

    def get(self, key: str, default: Any = None, /) -> Any:
        self._called.append(key)
        return super().get(key, default)


class HandDesk:
    """Answers a body that no board runs."""

    def __init__(
        self, inputs: Sequence[Artifact[Any]], recorded: Recorded, *, reader: Reader | None = None, repeats: int = 0,
        now: float = NOON, strict: bool = False,
    ) -> None:  # fmt: skip
        self._inputs = {a.id: a for a in inputs}
        self._recorded = recorded
        self._reader = reader or MemoryStore().reader()
        self._repeats = repeats
        self._now = now
        self._strict = strict
        self._last = ACTIVATION
        self.payloads: list[BaseModel] = []
        self.called_keys: list[str] = []

    def now(self) -> float:
        """The time of the test."""
        return self._now

    def published(self, id: int) -> Published:
        """The event of an input, made of its envelope."""
        a = self._inputs.get(id)
        if a is None:
            raise NotFound(f"there is no artifact {id}: this context has no board. Use trial() where a body needs one.")
        kind = type_of(type(a.payload))
        return Published(
            seq=id, at=a.at, cause=a.cause, type=kind.name, version=kind.version, run=a.run, producer=a.producer,
            key=a.key, tags=list(a.tags), priority=a.priority, visibility=a.visibility, root=a.root, depth=a.depth,
            phase=a.phase, payload=kind.encode(a.payload)[1],
        )  # fmt: skip

    def reader(self) -> Reader:
        """An empty log, unless there is one."""
        return self._reader

    def chain(self, job: Job) -> list[int]:
        """The activation, and the first of those that it repeats."""
        return [job.id, self._repeats] if self._repeats else [job.id]

    def recorded(self, job: Job) -> dict[str, tuple[Calling, Called | None]]:
        """What the test says; whoever looks something up there is noted."""
        return _Asked(records(self._recorded), self.called_keys)

    async def calling(self, job: Job, event: Calling) -> int:
        """An effect is about to be executed."""
        error = raised(self._recorded, event, job.agent.name)
        if error is not None:
            raise error
        if self._strict:
            raise AssertionError(f'call "{event.key}" of {job.agent.name!r} is not recorded, so it is not executed.')
        self._last += 1
        return self._last

    async def called(self, job: Job, calling: int, event: Called) -> None:
        """Nothing is kept."""

    async def sleep(self, job: Job, calling: int) -> None:
        """Nobody waits."""

    async def publish_from(self, job: Job, drafts: Sequence[Draft]) -> list[int]:
        """Kept for the test to look at."""
        self.payloads += [draft.payload for draft in drafts]
        self._last += len(drafts)
        return list(range(self._last - len(drafts) + 1, self._last + 1))

    def watched(self, type_name: str) -> bool:
        return True

    def lingering(self, job: Job) -> Any:
        """Bodies called by hand run where they are called."""
        raise NotImplementedError
