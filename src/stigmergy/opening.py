"""How a board is opened, owned and given up."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self, cast
from weakref import WeakValueDictionary

from stigmergy.agents.agent import Agent, Means
from stigmergy.agents.prompting.answer import answered
from stigmergy.agents.prompting.servers import Servers
from stigmergy.agents.prompting.tokens import Audience
from stigmergy.agents.roster import Roster
from stigmergy.agents.threads import inside_body
from stigmergy.agents.worker import BodyWorker
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import ContextProvider
from stigmergy.blackboard.clock import Clock, SystemClock
from stigmergy.blackboard.component import Component
from stigmergy.blackboard.core.decider import DEFAULT_RUN, Decider
from stigmergy.blackboard.core.enrolment import RosterChange, enrolments_of, roster_changes
from stigmergy.blackboard.core.fold import fold
from stigmergy.blackboard.core.matching import Index
from stigmergy.blackboard.core.observers import Observers
from stigmergy.blackboard.core.reserve import with_reserve
from stigmergy.blackboard.definitions import AgentSpec, Limits
from stigmergy.blackboard.errors import (
    BadComponent,
    BoardBroken,
    BoardClosed,
    DefinitionError,
    UseContext,
    WrongLoop,
)
from stigmergy.blackboard.events import Published
from stigmergy.blackboard.exhaustion import LimitReached
from stigmergy.blackboard.log import say
from stigmergy.blackboard.payloads.envelope import opened
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import check_text
from stigmergy.blackboard.reading.view import Source, View
from stigmergy.blackboard.shell.attempts import WINDOW
from stigmergy.blackboard.shell.owner import Owner, told
from stigmergy.blackboard.shell.past import RecentPast
from stigmergy.blackboard.shell.through import through
from stigmergy.blackboard.stores.base import Reader, Store
from stigmergy.blackboard.stores.choose import store_for
from stigmergy.blackboard.stores.memory import MemoryLog
from stigmergy.blackboard.stores.sqlite import SQLiteStore
from stigmergy.blackboard.text import number
from stigmergy.version import VERSION

_live: WeakValueDictionary[str, "OpenBoard"] = WeakValueDictionary()
"""The open board of each file in this process, so that a notebook cell that is run again can take over."""


class OpenBoard(Roster, View):
    """A roster and a store: what a Blackboard is before its verbs. See there for the arguments."""

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
        if not isinstance(base, Roster):
            raise DefinitionError(f"roster={base!r} is no Roster. Define the agents on one.")
        if not isinstance(components, Iterable):
            raise BadComponent(f"components={components!r} is no list of them. Write components=[…].")
        if clock is not None and not callable(getattr(clock, "now", None)):
            raise DefinitionError(f"clock={clock!r} is no clock: it has no now().")
        check_text("run", run)
        if not run:
            raise DefinitionError("run='' names no run. Give a name, or leave it out.")
        super().__init__(
            model=model if model is not None else base.model,
            context=context if context is not None else base.context,
            components=(*base.components, *components),
            limits=limits if limits is not None else base.limits,
            concurrency=concurrency if concurrency is not None else base.concurrency,
        )
        self._store = store_for(store, durability)
        self._durability = durability
        self._home: object = os.path.realpath(self._store.path) if isinstance(self._store, SQLiteStore) else self._store
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._run = run
        self._table = TypeTable()
        self._table.add(LimitReached)  # the board itself publishes it
        self._reader: Reader | None = None
        self._owner: Owner | None = None
        self._closed = self._left = False
        self._closing: asyncio.Task[None] | None = None
        self._roster_changes: tuple[RosterChange, ...] = ()
        self._unfinished: tuple[tuple[Agent, AgentSpec, Means], ...] = ()
        self._changed = self._refold = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._busy = 0
        self._door = Lock()
        self._watchers: set[asyncio.Event] = set()
        self._audience = Audience()
        self._servers = Servers()
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
            agent.spec is not spec or agent.means is not means for agent, spec, means in self._unfinished
        )

    def _know_types(self) -> None:
        """Take in the types of what was defined since the last verb."""
        if self._changed:
            self._table.update(self.types)

    # -- opening --------------------------------------------------------------------------------------------------

    async def _open(self) -> Owner:
        """Take ownership at the first verb, and take in what was defined since the last one."""
        if self._closed:
            raise BoardClosed(f"{self._store.name} was closed, or another Blackboard of this process took it over.")
        self._use(0)
        if self._owner is None or self._definitions_changed():
            async with self._opening:
                await self._take_in()
        owner = cast("Owner", self._owner)
        if owner.writer.failed is not None:
            raise BoardBroken(f"an append failed before, so open the board again. {told(owner.writer.failed)}")
        return owner

    def _refuse_inside(self) -> None:
        """A body would wait for itself."""
        own = next((body for body in inside_body.get() if body.home is None or body.home == self._home), None)
        if own is not None:
            raise UseContext(
                f"agent {own.agent!r} uses the board inside its body. Return what it publishes, "
                "or take ctx: Context and use ctx.publish."
            )

    def _use(self, more: int) -> None:
        """Count a verb that is under way in this loop; there is one loop at a time, also when threads want others."""
        self._refuse_inside()
        loop = asyncio.get_running_loop()
        with self._door:
            if self._busy and self._loop is not loop:
                if self._abandoned():
                    raise WrongLoop(
                        f"{self._store.name} was left in the middle of a verb by an event loop that stopped. "
                        "Make a new Blackboard on the store."
                    )
                raise WrongLoop(f"{self._store.name} is in use in another event loop. Make one Blackboard per loop.")
            if self._loop is not loop:
                self._loop, self._opening = loop, asyncio.Lock()
            self._busy += more

    async def _take_in(self) -> None:
        """Open the store once, and enroll what was defined since the last verb."""
        if self._owner is not None and not self._definitions_changed():
            return
        for agent in self.agents:
            agent.validate(has_model=self.model is not None)
        opening = self._owner is None
        if opening:
            await self._take_over()
            self._reader = self._store.reader()
        elif self._owner is not None:
            if self._owner.running:
                raise UseContext("nothing can be defined while the board runs. Define it before.")
            await self._owner.durable(self._owner.writer.last)
        try:
            self._own(opening=opening)
        except BaseException:
            if opening:
                await self._store.close()
            raise

    async def _take_over(self) -> None:
        """A notebook cell that is run again makes a second board on one file: the idle first one gives it up."""
        file = os.path.realpath(self._store.path) if isinstance(self._store, SQLiteStore) else ""
        other = _live.get(file)
        if other is not None and other is not self and (not other._busy or other._abandoned()):
            await other.close()
        await self._store.open()
        if file:
            _live[file] = self

    def _own(self, *, opening: bool) -> None:
        """Fold the log (or keep what is folded) and build the decider for the agents of now."""
        reader = cast("Reader", self._reader)
        self._table.update(self.types)
        specs = with_reserve([agent.spec for agent in self.agents], self.components)
        if self._owner is None or self._refold:
            folded = fold(reader, Observers(self.components), self._envelope)
            for name, error in folded.observers.began.items():
                say(logging.WARNING, "a component knows nothing of what was erased before it came",
                    board=self._store.name, who=name, what=str(error))  # fmt: skip
        else:
            folded = self._owner.folded
        if isinstance(self._clock, SystemClock):
            self._clock.follow(folded.state.at)
        past = RecentPast(reader, self._table, self._envelope)
        index = Index(specs)
        decider = Decider(folded.state, index, folded.observers, past, self.limits or Limits())
        worker = BodyWorker(
            [answered(agent, self.model, self._servers, self._audience) for agent in self.agents],
            self._table,
            self.context,
            self._home,
        )
        owner = Owner(self._store, reader, decider, folded, past, worker, self._clock, self.concurrency)
        owner.watchers = self._watchers
        phase_of = getattr(self.context, "phase_of", None)
        known = {name: member.fingerprint for name, member in folded.state.members.items()}
        enrolments = enrolments_of(specs, self.components, known, phase_of, opening=opening)
        if opening:
            self._roster_changes = roster_changes(folded.state, enrolments)
            for change in self._roster_changes:
                say(logging.WARNING if change.open else logging.INFO, "the roster has changed", board=self._store.name,
                    who=change.name, change=change.change, what=str(change))  # fmt: skip
            owner.record(decider.open(VERSION, self._durability, WINDOW, self._clock.now(), enrolments))
        elif enrolments:
            owner.record(decider.enroll(enrolments, self._clock.now()))
        self._owner = owner
        self._unfinished = tuple((a, a.spec, a.means) for a in self.agents if a.means.function is None)
        self._changed = self._refold = False

    @property
    def roster_changes(self) -> tuple[RosterChange, ...]:
        """What agents and components are otherwise than when the board was last run; known when it is open."""
        return self._roster_changes

    def _envelope(self, event: Published) -> Artifact[Any]:
        return opened(self._table, event)

    def _source(self) -> Source:
        if self._reader is None:
            self._reader = self._store.reader()
        reader = self._reader
        if self._owner is None and isinstance(self._store, SQLiteStore) and not self._store.path.exists():
            reader = MemoryLog()  # the file is made at the first publish; until then there is nothing
        subscriptions = self._owner.decider.index.subscriptions if self._owner is not None else {}
        if self._owner is None:
            self._table.update(self.types)
        agents = {agent.name: agent.spec for agent in self.agents}
        return Source(reader, self._table, self._store.name, None, self.limits, subscriptions, agents, self.components)

    async def _during(self, verb: Callable[[Owner], Any]) -> Any:
        self._use(1)
        try:
            return await verb(await self._open())
        finally:
            self._busy -= 1

    async def close(self) -> None:
        """Give up the board in good order; it can be opened again by another Blackboard.

        It is closed when this returns, also if it was cancelled meanwhile.
        """
        if not self._closed:
            abandoned = self._abandoned()
            if not abandoned:
                self._use(0)
            self._closed = True
            for file in [file for file, board in _live.items() if board is self]:
                del _live[file]
            self._closing = asyncio.ensure_future(self._leave(abandoned))
        closing = self._closing
        if closing is not None and not closing.done() and closing.get_loop() is asyncio.get_running_loop():
            await through(closing)

    async def _leave(self, abandoned: bool) -> None:
        try:
            try:
                if self._owner is not None and not abandoned:
                    await self._owner.leave()
            finally:
                await self._servers.close()  # now that no body is left to use them
        finally:
            await self._store.close()
            self._left = True
            for news in self._watchers:
                news.set()
            self._audience.leave()
            self._close_reader()

    def _abandoned(self) -> bool:
        """Whether the loop of a verb that is under way has stopped; what was not durable is lost, as in a crash."""
        return self._busy > 0 and self._loop is not None and not self._loop.is_running()

    def _close_reader(self) -> None:
        if self._reader is not None and self._store.name != "memory":
            self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        agents = number(len(self.agents), "agent")
        if self._owner is None:
            return f"Blackboard({self._store.name!r}, {agents}, not opened)"
        state = "running" if self._busy else "closed" if self._closed else "idle"
        artifacts = number(self._owner.folded.ledger.artifacts, "artifact")
        return f"Blackboard({self._store.name!r}, {agents}, {artifacts}, {state})"
