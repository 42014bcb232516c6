"""A server on loopback that speaks the OpenAI chat API, well or badly, as it is told."""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType
from typing import Any, Self

USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


@dataclass
class Exchange:
    """One request and the way to answer it.

    Attributes:
        body: what was asked, as JSON.
        headers: of the request, with names in lower case.
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted piece by piece."""
        return bool(self.body.get("stream"))

    async def send(self, status: int, content: bytes, kind: str = "application/json", **headers: str) -> None:
        """A whole answer; underscores in the names of headers are hyphens."""
        await self.head(status, kind, content_length=str(len(content)), **headers)
        self.writer.write(content)
        await self.writer.drain()

    async def head(self, status: int, kind: str, **headers: str) -> None:
        """The status line and the headers."""
        lines = [f"HTTP/1.1 {status} Said", f"content-type: {kind}", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self.writer.drain()

    async def event(self, data: object) -> None:
        """One server-sent event."""
        self.writer.write(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode())
        await self.writer.drain()

    async def until_gone(self) -> None:
        """Wait until the client has hung up."""
        with suppress(ConnectionError):
            await self.reader.read()

    def reset(self) -> None:
        """Break the connection in the rudest way."""
        self.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


def completion(message: dict[str, Any], *, finish: str = "stop", usage: object = USAGE) -> dict[str, Any]:
    """The body of a plain answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "test-model-2026"}
    return {**head, "choices": [choice], **({"usage": usage} if usage else {})}


def chunk(delta: dict[str, Any] | None, *, finish: str | None = None, usage: object = None) -> dict[str, Any]:
    """One piece of a streamed answer."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "test-model-2026"}
    return {**head, "choices": choices, **({"usage": usage} if usage else {})}


def say(text: str, *, finish: str = "stop", usage: object = USAGE, **message: Any) -> Behaviour:
    """Answers with this text, streamed in pieces of four characters if that was asked."""

    async def behave(exchange: Exchange) -> None:
        if not exchange.streams:
            answer = completion({"content": text, **message}, finish=finish, usage=usage)
            return await exchange.send(200, json.dumps(answer).encode())
        await exchange.head(200, "text/event-stream")
        await exchange.event(chunk({"role": "assistant", "content": "", **message}))
        for start in range(0, len(text), 4):
            await exchange.event(chunk({"content": text[start : start + 4]}))
        await exchange.event(chunk({}, finish=finish))
        if usage and exchange.body.get("stream_options", {}).get("include_usage"):
            await exchange.event(chunk(None, usage=usage))
        await exchange.event("[DONE]")

    return behave


def call_tools(*calls: tuple[str, str, str]) -> Behaviour:
    """Asks for tools: (id, name, arguments as text); streamed in fragments if that was asked."""

    async def behave(exchange: Exchange) -> None:
        wanted = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in calls
        ]
        if not exchange.streams:
            return await exchange.send(
                200, json.dumps(completion({"tool_calls": wanted}, finish="tool_calls")).encode()
            )
        await exchange.head(200, "text/event-stream")
        for index, (id, name, arguments) in enumerate(calls):
            head = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
            await exchange.event(chunk({"role": "assistant", "tool_calls": [head]}))
            for start in range(0, len(arguments), 3):
                piece = {"index": index, "function": {"arguments": arguments[start : start + 3]}}
                await exchange.event(chunk({"tool_calls": [piece]}))
        await exchange.event(chunk({}, finish="tool_calls"))
        await exchange.event(chunk(None, usage=USAGE))
        await exchange.event("[DONE]")

    return behave


def fail(status: int, message: str = "no", code: str | None = None, **headers: str) -> Behaviour:
    """Answers with an error as OpenAI writes them."""

    async def behave(exchange: Exchange) -> None:
        error = {"message": message, "type": "an_error", "param": None, "code": code}
        await exchange.send(status, json.dumps({"error": error}).encode(), **headers)

    return behave


def raw(content: str, kind: str = "application/json") -> Behaviour:
    """Answers 200 with exactly this."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(200, content.encode(), kind)

    return behave


async def never(exchange: Exchange) -> None:
    """Never sends a byte."""
    await exchange.until_gone()


async def stall(exchange: Exchange) -> None:
    """Sends a piece, and then nothing."""
    await exchange.head(200, "text/event-stream")
    await exchange.event(chunk({"role": "assistant", "content": "so far"}))
    await exchange.until_gone()


async def break_off(exchange: Exchange) -> None:
    """Ends a stream in good order in the middle of an answer."""
    await exchange.head(200, "text/event-stream")
    await exchange.event(chunk({"role": "assistant", "content": "so far"}))


async def cut_off(exchange: Exchange) -> None:
    """Hangs up in the middle of a body whose length it has told."""
    await exchange.head(200, "application/json", content_length="1000")
    exchange.writer.write(b'{"id": "x"')


async def huge(exchange: Exchange) -> None:
    """Three million characters; streamed, as many as the client takes."""
    if not exchange.streams:
        return await say("x" * 3_000_000)(exchange)
    await exchange.head(200, "text/event-stream")
    while True:
        await exchange.event(chunk({"content": "x" * 100_000}))


async def reset(exchange: Exchange) -> None:
    """Breaks the connection before anything was answered."""
    exchange.reset()


async def reset_in_the_middle(exchange: Exchange) -> None:
    """Breaks the connection in the middle of a stream."""
    await exchange.head(200, "text/event-stream")
    await exchange.event(chunk({"role": "assistant", "content": "so far"}))
    exchange.reset()


@dataclass
class ChatServer:
    """Answers the n-th request with the n-th behaviour, and all further ones with the last.

    Attributes:
        asked: all requests so far.
        hung_up: how many clients went away before their answer was complete.
    """

    behaviours: Sequence[Behaviour]
    asked: list[Exchange] = field(default_factory=list)
    hung_up: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """What goes to `api_base=`."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def until_asked(self, times: int) -> None:
        """Wait until that many requests have come."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.asked) >= times)

    async def until_hung_up(self) -> None:
        """Wait until a client has gone away."""
        async with self._news:
            await self._news.wait_for(lambda: self.hung_up > 0)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            exchange = Exchange(first.split()[1], headers, body, reader, writer)
            self.asked.append(exchange)
            await self._tell()
            behaviour = self.behaviours[min(len(self.asked), len(self.behaviours)) - 1]
            await behaviour(exchange)
            self.hung_up += behaviour in (never, stall)
        except ConnectionError:
            self.hung_up += 1
        except asyncio.IncompleteReadError:
            pass  # a connection that was opened and not used
        finally:
            await self._tell()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
