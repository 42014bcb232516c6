"""The Blackboard: a roster plus a store."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from stigmergy.agents.agent import Agent
from stigmergy.agents.models.model import Request
from stigmergy.agents.prompting.tokens import Tokens
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.core.where import Filter
from stigmergy.blackboard.definitions import Limits
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import (
    BadType,
    NotFound,
    PublishError,
    SeedError,
    StoreError,
    UseContext,
)
from stigmergy.blackboard.events import Event, Priority, Visibility
from stigmergy.blackboard.payloads.envelope import envelope
from stigmergy.blackboard.reading.report import Report, report_of
from stigmergy.blackboard.reading.view import ref_in
from stigmergy.blackboard.shell.goal import Goal
from stigmergy.blackboard.shell.owner import Owner
from stigmergy.blackboard.stores.rows import decode
from stigmergy.loop import in_a_loop
from stigmergy.prompts import prompt_of
from stigmergy.seeds import read_seeds
from stigmergy.tending import TendedBoard

M = TypeVar("M", bound=BaseModel)
_DEFAULTS = Limits()


class Blackboard(TendedBoard):
    """Typed artifacts on a shared log, and the agents that wait for them.

    Nothing is opened before the first publish or run, and nothing runs between calls.

    Args:
        store: a file (`"run.db"`), a `Path`, a store, or nothing for a board in memory.
        roster: agents and components defined elsewhere; more can be added here.
        model, context, components, limits, concurrency: see `Roster`; they replace the roster's.
        clock: where log time comes from; the machine's clock unless given.
        durability: "full" survives power loss; "fast" survives the end of the process, and loses at most a tail when
            the machine loses power.
        run: the run that artifacts belong to unless a publish says otherwise.
    """

    async def publish(
        self, payload: M, /, *, key: str | None = None, tags: Sequence[str] = (), priority: Priority | None = None,
        visibility: Visibility | None = None, review_by: str = "", run: str | None = None,
    ) -> Artifact[M]:  # fmt: skip
        """Put an artifact on the board; it is durable, and will be offered, when this returns. Nothing runs yet.

        Args:
            key: makes it idempotent within its run: the same payload again is the first artifact.
            tags: for subscriptions and reads that ask for them.
            priority: of the work that follows; by default what the payload's field `priority` says, or "medium".
            visibility: who may take and see it; everybody unless given.
            review_by: held until a component releases it; only this agent is offered it before.
            run: the scope in which joins, limits and completion are counted; the board's default unless given.

        Raises:
            PublishError: it is refused; nothing was published.
            OutcomeUnknown: the store failed; publish it again with the same key on a new board.
        """
        self._know_types()
        draft = self._draft(payload, key=key, tags=tags, priority=priority, visibility=visibility, review_by=review_by,
                            run=run)  # fmt: skip
        return (await self._publish([draft]))[0]

    async def publish_many(self, payloads: Iterable[M], /, *, run: str | None = None) -> list[Artifact[M]]:
        """Publish several at once: all or none, in one commit."""
        given: object = payloads
        if isinstance(given, BaseModel) or not isinstance(given, Iterable):
            raise BadType(f"publish_many() takes several payloads; {given!r:.60} is no list of them.")
        self._know_types()
        drafts: list[Draft] = []
        try:
            for payload in payloads:
                drafts.append(self._draft(payload, run=run))
        except PublishError as error:
            error.position = len(drafts)
            raise
        return await self._publish(drafts)

    async def publish_file(self, *paths: str | Path, type_name: str | None = None) -> list[Artifact[BaseModel]]:
        """Publish the outside artifacts of seed or stream files (see `stigmergy.seeds`): all of them or none.

        Args:
            type_name: every line is the bare payload of this type.

        Raises:
            SeedError: a line is wrong; names it.
        """
        self._know_types()
        drafts: list[Draft] = []
        lines: list[str] = []
        try:
            for path in paths:
                for s in read_seeds(path, self._table, type_name=type_name):
                    lines.append(f"{path}:{s.line}")
                    drafts.append(
                        self._draft(s.payload, key=s.key, tags=s.tags, priority=s.priority, visibility=s.visibility)
                    )
            return await self._publish(drafts)
        except SeedError:
            raise
        except PublishError as error:
            line = lines[-1 if error.position is None else error.position]
            raise SeedError(f"{line}: {error} Nothing was published.") from error

    def _draft(self, payload: BaseModel, *, run: str | None = None, **options: Any) -> Draft:
        most = (self.limits or _DEFAULTS).payload_bytes
        draft = draft_of(self._table, payload, run=run or self._run, most=most, **options)
        check = getattr(self.context, "check", None)
        if check is not None:
            check(draft.payload)
        return draft

    async def _publish(self, drafts: Sequence[Draft]) -> list[Artifact[Any]]:
        async def verb(owner: Owner) -> list[Artifact[Any]]:
            ids = await owner.publish(drafts)
            return [envelope(owner.past.published(id), d.payload) for id, d in zip(ids, drafts, strict=True)]

        return cast("list[Artifact[Any]]", await self._during(verb))

    async def run_until_idle(self, *, timeout: Seconds | None = None, horizon: Seconds | None = 60.0) -> Report:
        """Run agents until nothing is left to do; can be called again and again.

        Args:
            timeout: seconds after which the run stops; open work stays open for the next run.
            horizon: deadlines (retries, batches, delays) that are at most this many seconds away are waited for; with
                None all are, with 0 none; what lies beyond makes the reason `waiting`.
        """
        return await self._run_board(None, timeout, horizon)

    async def run_until(
        self, model: type[M], /, *, where: Filter[M] | None = None, count: int = 1, timeout: Seconds | None = None,
        horizon: Seconds | None = 60.0,
    ) -> Report:  # fmt: skip
        """Run until so many artifacts of this type were published in this call, then stop the rest.

        What is held, delayed or for review, counts when it is released.

        Bodies that run are interrupted and their work stays open; the report's reason is `goal`, or why it ended
        before.
        """
        return await self._run_board(Goal(model, where, count, self._envelope), timeout, horizon)

    async def _run_board(self, goal: Goal | None, timeout: Seconds | None, horizon: Seconds | None) -> Report:
        limit = None if timeout is None else in_seconds(timeout, "timeout=")
        far = None if horizon is None else in_seconds(horizon, "horizon=") if horizon else 0.0

        async def verb(owner: Owner) -> Report:
            if self._busy > 1 and owner.running:
                raise UseContext("this board runs already. Publish to it, or wait for the first run to end.")
            try:
                async with asyncio.timeout(limit):
                    reason, detail = await owner.run(far, goal)
            except TimeoutError:
                if limit is None:
                    raise
                reason = "timeout"
                detail = f"{limit:g} s"
                await owner.announce(reason, detail)
            if goal is not None and goal.error is not None:
                raise goal.error
            if reason == "broken":
                with suppress(StoreError):  # what is in memory is ahead of the log, and may be lost
                    kept = self.report()
                    return replace(kept, reason=reason, detail=detail, roster_changes=self._roster_changes)
            return report_of(
                owner.folded.ledger, owner.folded.state, store=self._store.name, ref=ref_in(owner.reader),
                limits=self.limits, subscriptions=owner.decider.index.subscriptions, reason=reason, detail=detail,
                roster_changes=self._roster_changes,
            )  # fmt: skip

        return cast("Report", await self._during(verb))

    def run_sync(self, *seeds: BaseModel, timeout: Seconds | None = None) -> Report:
        """Publish the seeds and run until idle, from a script, a test or a notebook cell."""
        self._refuse_inside()

        async def both() -> Report:
            if seeds:
                await self.publish_many(seeds)
            return await self.run_until_idle(timeout=timeout)

        return in_a_loop(both)

    def prompt(self, agent: Agent | str, *ids: int | str) -> Request:
        """What an agent's model would be asked first, given these artifacts; nothing is sent, and nothing changes.

        Args:
            ids: the inputs: `12` or `"Type@12"`.

        Raises:
            NotFound: there is no such agent or artifact, or the agent does not consume it.
            DefinitionError: the agent has a body of its own, so that nothing is asked.
        """
        return prompt_of(self, self, agent, *ids)

    async def watch(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """The events after that position as they become durable, until the board is closed.

        Raises:
            BoardBroken: an append failed; nothing more comes.
            NotFound: `after` is no position.
        """
        if type(after) is not int:
            raise NotFound(f"after={after!r} is no position. Positions are whole numbers.")
        await self._open()
        after = max(0, after)
        news = asyncio.Event()
        self._watchers.add(news)
        try:
            while True:
                owner, closed = cast("Owner", self._owner), self._left
                news.clear()
                for row in owner.reader.events(after, owner.writer.durable):
                    after = row.seq
                    yield decode(row)
                if owner.writer.failed is not None:
                    raise owner.broken()
                if closed:
                    self._close_reader()
                    return
                await news.wait()
        finally:
            self._watchers.discard(news)

    def tokens(self) -> Tokens:
        """What models write, piece by piece as they write it, until the board is closed; for `async for`.

        Models stream what they are asked while somebody watches. Nothing of it is on the log, where a reply is whole;
        and the run waits for nobody: who is ten thousand pieces behind misses the oldest.
        """
        return self._audience.join()
