"""What models write, as they write it: for those who watch, and never on the log."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final
from weakref import WeakSet

from stigmergy.agents.context import Context
from stigmergy.agents.models.model import OnToken

BEHIND: Final = 10_000
"""Pieces that are kept for one who watches; who is further behind misses the oldest."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a reply that is being written; one that fails or is not used has been shown all the same.

    Attributes:
        activation: id of the activation for which the model is asked.
        attempt: of the activation, from 1; the same reply begins anew in a later one.
        reply: the key of the effect under which it will be on the log: "model/1", "model/2", …
    """

    agent: str
    activation: int
    attempt: int
    reply: str
    text: str


class Tokens:
    """Gives the pieces one after the other, from when it is made until the board is closed; drop it to stop."""

    def __init__(self) -> None:
        self._pieces: deque[Token] = deque(maxlen=BEHIND)
        self._news = asyncio.Event()
        self._ended = False

    def __aiter__(self) -> "Tokens":
        return self

    async def __anext__(self) -> Token:
        while not self._pieces:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._pieces.popleft()

    def add(self, token: Token) -> None:
        """Keep a piece until it is asked for; never waits."""
        self._pieces.append(token)
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._news.set()


class Audience:
    """Those who watch; whoever is dropped is out of it."""

    def __init__(self) -> None:
        self._watching: WeakSet[Tokens] = WeakSet()
        self._closed = False

    def join(self) -> Tokens:
        """One more who watches."""
        tokens = Tokens()
        self._watching.add(tokens)
        if self._closed:
            tokens.end()
        return tokens

    def of(self, ctx: Context, reply: str) -> OnToken | None:
        """What a model is to call with each piece of a reply; None = nobody watches, so that it need not stream."""
        if not self._watching:
            return None
        agent, activation, attempt = ctx.agent_name, ctx.activation, ctx.attempt

        def show(text: str) -> None:
            token = Token(agent, activation, attempt, reply, text)
            for tokens in self._watching:
                tokens.add(token)

        return show

    def leave(self) -> None:
        """The board is closed: nobody sees more than is there."""
        self._closed = True
        for tokens in self._watching:
            tokens.end()
