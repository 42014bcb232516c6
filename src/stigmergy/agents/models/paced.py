"""Requests and tokens per minute, so that a provider need not refuse."""

import asyncio
from dataclasses import dataclass

from anyio import Lock

from stigmergy.agents.models.errors import RateLimited
from stigmergy.agents.models.model import Estimate, Model, OnToken, Reply, Request
from stigmergy.agents.models.resolve import as_model
from stigmergy.blackboard.clock import Clock, SystemClock
from stigmergy.blackboard.definitions import is_number
from stigmergy.blackboard.errors import DefinitionError


class Paced:
    """Lets requests wait until the provider's limits allow them, the first come first, and until its `Retry-After`.

    A token bucket each for requests and for tokens: it holds a minute's allowance and fills evenly. The tokens of a
    request are its estimate until its reply says how many they were, and stay that if none comes; one that is larger
    than a minute's allowance waits for a full bucket. What the provider refuses all the same is raised as always, and
    nobody asks before the time that it named.

    Why this is no component of the board: a component admits an effect or denies it, and holds activations but not
    what happens inside a running one; to make it hold calls needs a queue of calls in the kernel. And the limits belong
    to an account, which several boards share, not to one log. The price is that a restart begins with full buckets:
    at most one minute's allowance too much, which the provider answers with a `Retry-After` that is then kept.

    Args:
        model: who is asked, or its name.
        requests: a minute; None = no limit.
        tokens: a minute, input and output; None = no limit.
        clock: a virtual one does not wait but moves.

    Raises:
        DefinitionError: a limit lets nothing through.
    """

    def __init__(
        self,
        model: Model | str,
        *,
        requests: float | None = None,
        tokens: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        for name, value in (("requests", requests), ("tokens", tokens)):
            if value is not None and not (is_number(value) and value > 0):
                raise DefinitionError(f"Paced({name}={value!r}): give more than zero a minute, or leave it out.")
        self._model = as_model(model)
        self.name = self._model.name
        self._clock = clock or SystemClock()
        self._not_before = 0.0
        now = self._clock.now()
        self._requests = _Bucket(requests, requests, now) if requests is not None else None
        self._tokens = _Bucket(tokens, tokens, now) if tokens is not None else None
        self._turn = Lock()

    def estimate(self, request: Request, /) -> Estimate:
        """The model's."""
        return self._model.estimate(request)

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        """The model's reply, when it may be asked."""
        expected = self._model.estimate(request).tokens
        async with self._turn:
            await self._wait(expected)
        try:
            reply = await self._model.complete(request, on_token)
        except RateLimited as error:
            self._settle(expected, 0)
            if error.retry_after is not None:
                self._not_before = max(self._not_before, self._clock.now() + error.retry_after)
            raise
        self._settle(expected, reply.usage.tokens)
        return reply

    def _settle(self, expected: int, used: int) -> None:
        if self._tokens is not None:
            self._tokens.level += self._tokens.share(expected) - used

    async def _wait(self, tokens: int) -> None:
        wanted = [(bucket, bucket.share(size)) for bucket, size in (
            (self._requests, 1), (self._tokens, tokens)) if bucket is not None]  # fmt: skip
        while True:
            now = self._clock.now()
            ready = max([self._not_before, *(bucket.ready(amount, now) for bucket, amount in wanted)])
            if ready <= now:
                break
            if not self._clock.jump(ready):
                await asyncio.sleep(ready - now)
        for bucket, amount in wanted:
            bucket.level -= amount


@dataclass(slots=True)
class _Bucket:
    """What may be used now.

    Attributes:
        allowance: how much it holds, and gets in a minute.
        level: below zero when more was used than expected.
        at: when it was filled last.
    """

    allowance: float
    level: float
    at: float

    def share(self, amount: float) -> float:
        """The amount, or all that it can hold."""
        return min(amount, self.allowance)

    def ready(self, amount: float, now: float) -> float:
        """When it has that much."""
        self.level = min(self.allowance, self.level + (now - self.at) * self.allowance / 60)
        self.at = now
        missing = amount - self.level
        return now if missing <= 1e-9 * self.allowance else now + missing * 60 / self.allowance
