"""Tools of servers that speak the Model Context Protocol; the package is imported when the first server is asked."""

import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream

from stigmergy.agents.models.model import ToolSpec
from stigmergy.agents.prompting.tools import ListTools, Tool, ToolResult, ToolsUnavailable
from stigmergy.blackboard.durations import Seconds, in_seconds

if TYPE_CHECKING:
    from mcp import Client


class McpServer:
    """A server whose tools a model may call: `.tools(McpServer("uvx", "some-server"))`.

    A board connects when it is first wanted (for a program, it starts the process), once for all agents that have this
    very `McpServer`, and ends it when it is closed itself, after all bodies were stopped. A server that died is started
    again when it is next wanted; the call that it died of is told to the model as failed.

    Args:
        command: a program that speaks over its standard streams, or the URL of a server.
        args: of the program.
        env: of the program, beside the few variables that are safe to inherit.
        names: of the tools that may be used; None = all it has.
        timeout: for one call.
    """

    def __init__(
        self, command: str, *args: str, env: Mapping[str, str] | None = None, names: Collection[str] | None = None,
        timeout: Seconds = 60.0,
    ) -> None:  # fmt: skip
        self._command, self._args = command, list(args)
        self._env = dict(env) if env is not None else None
        self._names = names
        self._timeout = in_seconds(timeout, "McpServer(timeout=)")

    def __repr__(self) -> str:
        return f"McpServer({' '.join([self._command, *self._args])!r})"

    @asynccontextmanager
    async def open_tools(self) -> AsyncIterator[ListTools]:
        """Connect; what it gives lists the tools that the server has then.

        Raises:
            ToolsUnavailable: it cannot be reached, or the package is missing.
        """
        try:
            from mcp import Client, StdioServerParameters  # here, because it is an extra, and heavy
        except ImportError as error:
            raise ToolsUnavailable(f"{self!r} needs another package. pip install 'stigmergy[mcp]'") from error
        program = StdioServerParameters(command=self._command, args=self._args, env=self._env)
        address = self._command if self._command.startswith(("http://", "https://")) else program
        client = Client(address, read_timeout_seconds=self._timeout)
        try:
            await client.__aenter__()
        except Exception as error:
            raise ToolsUnavailable(f"{self!r} cannot be reached: {_first(error)}") from error

        async def tools() -> list[Tool]:
            try:
                return [self._tool(client, found) async for found in _listed(client) if self._wanted(found.name)]
            except Exception as error:
                raise ToolsUnavailable(f"{self!r} does not say what it has: {_first(error)}") from error

        try:
            yield tools
        finally:
            await client.__aexit__(None, None, None)

    def _wanted(self, name: str) -> bool:
        return self._names is None or name in self._names

    def _tool(self, client: "Client", found: Any) -> Tool:
        name: str = found.name

        async def run(text: str) -> ToolResult:
            try:
                arguments = json.loads(text or "{}")
            except ValueError as error:
                return ToolResult(text=f"The arguments are no JSON: {error}", failed=True)
            try:
                result = await client.call_tool(name, arguments)
            except Exception as error:
                if _is_gone(error):
                    raise ToolsUnavailable(f"{self!r} is gone: {_first(error)}.") from error
                return ToolResult(text=_first(error), failed=True)
            return ToolResult(text=_text(result), failed=bool(result.is_error))

        return Tool(ToolSpec(name=name, description=found.description or "", parameters=found.input_schema), run)


def _is_gone(error: Exception) -> bool:
    """Whether it was the connection that failed, and not the request."""
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED

    if isinstance(error, MCPError):
        return error.code == CONNECTION_CLOSED
    return isinstance(error, OSError | BrokenResourceError | ClosedResourceError | EndOfStream)


async def _listed(client: "Client") -> AsyncIterator[Any]:
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            yield tool
        cursor = page.next_cursor
        if not cursor:
            return


def _text(result: Any) -> str:
    texts = [getattr(block, "text", None) or f"[{block.type}]" for block in result.content]
    return "\n".join(texts) if texts else json.dumps(result.structured_content, ensure_ascii=False)


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
