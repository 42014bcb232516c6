"""A real MCP server on standard streams. Its tools note what they did in the file of the first argument.

Where there is a second argument it is a pipe: who reads it learns that somebody waits for the tool `wait`.
"""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("shop")


def note(text: str) -> None:
    with Path(sys.argv[1]).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


@server.tool()
def price(item: str, count: int = 1) -> str:
    """What so many of an item cost."""
    note(f"{item} {count}")
    if item == "nothing":
        raise ValueError("not for sale")
    return f"{count} {item}: {count * 3}"


@server.tool()
def burn() -> str:
    """Burns it all down."""
    note("burns")
    os._exit(1)


@server.tool()
async def wait() -> str:
    """Waits until nobody waits for it."""
    try:
        Path(sys.argv[2]).write_text("waits", encoding="utf-8")
        await asyncio.Event().wait()
    finally:
        note("given up")
    return "never"


if __name__ == "__main__":
    note(f"began {os.getpid()}")
    server.run()
    note("ended")
