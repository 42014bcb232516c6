"""The Blackboard: a roster plus a store."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast
from weakref import WeakValueDictionary

from pydantic import BaseModel

from stigmergy.agents.agent import Agent
from stigmergy.agents.roster import Roster
from stigmergy.agents.worker import BodyWorker, inside_body
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.artifacts import envelope
from stigmergy.blackboard.briefing import ContextProvider
from stigmergy.blackboard.clock import Clock, SystemClock
from stigmergy.blackboard.component import Component
from stigmergy.blackboard.decider import DEFAULT_RUN, Decider
from stigmergy.blackboard.decision import Draft
from stigmergy.blackboard.definitions import AgentSpec, Limits
from stigmergy.blackboard.drafting import draft_of
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.enrolment import enrolments_of
from stigmergy.blackboard.errors import BoardBroken, BoardClosed, PublishError, SeedError, UseContext, WrongLoop
from stigmergy.blackboard.events import Event, Priority, Published, Visibility
from stigmergy.blackboard.fold import fold
from stigmergy.blackboard.matching import Index
from stigmergy.blackboard.observers import Observers
from stigmergy.blackboard.owner import WINDOW, Goal, Owner
from stigmergy.blackboard.past import RecentPast
from stigmergy.blackboard.report import Report, report_of
from stigmergy.blackboard.rows import decode
from stigmergy.blackboard.stores.base import Reader, Store
from stigmergy.blackboard.stores.choose import store_for
from stigmergy.blackboard.types import TypeTable, type_of
from stigmergy.blackboard.view import Source, View, ref_in
from stigmergy.blackboard.where import Filter, matches, parse_where
from stigmergy.loop import in_a_loop
from stigmergy.seeds import read_seeds
from stigmergy.version import VERSION

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")

_live: WeakValueDictionary[str, "Blackboard"] = WeakValueDictionary()
"""The open board of each file in this process, so that a notebook cell that is run again can take over."""


class Blackboard(Roster, View):
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

    def __init__(
        self,
        store: str | Path | Store | None = None,
        /,
        *,
        roster: Roster | None = None,
        model: object | None = None,
        context: ContextProvider | None = None,
        components: Iterable[Component[Any]] = (),
        limits: Limits | None = None,
        concurrency: int | None = None,
        clock: Clock | None = None,
        durability: Literal["full", "fast"] = "full",
        run: str = DEFAULT_RUN,
    ) -> None:
        base = roster if roster is not None else Roster()
        super().__init__(
            model=model if model is not None else base.model,
            context=context if context is not None else base.context,
            components=(*base.components, *components),
            limits=limits if limits is not None else base.limits,
            concurrency=concurrency if concurrency is not None else base.concurrency,
        )
        self._store = store_for(store, durability)
        self._durability = durability
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._run = run
        self._table = TypeTable()
        self._reader: Reader | None = None
        self._owner: Owner | None = None
        self._closed = False
        self._defined: tuple[tuple[Agent, AgentSpec], ...] = ()
        self._changed = self._refold = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._busy = 0
        for agent in base.agents:
            self._register(agent)

    # -- definitions ----------------------------------------------------------------------------------------------

    def _register(self, agent: Agent) -> None:
        super()._register(agent)
        self._changed = True

    def add(self, component: Component[Any], /) -> None:
        """Let a component take part; one that comes late is shown the whole log first.

        Raises:
            BadComponent: it breaks the contract.
        """
        super().add(component)
        self._changed = self._refold = True

    def _definitions_changed(self) -> bool:
        """A fluent agent is changed in place until it has its body, so that specs are compared too."""
        return self._changed or any(
            agent.spec is not spec for agent, spec in self._defined if agent.means.function is None
        )

    # -- opening --------------------------------------------------------------------------------------------------

    async def _open(self) -> Owner:
        """Take ownership at the first verb, and take in what was defined since the last one."""
        if self._closed:
            raise BoardClosed(f"{self._store.name} was closed, or another Blackboard of this process took it over.")
        if inside_body.get():
            raise UseContext(
                f"agent {inside_body.get()!r} uses the board inside its body. Return what it publishes, "
                "or take ctx: Context and use ctx.publish."
            )
        loop = asyncio.get_running_loop()
        if self._busy and self._loop is not loop:
            raise WrongLoop(f"{self._store.name} is in use in another event loop. Make one Blackboard per loop.")
        if self._loop is not loop:
            self._loop, self._opening = loop, asyncio.Lock()
        if self._owner is None or self._definitions_changed():
            async with self._opening:
                await self._take_in()
        owner = cast("Owner", self._owner)
        if owner.writer.failed is not None:
            raise BoardBroken(f"{self._store.name}: an append failed ({owner.writer.failed}). Open the board again.")
        return owner

    async def _take_in(self) -> None:
        """Open the store once, and enroll what was defined since the last verb."""
        if self._owner is not None and not self._definitions_changed():
            return
        for agent in self.agents:
            agent.validate(has_model=False)
        opening = self._owner is None
        if opening:
            await self._take_over()
            await self._store.open()
            self._reader = self._store.reader()
        elif self._owner is not None:
            if self._owner.running:
                raise UseContext("nothing can be defined while the board runs. Define it before.")
            await self._owner.durable(self._owner.writer.last)
        self._own(opening=opening)

    async def _take_over(self) -> None:
        """A notebook cell that is run again makes a second board on one file: the idle first one gives it up."""
        other = _live.get(self._store.name)
        if other is not None and other is not self and not other._busy and other._store.name != "memory":
            await other.close()
        if self._store.name != "memory":
            _live[self._store.name] = self

    def _own(self, *, opening: bool) -> None:
        """Fold the log (or keep what is folded) and build the decider for the agents of now."""
        reader = cast("Reader", self._reader)
        self._table.update(self.types)
        specs = [agent.spec for agent in self.agents]
        if self._owner is None or self._refold:
            folded = fold(reader, Observers(self.components), self._envelope)
        else:
            folded = self._owner.folded
        past = RecentPast(reader, self._table, self._envelope)
        index = Index(specs)
        decider = Decider(folded.state, index, folded.observers, past, self.limits or Limits())
        worker = BodyWorker(self.agents, self._table, self.context)
        owner = self._owner = Owner(self._store, reader, decider, folded, past, worker, self._clock, self.concurrency)
        phase_of = getattr(self.context, "phase_of", None)
        known = folded.state.fingerprints
        enrolments = enrolments_of(specs, self.components, known, phase_of, opening=opening)
        if opening:
            owner.record(decider.open(VERSION, self._durability, WINDOW, self._clock.now(), enrolments))
        elif enrolments:
            owner.record(decider.enroll(enrolments, self._clock.now()))
        self._defined = tuple((agent, agent.spec) for agent in self.agents)
        self._changed = self._refold = False

    def _envelope(self, event: Published) -> Artifact[Any]:
        return envelope(event, self._table.decode(event.type, event.version, event.payload))

    def _source(self) -> Source:
        if self._reader is None:
            self._reader = self._store.reader()
        subscriptions = self._owner.decider.index.subscriptions if self._owner is not None else {}
        if self._owner is None:
            self._table.update(self.types)
        return Source(self._reader, self._table, self._store.name, None, self.limits, subscriptions)

    # -- verbs ----------------------------------------------------------------------------------------------------

    async def _during(self, verb: Callable[[Owner], Any]) -> Any:
        owner = await self._open()
        self._busy += 1
        try:
            return await verb(owner)
        finally:
            self._busy -= 1

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
        draft = self._draft(payload, key=key, tags=tags, priority=priority, visibility=visibility, review_by=review_by,
                            run=run)  # fmt: skip
        return (await self._publish([draft]))[0]

    async def publish_many(self, payloads: Iterable[M], /, *, run: str | None = None) -> list[Artifact[M]]:
        """Publish several at once: all or none, in one commit."""
        return await self._publish([self._draft(payload, run=run) for payload in payloads])

    async def publish_file(self, path: str | Path, /, *, type_name: str | None = None) -> list[Artifact[BaseModel]]:
        """Publish the outside artifacts of a seed or stream file (see `stigmergy.seeds`): all of them or none.

        Args:
            type_name: every line is the bare payload of this type.

        Raises:
            SeedError: a line is wrong; names it.
        """
        self._table.update(self.types)
        drafts: list[Draft] = []
        for s in read_seeds(path, self._table, type_name=type_name):
            try:
                drafts.append(
                    self._draft(s.payload, key=s.key, tags=s.tags, priority=s.priority, visibility=s.visibility)
                )
            except PublishError as error:
                raise SeedError(f"{Path(path).name}:{s.line}: {error} Nothing was published.") from error
        return await self._publish(drafts)

    def _draft(self, payload: BaseModel, *, run: str | None = None, **options: Any) -> Draft:
        draft = draft_of(self._table, payload, run=run or self._run, **options)
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

        Bodies that run are interrupted and their work stays open; the report's reason is `goal`, or why it ended
        before.
        """
        test = parse_where(model, where, "run_until()")
        name, left = type_of(model).name, count

        def goal(event: Published) -> bool:
            nonlocal left
            if event.type == name and matches(test, self._envelope(event).payload):
                left -= 1
            return left <= 0

        return await self._run_board(goal, timeout, horizon)

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
                owner.record(owner.decider.idle(reason, detail, self._clock.now()))
                await owner.durable(owner.writer.last)
            return report_of(
                owner.folded.ledger, owner.folded.state, store=self._store.name, ref=ref_in(owner.reader),
                limits=self.limits, subscriptions=owner.decider.index.subscriptions, reason=reason, detail=detail,
            )  # fmt: skip

        return cast("Report", await self._during(verb))

    def run_sync(self, *seeds: BaseModel, timeout: Seconds | None = None) -> Report:
        """Publish the seeds and run until idle, from a script, a test or a notebook cell."""

        async def both() -> Report:
            if seeds:
                await self.publish_many(seeds)
            return await self.run_until_idle(timeout=timeout)

        return in_a_loop(both)

    async def cancel(self, *ids: int, reason: str = "asked for") -> None:
        """End open activations as cancelled; their bodies are stopped."""

        async def verb(owner: Owner) -> None:
            await owner.durable(owner.record(owner.decider.cancel(ids, reason, self._clock.now())))

        await self._during(verb)

    async def retry(self, *ids: int) -> None:
        """Try dead letters again, with the same inputs, in the next run.

        Args:
            ids: of the activations that ended as dead letters.

        Raises:
            NotFound: one of them is no ended activation.
        """

        async def verb(owner: Owner) -> None:
            for id in ids:
                owner.record(owner.decider.redrive(id, self._clock.now()))
            await owner.durable(owner.writer.last)

        await self._during(verb)

    async def watch(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """The events after that position as they become durable, without end."""
        owner = await self._open()
        news = asyncio.Event()
        owner.watchers.add(news)
        try:
            while True:
                news.clear()
                for row in owner.reader.events(after, owner.writer.durable):
                    after = row.seq
                    yield decode(row)
                await news.wait()
        finally:
            owner.watchers.discard(news)

    async def close(self) -> None:
        """Give up the board in good order; it can be opened again by another Blackboard."""
        if self._closed:
            return
        self._closed = True
        if _live.get(self._store.name) is self:
            del _live[self._store.name]
        if self._owner is not None:
            owner = self._owner
            if owner.writer.failed is None:
                await owner.leave()
            await self._store.close()
        if self._reader is not None and self._store.name != "memory":
            self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        if self._owner is None:
            return f"Blackboard({self._store.name!r}, {len(self.agents)} agents, not opened)"
        state = "running" if self._busy else "closed" if self._closed else "idle"
        artifacts = f"{self._owner.folded.ledger.artifacts:,}"
        return f"Blackboard({self._store.name!r}, {len(self.agents)} agents, {artifacts} artifacts, {state})"
