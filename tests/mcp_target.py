"""A real MCP server on standard streams. Its tools note what they did in the file of the first argument."""

import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("shop")


@server.tool()
def price(item: str, count: int = 1) -> str:
    """What so many of an item cost."""
    with Path(sys.argv[1]).open("a", encoding="utf-8") as file:
        file.write(f"{item} {count}\n")
    if item == "nothing":
        raise ValueError("not for sale")
    return f"{count} {item}: {count * 3}"


@server.tool()
def burn() -> str:
    """Burns it all down."""
    return "burnt"


if __name__ == "__main__":
    server.run()
