"""A program to be killed while its model is asked: `thinking_target.py FOLDER MOMENT`."""

import os
import signal
import sys
from decimal import Decimal
from pathlib import Path

from stigmergy import Blackboard
from stigmergy.models import Estimate, OnToken, Reply, Request, Scripted
from stigmergy.testing import outputs
from tests.boards import A, B


class Provider(Scripted):
    """Notes every request in a file before it answers; the second may be the end."""

    def __init__(self, folder: Path, moment: str) -> None:
        super().__init__(self._say, cost="0.10", estimate=Estimate(cost=Decimal("0.25")))
        self._file, self._moment = folder / "asked", moment

    def _say(self, request: Request) -> str:
        return "no" if len(request.messages) == 2 else outputs(B(n=len(request.messages)))

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{len(request.messages)}\n")
        if self._moment == "in the call" and len(request.messages) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().complete(request)


def main(folder: Path, moment: str) -> None:
    board = Blackboard(folder / "run.db", model=Provider(folder, moment))

    async def stop(call_next, ctx):  # type: ignore[no-untyped-def]
        made = await call_next()
        if moment == "after the record":
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    board.agent("thinker").around(stop).consumes(A).publishes(B)
    report = board.run_sync(*([] if moment == "never" else [A()]))
    assert report.ok, report


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
