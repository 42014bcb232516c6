"""Arguments and options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[str, typer.Argument(metavar="FILE[:NAME]", help="Python file, and the roster or board in it.")]
Board = Annotated[Path, typer.Argument(metavar="STORE", help="Board file.")]
SeedFiles = Annotated[list[str], typer.Option("--seed", help="Seed file (.jsonl, .json, - = stdin); can be repeated.")]
SeedType = Annotated[str | None, typer.Option("--type", help="Each seed is the bare payload of this artifact type.")]
Store = Annotated[Path | None, typer.Option("--store", envvar="STIGMERGY_STORE", help="Board file; or else memory.")]
StoreFile = Annotated[Path, typer.Option("--store", envvar="STIGMERGY_STORE", help="Board file.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", envvar="STIGMERGY_TIMEOUT", help="Seconds after which it stops.")
]
LimitList = Annotated[
    list[str], typer.Option("--limit", envvar="STIGMERGY_LIMIT", help="name=value, e.g. cost=2.00; can be repeated.")
]
SetList = Annotated[list[str], typer.Option("--set", help="name=value or name=@file, for a function; can be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")]
At = Annotated[str | None, typer.Option("--at", help="As it was at a position or an ISO time.")]
