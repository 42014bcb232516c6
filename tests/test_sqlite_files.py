"""Board files: who may open them, what is wrong with them, and what survives."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stigmergy.blackboard.errors import (
    BoardBusy,
    NewerBoard,
    NotABoard,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from stigmergy.blackboard.stores.base import Snapshot
from stigmergy.blackboard.stores.sqlite import SQLiteReader, SQLiteStore, owner_in_this_process
from stigmergy.testing.stores import published, row
from tests.trouble import without_privileges

SRC = Path(__file__).parent.parent / "src"
OWNER = """
import asyncio, sys
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(sys.argv[1])
    await store.open()
    await store.append([Row(i, i, 1.0, "Completed", 0, None, None, None, None, "{}", "") for i in range(1, 11)])
    print("ready", flush=True)
    sys.stdin.readline()
    await store.close()

asyncio.run(main())
"""
NEVER_CLOSED = OWNER.replace("    await store.close()\n", "")


@contextmanager
def another_process(path: Path, code: str = OWNER) -> Iterator[subprocess.Popen[str]]:
    """A process that has written ten rows to the board and owns it until it reads a line or dies."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(SRC)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def write(path: Path, count: int = 3, first: int = 1) -> None:
    store = SQLiteStore(path)
    await store.open()
    await store.append([row(i) for i in range(first, first + count)])
    await store.close()


# -- one owner ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_second_process_is_told_who_owns_the_board(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with another_process(path) as owner:
        with pytest.raises(
            BoardBusy, match=rf"run\.db is owned by process {owner.pid} on \S+ since \d\d:\d\d\. Read it"
        ):
            await SQLiteStore(path).open()
        assert SQLiteReader(path).last() == 10
    assert owner.returncode == -signal.SIGKILL


@pytest.mark.anyio
async def test_a_killed_owner_loses_the_board_and_nothing_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with another_process(path):
        pass  # killed on leaving
    assert (tmp_path / "run.db.lock").exists()
    assert SQLiteReader(path).last() == 10
    store = SQLiteStore(path)
    await store.open()
    await store.append([row(11)])
    assert [r.seq for r in store.reader().events()] == list(range(1, 12))
    await store.close()


@pytest.mark.anyio
async def test_an_owner_that_closes_hands_the_board_on(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with another_process(path) as owner:
        _, errors = owner.communicate("\n", timeout=30)
        assert (owner.returncode, errors) == (0, "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.db"]
    await write(path, first=11)
    assert SQLiteReader(path).last() == 13


def test_a_board_that_is_never_closed_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with another_process(path, NEVER_CLOSED) as owner:
        _, errors = owner.communicate("\n", timeout=30)
        assert (owner.returncode, errors) == (0, "")
    assert SQLiteReader(path).last() == 10
    asyncio.run(write(path, first=11))


@pytest.mark.anyio
async def test_a_second_store_of_the_same_process_is_told_so_and_can_find_the_first(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    link = tmp_path / "link.db"
    link.symlink_to(path)
    first = SQLiteStore(path)
    assert owner_in_this_process(path) is None
    await first.open()
    await first.open()
    assert owner_in_this_process(str(path)) is first
    assert owner_in_this_process(link) is first
    for again in (path, link):
        second = SQLiteStore(again)
        with pytest.raises(BoardBusy, match="already open in this process, since"):
            await second.open()
        await second.close()
    assert owner_in_this_process(path) is first
    await first.append([row(1)])
    await first.close()
    await first.close()
    assert owner_in_this_process(path) is None
    await second.open()
    assert second.reader().last() == 1
    await second.close()


DROPPED = """
import asyncio, sys
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.sqlite import SQLiteStore, owner_in_this_process

async def one(seq):
    store = SQLiteStore(sys.argv[1])
    await store.open()
    await store.append([Row(seq, seq, 1.0, "Completed", 0, None, None, None, None, "{}", "")])

async def main():
    for seq in range(1, 4):
        await one(seq)
        assert owner_in_this_process(sys.argv[1]) is None

asyncio.run(main())
print("ready", flush=True)
"""


def test_a_store_that_is_dropped_gives_up_the_board(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with another_process(path, DROPPED) as process:
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert SQLiteReader(path).last() == 3


@pytest.mark.anyio
async def test_a_forked_child_cannot_write_and_does_not_keep_the_board(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    store = SQLiteStore(path)
    await store.open()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store.append([row(1)]).send(None)
        except StoreError as error:
            os.write(write_end, str(error).encode())
        finally:
            os.close(write_end)
            signal.pause()
            os._exit(0)
    os.close(write_end)
    try:
        with os.fdopen(read_end) as pipe:
            assert "lost its writer, to a fork" in pipe.read()
        await store.append([row(1)])
        await store.close()
        await write(path, first=2)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# -- what is wrong with a file -----------------------------------------------------------------------------------------


async def refused(path: Path, error: type[StoreError], match: str) -> None:
    """Owner and reader both say so, and neither changes the file nor stays in the way."""
    before = path.read_bytes() if path.is_file() else None
    store = SQLiteStore(path)
    for _ in range(2):
        with pytest.raises(error, match=match):
            await store.open()
    await store.close()
    with pytest.raises(StoreError):
        SQLiteReader(path).last()
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not Path(f"{path}.lock").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"x" * 10_000, b"SQLite format 3\0"])
async def test_a_file_that_is_no_database_is_no_board(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.db"
    path.write_bytes(content)
    await refused(path, NotABoard, r"run\.db is no database")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "script",
    ["CREATE TABLE users (id)", "PRAGMA user_version = 7", "PRAGMA application_id = 42", "PRAGMA journal_mode=WAL"],
)
async def test_another_programs_database_is_no_board(tmp_path: Path, script: str) -> None:
    path = tmp_path / "run.db"
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    await refused(path, NotABoard, "is a database of another program")


@pytest.mark.anyio
async def test_an_empty_file_becomes_a_board(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    path.touch()
    with pytest.raises(NotABoard, match="empty"):
        SQLiteReader(path).last()
    await write(path)
    assert SQLiteReader(path).last() == 3


@pytest.mark.anyio
async def test_a_board_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    await write(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    await refused(path, NewerBoard, r"has format 99; this version reads up to 3\. Update stigmergy")


@pytest.mark.anyio
@pytest.mark.parametrize("kept", [0.6, 0.2])
async def test_a_truncated_board_is_damaged(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "run.db"
    await write(path, 2_000)
    size = path.stat().st_size
    os.truncate(path, int(size * kept))
    await refused(path, StoreDamaged, r"run\.db is damaged")


@pytest.mark.anyio
async def test_a_missing_folder_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no folder .*nowhere"):
        await SQLiteStore(tmp_path / "nowhere" / "run.db").open()
    with pytest.raises(StoreError, match="is a folder"):
        await SQLiteStore(tmp_path).open()
    with pytest.raises(StoreError):
        SQLiteReader(tmp_path).last()


def test_a_reader_of_a_missing_file_says_how_it_comes_to_be_and_makes_none(tmp_path: Path) -> None:
    reader = SQLiteReader(tmp_path / "run.db")
    with pytest.raises(StoreError, match=r"run\.db does not exist\. Blackboard\("):
        reader.last()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_a_file_that_may_only_be_read_is_read_only(open_folder: Path) -> None:
    path = open_folder / "run.db"
    await write(path)
    path.chmod(0o444)
    open_folder.chmod(0o777)
    with without_privileges():
        with pytest.raises(StoreReadOnly, match="cannot be written"):
            await SQLiteStore(path).open()
        reader = SQLiteReader(path)
        assert reader.last() == 3
        reader.close()


@pytest.mark.anyio
async def test_a_board_in_a_folder_that_may_only_be_read_can_be_read(open_folder: Path) -> None:
    path = open_folder / "run.db"
    await write(path)
    open_folder.chmod(0o555)
    try:
        with without_privileges():
            with pytest.raises(StoreReadOnly, match="cannot be written by this user"):
                await SQLiteStore(path).open()
            reader = SQLiteReader(path)
            assert [r.seq for r in reader.events()] == [1, 2, 3]
            reader.close()
    finally:
        open_folder.chmod(0o755)


@pytest.mark.anyio
async def test_a_full_disk_is_named_and_what_was_kept_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    store = SQLiteStore(path)
    await store.open()
    await store.append([row(1)])
    await store._execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreFull, match="disk is full"):
        await store.append([row(i, payload="x" * 10_000) for i in range(2, 50)])
    assert store.reader().last() == 1
    await store.close()
    await write(path, first=2)
    assert SQLiteReader(path).last() == 4


@pytest.mark.anyio
async def test_a_file_size_limit_in_the_middle_of_a_run_leaves_a_whole_board(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    code = OWNER.replace(
        "    print(",
        "    import resource, signal\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "    from stigmergy.blackboard.errors import StoreError\n"
        "    try:\n"
        "        for i in range(11, 1000):\n"
        "            await store.append([Row(i, i, 1.0, 'Called', 0, None, None, None, None, '{}', 'x' * 5000)])\n"
        "    except StoreError as error:\n"
        "        print(type(error).__name__, i, error, file=sys.stderr)\n"
        "    print(",
    )
    with another_process(path, code) as owner:
        _, errors = owner.communicate("\n", timeout=60)
    name, failed, _ = errors.split(" ", 2)
    assert name in ("StoreError", "StoreFull")
    assert "SQLITE_" in errors
    assert SQLiteReader(path).last() == int(failed) - 1
    await write(path, first=int(failed))


# -- reading and writing at once ---------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["with space.db", "what?.db", "a#b.db", "100%41.db", "é漢.db", "file:x.db", "q'\".db"])
async def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    store = SQLiteStore(path)
    await store.open()
    await store.append([row(1)])
    reader = SQLiteReader(path)
    assert reader.last() == 1
    await store.append([row(2)])
    assert reader.last() == 2
    reader.close()
    await store.close()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert reader.last() == 2
    reader.close()


@pytest.mark.anyio
async def test_a_relative_path_stays_what_it_was_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("run.db")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    await store.open()
    await store.append([row(1)])
    assert store.reader().last() == 1
    await store.close()
    assert store.name == "run.db"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["run.db"]


@pytest.mark.anyio
async def test_an_unfinished_iterator_does_not_hold_up_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    store = SQLiteStore(path)
    await store.open()
    await store.append([published(i) for i in range(1, 1_501)])
    reader = SQLiteReader(path)
    artifacts = reader.artifacts()
    assert next(artifacts).seq == 1
    await store.append([published(1_501)])
    await store.close()
    assert path.with_name("run.db-wal").stat().st_size == 0
    assert [r.seq for r in artifacts] == list(range(2, 1_502))
    reader.close()


@pytest.mark.anyio
async def test_large_payloads_are_read_in_small_pages(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "run.db")
    await store.open()
    rows = [published(i)._replace(payload=f'"{str(i) * 900_000}"') for i in range(1, 9)]
    await store.append(rows)
    assert list(store.reader().artifacts("Order")) == rows
    assert list(store.reader().artifacts("Order", newest_first=True)) == rows[::-1]
    await store.close()


def test_one_store_serves_one_event_loop_after_another(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "run.db")

    async def step(seq: int) -> None:
        await store.open()
        await store.append([row(seq)])
        await store.save_snapshot(Snapshot(seq, "c", b"s"))

    asyncio.run(step(1))
    asyncio.run(step(2))
    thread = threading.Thread(target=lambda: asyncio.run(step(3)))
    thread.start()
    thread.join()

    async def while_a_loop_runs() -> None:
        await asyncio.to_thread(asyncio.run, step(4))
        await step(5)

    asyncio.run(while_a_loop_runs())
    assert [r.seq for r in store.reader().events()] == [1, 2, 3, 4, 5]
    asyncio.run(store.close())


def test_closing_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    asyncio.run(write(tmp_path / "run.db"))
    assert threading.active_count() == before


def test_a_cancelled_append_is_whole_and_the_store_goes_on_in_another_loop(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    store = SQLiteStore(path)

    async def cancelled(first: int) -> None:
        await store.open()
        task = asyncio.ensure_future(store.append([row(i, payload="x" * 1_000) for i in range(first, first + 2_000)]))
        await asyncio.sleep(0)
        task.cancel()
        # Nobody waits: the loop ends as soon as the task has.

    for first in range(1, 40_001, 2_000):
        asyncio.run(cancelled(first))
        last = store.reader().last()
        assert last in (first - 1, first + 1_999)
        assert last == first + 1_999, "an append that had begun runs to its end"
    asyncio.run(store.append([row(40_001)]))
    asyncio.run(store.close())
    assert SQLiteReader(path).last() == 40_001


def test_an_append_that_is_cancelled_again_and_again_still_ends_whole(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "run.db")

    async def stubborn() -> None:
        await store.open()
        task = asyncio.ensure_future(store.append([row(i) for i in range(1, 5_001)]))
        while not task.done():
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert store.reader().last() == 5_000
        await store.append([row(5_001)])
        await store.close()

    asyncio.run(stubborn())


TORN_DOWN = """
import asyncio, sys, threading
from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.sqlite import SQLiteStore

def rows(first, last):
    return [Row(i, i, 1.0, "Called", 0, None, None, None, None, "{}", "x" * 2000) for i in range(first, last + 1)]

store = SQLiteStore(sys.argv[1])
before = set(threading.enumerate())
loop = asyncio.new_event_loop()
loop.run_until_complete(store.open())
[writer] = set(threading.enumerate()) - before
task = loop.create_task(store.append(rows(1, 10_000)))
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
writer.join()

async def go_on():
    try:
        await store.append(rows(20_000, 20_000))
    except StoreError as error:
        assert "lost its writer" in str(error)
    else:
        raise AssertionError
    await store.close()
    await store.open()
    await store.append(rows(10_001, 10_001))
    await store.close()

asyncio.run(go_on())
print("ready", flush=True)
"""


def test_a_loop_that_is_torn_down_under_an_append_ends_in_an_error_and_no_hang(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with another_process(path, TORN_DOWN) as process:
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert SQLiteReader(path).last() == 10_001
