"""The cascade on a disk that dies: `dying_disk.py FOLDER ACTION K...`, with the shim of `fault_shim.c` preloaded.

For every k a child of its own runs on `FOLDER/k/run.db` until the shim's k-th call, where ACTION happens: "kill",
"EIO", "ENOSPC", and "EIO!" or "ENOSPC!" for good; "kill fast" is with that durability.
Prints a line of JSON for each: how it ended, after how many calls.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from stigmergy.blackboard.errors import StigmergyError
from stigmergy.blackboard.stores.sqlite import SQLiteStore
from tests.cascade import FileWorld, board_on, run

TOO_LONG = 30
"""Seconds after which a child is hanging."""


async def attempt(folder: Path, *, fast: bool) -> str:
    """Run the cascade; what came of it."""
    world = FileWorld(folder)
    board = board_on(SQLiteStore(folder / "run.db", "fast" if fast else "full"), world)
    try:
        return (await run(board, world)).reason
    except StigmergyError as error:
        return error.code
    finally:
        await board.close()


def child(folder: Path, action: str, k: int) -> None:
    """Be the process that it happens to."""
    signal.alarm(TOO_LONG)
    action, _, durability = action.partition(" ")
    settings = {"FAULT_FOLDER": str(folder), "FAULT_SYNCED": str(folder / "synced"), "FAULT_AT": str(k)}
    os.environ.update(settings, FAULT_DO=action.rstrip("!"), **({"FAULT_STICKY": "1"} if action.endswith("!") else {}))
    shim = ctypes.CDLL(None)
    shim.fault_begin()
    ended = asyncio.run(attempt(folder, fast=durability == "fast"))
    (folder / "ended").write_text(json.dumps([ended, shim.fault_calls()]))


def main() -> None:
    folder, action = Path(sys.argv[1]), sys.argv[2]
    for k in map(int, sys.argv[3:]):
        mine = folder / str(k)
        (mine / "synced").mkdir(parents=True)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(mine, action, k)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        ended = json.loads((mine / "ended").read_text()) if (mine / "ended").exists() else ["", 0]
        print(json.dumps([k, signalled, *ended]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
