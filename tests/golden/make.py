"""Writes the boards of the version at hand, with what they said and the code of their agents, to be kept for ever.

    python -m tests.golden.make

They are written once, when a version is released, and never again: `test_golden.py` opens, reads, goes on with and
replays those of all versions.
"""

import asyncio
import importlib.util
import json
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from pydantic import BaseModel, JsonValue

from stigmergy import Blackboard, Roster, View, WorkDiscovery, after, read
from stigmergy.blackboard.events import Priority
from stigmergy.seeds import write_stream
from stigmergy.testing import VirtualClock
from stigmergy.version import VERSION

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CODE = {
    "hello": ROOT / "examples" / "hello.py",
    "auth": ROOT / "examples" / "auth.py",
    "everything": HERE / "everything.py",
}
"""The boards, and the files that define their agents."""


def module_of(file: Path) -> ModuleType:
    """The code that is kept beside a board."""
    spec = importlib.util.spec_from_file_location(f"golden_{file.parent.name.replace('.', '_')}_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def roster_of(module: ModuleType) -> Roster:
    """The roster, or board, of a kept module."""
    found: Roster = getattr(module, "roster", None) or module.board
    return found


def models_of(roster: Roster) -> list[type[BaseModel]]:
    """All artifact classes of a roster."""
    return [kind.model for name in roster.types.names() if (kind := roster.types.get(name)) is not None]


async def hello(board: Blackboard, code: Any) -> None:
    """One question."""
    await board.publish(code.Question(text="hello"))
    await board.run_until_idle()


async def auth(board: Blackboard, code: Any) -> None:
    """The workflow that branches itself."""
    await board.publish(code.SEED)
    await board.run_until_idle()


async def everything(board: Blackboard, code: Any) -> None:
    """Orders, stock, work, a cancelled activation, a dead letter that is tried again, and things that still wait."""
    for n in range(1, 7):
        priority: Priority | None = "low" if n == 4 else "high" if n == 5 else None
        await board.publish(code.Order(n=n, key="abc"[n % 3]), key=f"order {n}", priority=priority, tags=["golden"])
        if n == 3:
            await board.run_until_idle(horizon=0)  # so that something is held until there are more
    await board.publish(code.Stock(key="b"))
    await board.publish(code.Note(text="late"), visibility=after(20))
    await board.publish_many([work("base"), work("next", ["base"]), work("broken"), work("stuck", ["broken"])])
    report = await board.run_until_idle(horizon=None)
    await board.retry(*[d.activation for d in report.left.dead_letters if d.agent == "bill"])
    await board.publish(work("waits", ["never"]))
    await board.publish(work("cancelled", ["never"]))
    await board.run_until_idle(horizon=None)
    blocked = [b.activation for b in board.report().left.blocked]
    await board.cancel(blocked[-1], reason="not needed")
    await board.publish(code.Order(n=7, key="z"), run="side")
    await board.run_until_idle(horizon=10)
    await board.publish(code.Stock(key="a"))  # published, and not run


def work(id: str, blocking: list[str] | None = None) -> WorkDiscovery:
    """A piece of work."""
    return WorkDiscovery(
        description=f"work {id}", phase="analysis", done_definition="done", work_id=id, blocking_work_ids=blocking or []
    )


RUNS: dict[str, Callable[[Blackboard, Any], Coroutine[Any, Any, None]]] = {
    "hello": hello, "auth": auth, "everything": everything,
}  # fmt: skip


def said(view: View) -> dict[str, JsonValue]:
    """What a board says to those who read it."""
    report = view.report()
    kinds: dict[str, int] = {}
    for event in view.events():
        kinds[type(event).__name__] = kinds.get(type(event).__name__, 0) + 1
    return {
        "last": view.last, "reason": report.reason, "done": report.done, "dead": report.dead,
        "left": report.left.count, "kinds": dict(sorted(kinds.items())),
        "artifacts": [[a.ref, a.producer, a.payload.model_dump(mode="json")] for a in view.artifacts(held=True)],
    }  # fmt: skip


def make(name: str, folder: Path) -> None:
    """Write one board, its code, its stream and what it says."""
    code = folder / f"{name}.py"
    shutil.copy(CODE[name], code)
    module, path = module_of(code), folder / f"{name}.db"

    async def run() -> None:
        async with Blackboard(path, roster=roster_of(module), clock=VirtualClock()) as board:
            await RUNS[name](board, module)

    path.unlink(missing_ok=True)
    asyncio.run(run())
    with TemporaryDirectory() as other, read(shutil.copy(path, other), models_of(roster_of(module))) as view:
        (folder / f"{name}.json").write_text(json.dumps(said(view), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            write_stream(view, file)


def main() -> None:
    """Write all boards of this version."""
    folder = HERE / VERSION
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    for name in CODE:
        make(name, folder)


if __name__ == "__main__":
    main()
