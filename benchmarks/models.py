"""What a request to a model costs beside the request: our layer over a bare call of litellm, on loopback.

python benchmarks/models.py [REQUESTS]
"""

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from harness import expect

from stigmergy.agents.models.litellm import LiteLLM
from stigmergy.agents.models.model import Message, Request
from stigmergy.agents.models.price import Price

ANSWER = json.dumps(
    {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
    }
).encode()  # fmt: skip
HEAD = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n".encode()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request of a connection the same."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
            writer.write(HEAD + ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def measured(requests: int) -> dict[str, list[float]]:
    """Seconds that each request took, in turns in random order, so that a busy machine is busy for both."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    model = LiteLLM("openai/m", api_base=url, price=Price(1, 1))
    request = Request(model="openai/m", messages=(Message(role="user", text="hello " * 500),))
    expect("tokens of the first answer", (await model.complete(request)).usage.tokens, 16)
    litellm: Any = import_module("litellm")
    messages = [{"role": "user", "content": "hello " * 500}]

    async def bare() -> object:
        return await litellm.acompletion(
            model="openai/m", api_base=url, api_key="none", messages=messages, max_retries=0, num_retries=0, timeout=600
        )

    ways: dict[str, Callable[[], Awaitable[object]]] = {"litellm": bare, "ours": lambda: model.complete(request)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(requests):
        for name, way in random.sample(list(ways.items()), len(ways)):  # litellm's log of one runs into the next
            started = time.perf_counter()
            await way()
            seconds[name].append(time.perf_counter() - started)
    await litellm.close_litellm_async_clients()
    server.close()
    return seconds


def main() -> None:
    """Medians, and their ratio."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    medians = {name: statistics.median(taken) for name, taken in asyncio.run(measured(requests)).items()}
    shown = ", ".join(f"{name} {median * 1000:.2f} ms" for name, median in medians.items())
    print(f"{shown}; ours takes {medians['ours'] / medians['litellm']:.2f} times as long")


if __name__ == "__main__":
    main()
