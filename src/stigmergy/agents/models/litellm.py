"""Any model of any provider, through litellm: the only file that imports it, and not before the first request.

Importing litellm takes seconds and 150 MB, and would fetch prices from the network; so it is imported in a thread,
and `LITELLM_LOCAL_MODEL_COST_MAP` is set before, unless it is set already. litellm's own retries are off: who pays
for an attempt has to know of it.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from typing import Any, Final

import anyio.to_thread

from stigmergy.agents.models.chat import Answer, most_tokens, streamed, whole, wire
from stigmergy.agents.models.errors import BadKey, ModelError, ModelMissing, ModelTimeout, ProviderFailed, UnknownPrice
from stigmergy.agents.models.failures import answered, translated
from stigmergy.agents.models.model import Estimate, OnToken, Reply, Request, Usage
from stigmergy.agents.models.price import Price, listed
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.redaction import keep_secret

UNKNOWN_OUTPUT: Final = 4096
"""Tokens that a reply is expected to have at most when nobody says."""

_NO_KEY: Final = "none"

guard: Callable[[str, str | None], None] | None = None
"""Asked with the model's name and address before every request; what it raises goes through. For tests."""


class LiteLLM:
    """A model that litellm reaches: hosted, or a local server that speaks the OpenAI API.

    Runs on asyncio. Connections are litellm's own and stay open for the next request.

    Args:
        model: provider and name as litellm writes them: "openai/gpt-4.1", "anthropic/claude-sonnet-4-5"; for a local
            server "openai/NAME" with `api_base`.
        price: what its tokens cost; by default what litellm's bundled list says.
        allow_unpriced: ask also when nobody knows the price; the cost of its replies is then None.
        api_base: address of the server, as in "http://127.0.0.1:8000/v1". The key for OpenAI in the environment is
            not sent there.
        api_key: by default the environment's, under the name that the provider uses.
        timeout: for a whole reply.
        schemas: whether it holds replies to a JSON schema; by default what litellm's list says, and False for models
            that are not on it. Otherwise the schema is put into words.
    """

    def __init__(
        self,
        model: str,
        *,
        price: Price | None = None,
        allow_unpriced: bool = False,
        api_base: str | None = None,
        api_key: str | None = None,
        timeout: Seconds = 600,
        schemas: bool | None = None,
    ) -> None:
        self.name = model
        self._listed = listed(model)
        self._price = price
        self._allow_unpriced = allow_unpriced
        self._api_base = api_base
        # Local servers want no key, and the environment's is not for them.
        own_server = api_base is not None and model.startswith("openai/")
        self._key = _NO_KEY if api_key is None and own_server else api_key
        keep_secret(api_key)
        self._timeout = in_seconds(timeout, f"LiteLLM({model!r}, timeout=…)")
        self._schemas = self._listed.schemas if schemas is None else schemas
        self._litellm: Any = None

    def __repr__(self) -> str:
        return f"LiteLLM({self.name!r})"

    def estimate(self, request: Request, /) -> Estimate:
        """What the request may cost at most.

        A token is at least one byte of text, so that the bytes of the request are an upper bound of its tokens
        (about four times what English text has). Of the reply it is `max_tokens`, or the longest that the model
        writes, or 4096 where nobody knows.
        """
        usage = Usage(
            input=most_tokens(wire(request, self.name, schemas=self._schemas)),
            output=request.max_tokens or self._listed.max_output or UNKNOWN_OUTPUT,
        )
        return Estimate(tokens=usage.tokens, cost=self._cost(usage))

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        """Ask the provider, once.

        Raises:
            ModelError: of the kind that says what went wrong.
        """
        if guard is not None:
            guard(self.name, self._api_base)
        if self._litellm is None:
            self._litellm = self._of_some_provider(
                await anyio.to_thread.run_sync(_import_litellm, abandon_on_cancel=True)
            )
        if self._cost(Usage()) is None and not self._allow_unpriced:
            raise UnknownPrice(
                f"{self.name}: nobody knows its price. Give price=Price(input=…, output=…) in dollars for a million "
                "tokens, or allow_unpriced=True."
            )
        sent = wire(request, self.name, schemas=self._schemas)
        for name, value in os.environ.items():
            if name.endswith("_API_KEY"):  # litellm takes one of them, and errors may quote it
                keep_secret(value)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._ask(sent, on_token)
        except ModelError:
            raise
        except TimeoutError as error:
            raise ModelTimeout(f"{self.name}: no whole answer within {self._timeout:g} s.") from error
        except Exception as error:  # litellm lets through whatever happens in it
            raise self._failure(error) from error
        return self._reply(sent, answer)

    def _of_some_provider(self, litellm: Any) -> Any:
        try:
            litellm.get_llm_provider(self.name, api_base=self._api_base)
        except litellm.BadRequestError as error:
            raise ModelMissing(
                f"{self.name}: names no provider that litellm knows. Write it as in openai/gpt-4.1; a local server is "
                "openai/NAME with api_base=."
            ) from error
        return litellm

    async def _ask(self, sent: dict[str, Any], on_token: OnToken | None) -> Answer:
        options: dict[str, Any] = {
            "api_base": self._api_base, "api_key": self._key, "timeout": self._timeout,
            "max_retries": 0, "num_retries": 0,
        }  # fmt: skip
        if on_token is None:
            return whole(self.name, await self._litellm.acompletion(**sent, **options))
        stream = await self._litellm.acompletion(**sent, **options, stream=True, stream_options={"include_usage": True})
        try:
            return await streamed(self.name, stream, on_token)
        finally:
            await stream.aclose()

    def _reply(self, sent: dict[str, Any], answer: Answer) -> Reply:
        usage = answer.usage
        if not usage.input:  # a server that does not count: then it is counted from above
            written = answer.text + "".join(call.name + call.arguments for call in answer.tool_calls)
            usage = Usage(input=most_tokens(sent), output=len(written.encode(errors="replace")))
        return Reply(
            text=answer.text, tool_calls=answer.tool_calls, finish=answer.finish, usage=usage, cost=self._cost(usage),
            model=answer.model or self.name,
        )  # fmt: skip

    def _cost(self, usage: Usage) -> Decimal | None:
        return self._listed.cost(usage) if self._price is None else self._price.cost(usage)

    def _failure(self, error: Exception) -> ModelError:
        failure = translated(error, self.name, now=time.time())
        if isinstance(failure, ProviderFailed | BadKey) and not answered(error) and self._key is None:
            missing = self._litellm.validate_environment(self.name)["missing_keys"]
            if missing:
                return BadKey(f"{self.name}: there is no key. Set {' and '.join(missing)}, or give api_key=.")
        return failure


def _import_litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    ours = "litellm" not in sys.modules
    try:
        litellm: Any = import_module("litellm")
    except ImportError as error:
        raise ModelMissing(
            f"litellm, which reaches models, is not installed ({error}). Run: pip install 'stigmergy[llm]'"
        ) from error
    litellm.suppress_debug_info = True  # it would print advice to stdout
    if ours:  # its lines would come twice; whoever imports it for something else has it as it is
        for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
            logging.getLogger(name).handlers.clear()
    return litellm
