"""Damaged board files: what is proven, what is found, what is saved. And copies of boards, and what they throw away."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from stigmergy import Blackboard, backup, read, recover, vacuum, verify
from stigmergy.blackboard.errors import BoardBusy, NotABoard, StoreDamaged, StoreError
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.sqlite import SQLiteReader, SQLiteStore
from tests.boards import A, B, Boards, copying, numbers
from tests.cascade import TYPES, World, board_on, run
from tests.faults import PointedStore, files_of, put

FLIPS = 60


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a cascade that ended."""
    path, world = tmp_path_factory.mktemp("intact") / "run.db", World()
    asyncio.run(run(board_on(path, world), world))
    return path


def rows_of(path: Path) -> list[Row]:
    reader = SQLiteReader(path)
    rows = list(reader.events())
    reader.close()
    return rows


def names(folder: Path) -> list[str]:
    """The files in a folder; SQLite's readers leave two empty ones behind."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(("-shm", "-wal")))


def changed(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def test_an_intact_log_is_proven_whole(intact: Path) -> None:
    found = verify(intact)
    rows = rows_of(intact)
    assert (found.whole, found.closed, found.events, found.last) == (True, True, len(rows), rows[-1].seq)
    assert str(found).startswith(f"{intact} is whole: {len(rows)} events, closed, seal ")


EDITS: list[tuple[str, str, str]] = [
    ("a payload", "UPDATE event SET payload = '{\"number\":7}' WHERE seq = {n}", "not what was"),
    ("a cause", "UPDATE event SET cause = cause + 1 WHERE seq = {n}", "not what was written"),
    ("a time", "UPDATE event SET at = at + 1e-6 WHERE seq = {n}", "not what was written"),
    ("an event that is gone", "DELETE FROM event WHERE seq = {n}", "not what was written"),
    ("a body that is no JSON", "UPDATE event SET body = 'x' WHERE seq = {n}", "cannot be read"),
    ("a seal", "UPDATE event SET seal = x'00' WHERE seq = (SELECT min(seq) FROM event WHERE seq >= {n} AND seal > '')",
     "not what was written"),
    ("all seals", "UPDATE event SET seal = NULL WHERE seq >= {n}", "the seal is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "why"), [e[1:] for e in EDITS], ids=[e[0] for e in EDITS])
def test_whatever_is_changed_in_a_log_is_found_and_what_was_before_is_saved(
    intact: Path, tmp_path: Path, script: str, why: str
) -> None:
    rows = rows_of(intact)
    for victim in (rows[0], rows[len(rows) // 2], next(r for r in rows if r.kind == "Published")):
        path, saved = tmp_path / f"{victim.seq}.db", tmp_path / f"{victim.seq} saved.db"
        shutil.copy(intact, path)
        changed(path, script.replace("{n}", str(victim.seq)))
        found = verify(path)
        assert found.damage is not None
        assert found.damage.first <= victim.seq
        assert found.damage.last == 0 or victim.seq <= found.damage.last
        assert why in found.damage.why
        assert found.last < found.damage.first
        assert str(path) in str(found)
        assert recover(path, saved).whole
        kept = rows_of(saved)
        assert kept == rows[: len(kept)] == [r for r in rows if r.seq <= found.last]
        assert not kept or kept[-1].seq + 1 == rows[len(kept)].tx, "a decision is saved whole or not at all"


@pytest.mark.parametrize("type_", ["Order", "Step"], ids=["keyed", "not keyed"])
def test_an_artifact_that_was_changed_is_named(intact: Path, tmp_path: Path, type_: str) -> None:
    path = tmp_path / "run.db"
    shutil.copy(intact, path)
    victim = next(r for r in rows_of(path) if r.type == type_)
    changed(path, f"UPDATE event SET payload = '{{}}' WHERE seq = {victim.seq}")
    found = verify(path).damage
    assert found is not None
    assert (found.first, found.last) == (victim.seq, victim.seq)
    assert found.why == f"the payload of {type_}@{victim.seq} is not what was written"


@pytest.mark.parametrize("seed", range(FLIPS))
def test_a_flipped_bit_is_found_or_harmless(intact: Path, tmp_path: Path, seed: int) -> None:
    random, content = Random(seed), bytearray(intact.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    check_damaged(bytes(content), rows_of(intact), tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_zeroed_sectors_and_lost_ends_are_found_or_harmless(intact: Path, tmp_path: Path, seed: int) -> None:
    random, content = Random(seed), bytearray(intact.read_bytes())
    place = random.randrange(len(content) // 512) * 512
    if seed % 2:
        content[place : place + 512] = bytes(512)
    else:
        del content[place:]
    check_damaged(bytes(content), rows_of(intact), tmp_path)


@pytest.mark.parametrize("pages", [1, 2, 3, 4])
def test_of_a_copy_that_was_cut_off_the_intact_beginning_is_saved(intact: Path, tmp_path: Path, pages: int) -> None:
    rows, path, saved = rows_of(intact), tmp_path / "cut.db", tmp_path / "saved.db"
    path.write_bytes(intact.read_bytes()[: -pages * 4_096])
    with pytest.raises(StoreDamaged):
        rows_of(path)
    found = verify(path)
    assert not found.whole
    assert "\n" not in str(found)
    assert recover(path, saved).whole
    kept = rows_of(saved)
    assert 0 < len(kept) <= len(rows)
    assert kept == rows[: len(kept)]


def check_damaged(content: bytes, rows: list[Row], folder: Path) -> None:
    """What is proven of a damaged file is what was written; and what is not proven is called damaged."""
    path, saved = folder / "run.db", folder / "saved.db"
    path.write_bytes(content)
    try:
        found = verify(path)
    except StoreError:
        return
    if found.whole:
        assert rows_of(path) == rows
    recovered = recover(path, saved)
    assert recovered.whole
    assert (recovered.last, recovered.seal) == (found.last, found.seal)
    kept = rows_of(saved)
    assert kept == rows[: len(kept)]


@pytest.mark.parametrize("seed", range(20))
def test_damage_to_the_log_beside_the_file_leaves_a_proven_beginning(tmp_path: Path, seed: int) -> None:
    """SQLite drops whatever of it fails its checks; what is left is a prefix, and verify says it was not closed."""
    rows, wal = unclosed(tmp_path / "run.db")
    random, content = Random(seed), bytearray(wal.read_bytes())
    if seed == 0:
        wal.unlink()
    elif seed % 2:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        wal.write_bytes(content)
    else:
        wal.write_bytes(content[: random.randrange(len(content))])
    found = verify(tmp_path / "run.db")
    assert found.whole
    assert not found.closed or len(rows) == found.events
    assert rows_of(tmp_path / "run.db") == rows[: found.events]


def test_the_log_of_another_board_beside_the_file_mixes_nothing_unseen(intact: Path, tmp_path: Path) -> None:
    """To SQLite it is the newest part of the file: what it gives is the other board, and what is left of this one."""
    other, wal = unclosed(tmp_path / "other.db")
    path = tmp_path / "run.db"
    shutil.copy(intact, path)
    mine = rows_of(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    shutil.copy(wal, f"{path}-wal")
    found = verify(path)
    try:
        rows = rows_of(path)
    except StoreDamaged:
        assert not found.whole
        return
    assert rows in (mine, other)
    assert found.events == len(rows) or not found.whole


def unclosed(path: Path) -> tuple[list[Row], Path]:
    """The file of a board whose process died, with the log beside it."""
    live = path.with_name("live.db")

    async def main() -> list[Row]:
        board = copying(Blackboard(live))
        for n in range(20):
            await board.publish(A(n=n))
        await board.run_until_idle()
        rows = rows_of(live)
        for suffix in ("", "-wal"):
            shutil.copy(f"{live}{suffix}", f"{path}{suffix}")
        await board.close()
        return rows

    return asyncio.run(main()), path.with_name(f"{path.name}-wal")


@pytest.mark.anyio
async def test_a_seal_goes_on_after_a_death_and_after_an_orderly_stop(file_board: Boards, ending: str) -> None:
    board = copying(file_board())
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    first = verify(board._store.name)
    again = copying(await file_board.after(ending, board))
    await again.publish(A(n=3))
    await again.run_until_idle()
    found = verify(again._store.name)
    assert found.whole
    assert found.events > first.events
    assert found.seal != first.seal


EARLIER = {1: ("seal", "digest", "crc"), 2: ("digest", "crc")}
"""Format -> the columns that it did not have."""


@pytest.mark.anyio
@pytest.mark.parametrize("format_", EARLIER)
async def test_a_board_without_proofs_gets_them_when_it_is_opened(intact: Path, tmp_path: Path, format_: int) -> None:
    path = tmp_path / "run.db"
    shutil.copy(intact, path)
    rows = rows_of(path)
    for column in EARLIER[format_]:
        changed(path, f"ALTER TABLE event DROP COLUMN {column}; PRAGMA user_version = {format_}")
    with pytest.raises(StoreError, match="without seals"):
        verify(path)
    assert rows_of(path) == rows
    async with Blackboard(path) as board:
        assert [a.id for a in board.artifacts("Order")] == [r.seq for r in rows if r.type == "Order"]
        await board.publish(A())
    found = verify(path)
    assert found.whole
    assert rows_of(path)[: len(rows)] == rows
    changed(path, f"UPDATE event SET cause = cause + 1 WHERE seq = {rows[3].seq}")
    assert not verify(path).whole
    with pytest.raises(StoreDamaged, match=f"at event {rows[3].seq}: it is not what was written"):
        rows_of(path)


@pytest.mark.parametrize("format_", EARLIER)
def test_a_board_that_dies_while_it_gets_its_proofs_gets_them_the_next_time(
    intact: Path, tmp_path: Path, format_: int
) -> None:
    path = tmp_path / "run.db"
    shutil.copy(intact, path)
    rows = rows_of(path)
    for column in EARLIER[format_]:
        changed(path, f"ALTER TABLE event DROP COLUMN {column}; PRAGMA user_version = {format_}")
    deaths: list[dict[str, bytes]] = []

    async def opened(store: SQLiteStore) -> None:
        await store.open()
        await store.close()

    asyncio.run(opened(PointedStore(path, lambda point: deaths.append(files_of(path)))))
    assert len(deaths) > 20
    for k, files in enumerate(deaths):
        died = put(files, tmp_path / str(k) / "run.db")
        assert rows_of(died) == rows
        asyncio.run(opened(SQLiteStore(died)))
        assert verify(died).whole
        assert rows_of(died) == rows


# -- copies ------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_backup_of_a_board_in_use_is_one_whole_file_that_goes_on(file_board: Boards, tmp_path: Path) -> None:
    board = copying(file_board())
    await board.publish_many([A(n=n) for n in range(3)])
    copy = tmp_path / "copy.db"
    size = backup(board._store.name, copy)
    assert size == copy.stat().st_size
    assert sorted(p.name for p in tmp_path.glob("copy*")) == ["copy.db"]
    await board.publish(A(n=3))
    assert verify(copy).whole
    other = copying(Blackboard(copy))
    await other.run_until_idle()
    assert numbers(other, B) == [0, 1, 2]
    await other.close()
    await board.run_until_idle()
    assert numbers(board, B) == [0, 1, 2, 3]


@pytest.mark.parametrize("copy", [backup, recover])
def test_nothing_is_ever_copied_over_something(
    intact: Path, tmp_path: Path, copy: Callable[[Path, Path], object]
) -> None:
    there = tmp_path / "there.db"
    there.write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        copy(intact, there)
    assert there.read_text() == "mine"
    with pytest.raises(StoreError, match="there is no folder"):
        copy(intact, tmp_path / "nowhere" / "copy.db")
    with pytest.raises(StoreError, match="does not exist"):
        copy(tmp_path / "missing.db", tmp_path / "copy.db")
    assert names(tmp_path) == ["there.db"]


def test_a_copy_that_breaks_off_leaves_nothing(intact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "run.db"
    damaged.write_bytes(intact.read_bytes()[: 3 * 4096])
    with pytest.raises(StoreDamaged):
        backup(damaged, tmp_path / "copy.db")
    assert names(tmp_path) == ["run.db"]


def test_vacuum_throws_away_what_can_be_made_again_and_no_event(intact: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    shutil.copy(intact, path)
    rows, before = rows_of(path), verify(path)
    changed(path, "INSERT INTO snapshot VALUES (1, 'old', zeroblob(100000))")
    done = vacuum(path)
    assert done.before - done.after > 90_000
    assert os.path.getsize(path) == done.after
    assert rows_of(path) == rows
    assert verify(path) == before
    assert SQLiteReader(path).snapshot() is None
    assert names(tmp_path) == ["run.db"]
    with read(path, types=TYPES) as view:
        assert view.report().open == 0


@pytest.mark.anyio
async def test_a_board_in_use_is_not_vacuumed(file_board: Boards) -> None:
    board = file_board()
    await board.publish(A())
    with pytest.raises(BoardBusy):
        vacuum(board._store.name)


def test_what_is_no_board_is_neither_verified_nor_vacuumed(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    path.write_bytes(b"x" * 10_000)
    for look in (verify, vacuum):
        with pytest.raises(NotABoard):
            look(path)
    assert path.read_bytes() == b"x" * 10_000
