"""Servers of tools, kept open as long as the board is."""

import asyncio
from contextvars import Context
from typing import Final

from stigmergy.agents.prompting.tools import ListTools, Tool, ToolResult, ToolSource, ToolsUnavailable

GRACE: Final = 5.0
"""Seconds that a server has to end before its connection is cut."""


class Servers:
    """The servers that one board has open: each from when it is first wanted until the board is closed.

    All activations use the same connection. One that is lost is made again when it is next wanted; an event loop that
    ends takes its connections with it.
    """

    def __init__(self) -> None:
        self._sessions: dict[int, _Session] = {}
        """By the identity of the source, which each of them keeps."""
        self._tasks: set[asyncio.Task[None]] = set()
        """Those that have not ended, also of connections that nobody uses any more."""
        self._closed = False

    async def tools(self, source: ToolSource) -> list[Tool]:
        """What a server has now.

        Raises:
            ToolsUnavailable: it cannot be reached.
        """
        known, session = self._sessions.get(id(source)), await self._session(source)
        try:
            found = await session.list()
        except ToolsUnavailable:
            session.lost()
            if session is not known:
                raise
            session = await self._session(source)
            found = await session.list()
        return [self._lasting(source, tool) for tool in found]

    def _lasting(self, source: ToolSource, tool: Tool) -> Tool:
        """The tool, whichever connection there is when it is called."""

        async def run(text: str) -> ToolResult:
            try:
                session = await self._session(source)
                now = next((t for t in session.found or await session.list() if t.name == tool.name), None)
            except ToolsUnavailable as error:
                return ToolResult(text=str(error), failed=True)
            if now is None:
                return ToolResult(text=f"{source!r} has no tool {tool.name!r} any more.", failed=True)
            try:
                return await now.run(text)
            except ToolsUnavailable as error:
                session.lost()
                return ToolResult(text=f"{error} Whether it was done is not known.", failed=True)

        run.__qualname__ = tool.name
        return Tool(tool.spec, run)

    async def _session(self, source: ToolSource) -> "_Session":
        """The connection there is, or a new one."""
        if self._closed:
            raise ToolsUnavailable(f"{source!r} cannot be used any more: the board is closed.")
        session = self._sessions.get(id(source))
        if session is None or not session.usable():
            session = self._sessions[id(source)] = _Session(source)
            self._tasks.add(session.task)
            session.task.add_done_callback(self._tasks.discard)
        await session.ready.wait()
        failed = session.failed
        if failed is not None:
            said = str(failed) if isinstance(failed, ToolsUnavailable) else f"{type(failed).__name__}: {failed}"
            raise ToolsUnavailable(said) from failed
        return session

    async def close(self) -> None:
        """End all servers in good order; none is opened after that."""
        self._closed = True
        for session in self._sessions.values():
            session.lost()
        loop = asyncio.get_running_loop()
        rest = {task for task in self._tasks if task.get_loop() is loop and not task.done()}
        for urgent in (False, True):
            for task in rest if urgent else ():
                task.cancel()
            if rest:
                _, rest = await asyncio.wait(rest, timeout=GRACE)


class _Session:
    """One connection, in a task of its own: what opens it has to close it, and activations come and go.

    Attributes:
        ready: it is open, or `failed` says why not.
        found: the tools that it had when they were last listed.
    """

    def __init__(self, source: ToolSource) -> None:
        self.source = source
        self.ready = asyncio.Event()
        self.failed: Exception | None = None
        self.found: list[Tool] = []
        self._list: ListTools | None = None
        self._over = asyncio.Event()
        # In an empty context, as it belongs to no activation.
        self.task = asyncio.get_running_loop().create_task(self._keep_open(), context=Context())

    async def _keep_open(self) -> None:
        try:
            async with self.source.open_tools() as self._list:
                self.ready.set()
                await self._over.wait()
        except Exception as error:  # noqa: BLE001  told to those who want it
            self.failed = error
        finally:
            self.ready.set()

    async def list(self) -> list[Tool]:
        """The tools that it has now.

        Raises:
            ToolsUnavailable: it is gone.
        """
        assert self._list is not None, "it is ready"
        self.found = [*await self._list()]
        return self.found

    def usable(self) -> bool:
        """Whether it is open, or will be."""
        running = self.task.get_loop() is asyncio.get_running_loop()
        return running and not self.task.done() and not self._over.is_set()

    def lost(self) -> None:
        """Nobody uses it any more."""
        self._over.set()
