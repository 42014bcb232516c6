"""Boards on files that are no boards, damaged, full, not writable, owned by others, or taken away: an error of one
family in one line, the file as it was, and everything acknowledged still there."""

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from stigmergy import Blackboard, read
from stigmergy.blackboard.errors import (
    BoardBroken,
    BoardBusy,
    NewerBoard,
    NotABoard,
    OutcomeUnknown,
    StigmergyError,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.format import COLUMNS
from stigmergy.blackboard.stores.seals import digest_of, sum_of
from tests.boards import A, B, Boards, copying, numbers
from tests.trouble import goes_on, one_line, with_a_witness, without_privileges

pytestmark = pytest.mark.anyio

PAGE = 4096


async def filled(path: Path, count: int = 20) -> list[int]:
    """A closed board with so many A and their B; what was acknowledged."""
    async with copying(Blackboard(path)) as board:
        await board.publish_many([A(n=n, key="x" * 200) for n in range(count)])
        assert (await board.run_until_idle()).ok
    return list(range(count))


def edited(path: Path, script: str, *, snapshots: bool = False) -> None:
    """Change a board behind its back, as no program should."""
    connection = sqlite3.connect(path)
    connection.executescript(("" if snapshots else "DELETE FROM snapshot; ") + script)
    connection.close()


def written(path: Path, script: str) -> None:
    """Change a board as a later version might write it: with the proofs that belong to it."""
    edited(path, script)
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = [Row._make(values) for values in connection.execute(f"SELECT {COLUMNS} FROM event").fetchall()]
        proofs = [(digest_of(row.payload), sum_of(row), row.seq) for row in rows]
        connection.executemany("UPDATE event SET digest = ?, crc = ? WHERE seq = ?", proofs)


async def says(path: Path, error: type[StigmergyError], text: str) -> None:
    """Whoever uses the file, in whatever way, is told the same, and the file stays as it is."""
    before = path.read_bytes() if path.is_file() else None

    async def publish() -> None:
        async with Blackboard(path) as board:
            await board.publish(A(n=1))

    async def run() -> None:
        async with copying(Blackboard(path)) as board:
            await board.run_until_idle()

    async def look() -> None:
        with read(path) as view:
            view.artifacts(A).payloads.copy()
            view.report()

    for use in (publish, run, look):
        with pytest.raises(error) as raised:
            await use()
        assert text in one_line(raised.value), use.__name__
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not Path(f"{path}.lock").exists()


# -- what is no board --------------------------------------------------------------------------------------------------


def text_file(path: Path) -> None:
    path.write_text("a,b\n1,2\n")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE event (seq INTEGER)")
    connection.close()


def later_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA application_id = {int.from_bytes(b'Stig')}; PRAGMA user_version = 9")
    connection.close()


def only_the_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").write_bytes(b"the events of a board whose file is gone")


NO_BOARDS: list[tuple[Callable[[Path], object], type[StoreError], str]] = [
    (text_file, NotABoard, "run.db is no database. Choose another file for the board."),
    (noise, NotABoard, "run.db is no database. Choose another file for the board."),
    (another_program, NotABoard, "run.db is a database of another program. Choose another file for the board."),
    (later_version, NewerBoard, "run.db has format 9; this version reads up to 3. Update stigmergy."),
    (Path.mkdir, StoreError, "run.db is a folder. Give the name of a file in it."),
    (os.mkfifo, StoreError, "run.db is no regular file. A board needs one: choose another name."),
    (only_the_log, StoreDamaged, "run.db is gone, but "),
]


@pytest.mark.parametrize(("make", "error", "text"), NO_BOARDS, ids=[n[0].__name__ for n in NO_BOARDS])
async def test_what_is_no_board_is_refused_and_stays_as_it_is(
    tmp_path: Path, make: Callable[[Path], object], error: type[StoreError], text: str
) -> None:
    path = tmp_path / "run.db"
    make(path)
    await says(path, error, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no/run.db", "there is no folder "),
        ("text.db/run.db", "there is no folder "),
        ("x" * 300 + ".db", "cannot be opened: File name too long. Choose another file for the board."),
        ("a\0b.db", "is no file name (embedded null byte). Choose another one for the board."),
    ],
    ids=["no folder", "a file for a folder", "long name", "NUL"],
)
async def test_a_place_where_no_file_can_be_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "text.db").touch()
    with pytest.raises(StoreError) as raised:
        await Blackboard(tmp_path / name).publish(A())
    assert text in one_line(raised.value)
    with pytest.raises(StoreError) as raised:
        read(tmp_path / name).report()
    one_line(raised.value)


async def test_an_empty_file_is_no_board_to_read_and_becomes_one_at_the_first_publish(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    path.touch()
    with pytest.raises(NotABoard) as raised:
        read(path).report()
    assert "is an empty file, no board yet. The first publish makes it one." in one_line(raised.value)
    assert await filled(path) == numbers(read(path), B)


# -- damage ------------------------------------------------------------------------------------------------------------


async def test_a_board_that_was_cut_off_anywhere_is_damaged_and_not_made_worse(tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    await filled(whole)
    data = whole.read_bytes()
    assert len(data) > 8 * PAGE
    for size in [*range(PAGE, len(data), PAGE), PAGE + 100]:
        path = tmp_path / f"{size}.db"
        path.write_bytes(data[:size])
        await says(
            path, StoreDamaged, f"{size}.db is damaged. Restore a copy, or save what is intact: stigmergy verify "
        )


async def test_a_board_with_a_page_of_noise_says_so_or_works(tmp_path: Path) -> None:
    """Damage that SQLite finds only when it comes to that page: until then what is read is right."""
    whole = tmp_path / "whole.db"
    acknowledged = await filled(whole)
    data = whole.read_bytes()
    refused: list[StigmergyError] = []
    for at in range(0, len(data), PAGE):
        path = tmp_path / f"{at}.db"
        path.write_bytes(data[:at] + b"\xa5" * PAGE + data[at + PAGE :])
        try:
            with read(path, [A, B]) as view:
                assert numbers(view, A) == acknowledged
            async with copying(Blackboard(path)) as board:
                await board.publish(A(n=77))
                await board.run_until_idle()
        except StigmergyError as error:
            refused.append(error)
    assert len(refused) > 3
    assert isinstance(refused[0], NotABoard)
    for refusal in refused[1:]:
        assert isinstance(refusal, StoreDamaged | OutcomeUnknown | BoardBroken)
        assert "is damaged. Restore a copy, or save what is intact: stigmergy verify " in one_line(refusal)


EDITED: list[tuple[str, type[StigmergyError], str]] = [
    ("DROP TABLE event", StoreDamaged, "lacks a part of what a board is. Restore a copy. (SQLITE_ERROR: no such table"),
    ("UPDATE event SET body = '{' WHERE seq = 3", StoreDamaged, "event 3 (Published) cannot be read (Invalid JSON"),
    ("UPDATE event SET body = '[]' WHERE seq = 3", StoreDamaged, "event 3 (Published) cannot be read (Input should"),
    ("UPDATE event SET kind = 'Later' WHERE seq = 3", NewerBoard, "event 3 is a 'Later', which this version does not"),
    ("UPDATE event SET body = json_set(body, '$.mood', 'good') WHERE seq = 3", NewerBoard,
     "event 3 (Published) says something of mood that this version does not know. Update stigmergy."),
    ("UPDATE event SET body = json_set(body, '$.priority', 'cosmic') WHERE seq = 3", NewerBoard,
     "event 3 (Published) says something of priority that this version does not know. Update stigmergy."),
    ("UPDATE event SET body = json_set(body, '$.visibility', json('{\"moon\": 1}')) WHERE seq = 3", NewerBoard,
     "event 3 (Published) says something of visibility.moon that this version does not know. Update stigmergy."),
]  # fmt: skip


@pytest.mark.parametrize(("script", "error", "text"), EDITED, ids=range(len(EDITED)))
async def test_a_board_that_another_program_wrote_in_is_refused(
    tmp_path: Path, script: str, error: type[StigmergyError], text: str
) -> None:
    path = tmp_path / "run.db"
    await filled(path)
    if script.startswith("DROP"):
        edited(path, script)
    else:
        written(path, script)
    await says(path, error, text)


async def test_a_board_in_which_another_program_changed_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    await filled(path)
    edited(path, "UPDATE event SET at = at + 1 WHERE seq = 3")
    await says(path, StoreDamaged, "run.db is damaged at event 3: it is not what was written. Restore a copy, or save ")


@pytest.mark.parametrize("known", [True, False])
async def test_a_payload_that_cannot_be_read_is_named(tmp_path: Path, known: bool) -> None:
    path = tmp_path / "run.db"
    await filled(path)
    written(path, "UPDATE event SET payload = '{' WHERE kind = 'Published' AND type = 'B'")
    with read(path, [A, B] if known else [A]) as view:
        assert len(view.artifacts(A).payloads) == 20
        with pytest.raises(StoreDamaged) as raised:
            list(view.artifacts("B"))
        assert one_line(raised.value) == "the payload of a stored B is no JSON. Restore a copy of the board."


@pytest.mark.parametrize("state", ["x'00'", "x'7b7d'", "substr(state, 1, length(state) / 2)"])
async def test_a_damaged_snapshot_is_not_needed(tmp_path: Path, state: str) -> None:
    path = tmp_path / "run.db"
    acknowledged = await filled(path)
    edited(path, f"UPDATE snapshot SET state = {state}", snapshots=True)
    with read(path) as view:
        assert view.report().done == len(acknowledged)
    async with copying(Blackboard(path)) as board:
        assert (await board.run_until_idle()).done == len(acknowledged)


# -- what cannot be written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_board_that_may_only_be_read_is_read(open_folder: Path, what: str) -> None:
    path = open_folder / "run.db"
    acknowledged = await filled(path)
    path.chmod(0o444)
    open_folder.chmod(0o777 if what == "file" else 0o555)
    try:
        with without_privileges():
            with pytest.raises(StoreReadOnly) as raised:
                await Blackboard(path).publish(A())
            assert f'Use read("{path}")' in one_line(raised.value)
            with read(path, [B]) as view:
                assert numbers(view, B) == acknowledged
                assert view.report().ok
    finally:
        open_folder.chmod(0o755)
    path.chmod(0o644)
    async with with_a_witness(Blackboard(path)) as board:
        await goes_on(board)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a disk of half a megabyte."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this machine mounts no small disk: {mounted.stderr!r}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


async def until_it_is_full(board: Blackboard) -> tuple[list[int], StigmergyError]:
    """Publish until the disk takes no more; what was acknowledged, and what was said then."""
    kept: list[int] = []
    try:
        for n in range(1_000):
            kept.append((await board.publish(A(n=n, key="x" * 5_000))).payload.n)
    except StigmergyError as error:
        return kept, error
    raise AssertionError("the disk did not fill up")


@pytest.mark.parametrize("running", [False, True])
async def test_on_a_full_disk_what_was_acknowledged_stays_and_the_board_goes_on_when_there_is_room(
    tmp_path: Path, running: bool
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "run.db"
        board = with_a_witness(Blackboard(path))
        if running:

            @board.agent
            async def grows(a: A) -> B:
                return B(n=a.n, key="x" * 50_000)

            kept = [(await board.publish(A(n=n))).payload.n for n in range(20)]
            report = await board.run_until_idle()
            assert report.reason == "broken"
            assert "the disk is full" in report.detail
            kept_there = read(path).report()
            assert (report.done, report.artifacts, report.open) == (
                kept_there.done, kept_there.artifacts, kept_there.open
            )  # fmt: skip
            with pytest.raises(BoardBroken) as broken:
                await board.publish(A())
            one_line(broken.value)
        else:
            kept, error = await until_it_is_full(board)
            assert isinstance(error, OutcomeUnknown)
            assert "the disk is full. Make room" in one_line(error)
            assert isinstance(error.__cause__, StoreFull)
        await board.close()
        with read(path, [A]) as view:
            found = numbers(view, A)
            assert found[: len(kept)] == kept
        roomy = tmp_path / "run.db"
        for suffix in ("", "-wal"):
            if Path(f"{path}{suffix}").exists():
                shutil.copy(f"{path}{suffix}", f"{roomy}{suffix}")
    async with with_a_witness(Blackboard(roomy)) as again:
        assert numbers(again, A) == found
        await goes_on(again)


async def test_a_limit_on_the_size_of_files_is_as_good_as_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    board = with_a_witness(Blackboard(path))
    await board.publish(A(n=-1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))  # Python ignores the signal that comes with it
    try:
        kept, error = await until_it_is_full(board)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(error, OutcomeUnknown)
    assert "SQLITE_" in one_line(error)
    await board.close()
    async with with_a_witness(Blackboard(path)) as again:
        assert numbers(again, A)[: len(kept) + 1] == [-1, *kept]
        await goes_on(again)


GROWING = """
from pydantic import BaseModel
from stigmergy import Roster

class Seed(BaseModel):
    n: int

class Grown(BaseModel):
    text: str

roster = Roster()

@roster.agent
async def grow(seed: Seed) -> Grown:
    return Grown(text="x" * 50_000)
"""


def test_a_disk_that_fills_up_in_a_run_is_a_store_that_cannot_be_used_and_the_report_shows_what_is_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / "growing.py").write_text(GROWING)
    (tmp_path / "seeds.jsonl").write_text("\n".join(f'{{"n": {n}}}' for n in range(20)))
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000));"
        "from stigmergy.cli import main; main()"
    )
    line = ["run", "growing.py", "--seed", "seeds.jsonl", "--type", "Seed", "--store", "run.db", "--json"]
    done = subprocess.run([sys.executable, "-c", limited, *line], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")
    said, kept = json.loads(done.stdout), read(tmp_path / "run.db").report()
    assert said["reason"] == "broken"
    assert (said["done"], said["artifacts"], said["open"]) == (kept.done, kept.artifacts, kept.open)
    assert kept.open


# -- what somebody else does to it -------------------------------------------------------------------------------------

OWNER = """
import asyncio, sys
from pathlib import Path
from tests.boards import A
from stigmergy import Blackboard

async def main():
    async with Blackboard(Path(sys.argv[1])) as board:
        await board.publish_many([A(n=n) for n in range(5)])
        print("ready", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


async def test_a_board_of_another_process_can_be_read_and_is_taken_over_when_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root / "src"), str(root)))},
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        board = with_a_witness(Blackboard(path))
        for _ in range(2):
            with pytest.raises(BoardBusy) as raised:
                await board.publish(A())
            assert f"is owned by process {owner.pid} on " in one_line(raised.value)
        assert numbers(read(path, [A]), A) == [0, 1, 2, 3, 4]
        owner.kill()
        owner.wait()
    await goes_on(board)
    assert numbers(board, A) == [0, 1, 2, 3, 4, 77]
    await board.close()


def deleted(path: Path, away: Path) -> None:
    path.rename(away)


def replaced(path: Path, away: Path) -> None:
    path.rename(away)
    shutil.copy(away, path)


def log_deleted(path: Path, away: Path) -> None:
    Path(f"{path}-wal").rename(f"{away}-wal")


def everything_deleted(path: Path, away: Path) -> None:
    deleted(path, away)
    log_deleted(path, away)


@pytest.mark.parametrize("harm", [deleted, replaced, log_deleted, everything_deleted])
async def test_a_board_whose_files_are_taken_away_acknowledges_nothing_more(
    tmp_path: Path, harm: Callable[[Path, Path], None]
) -> None:
    path, away = tmp_path / "run.db", tmp_path / "away.db"
    board = with_a_witness(Blackboard(path))
    kept = [(await board.publish(A(n=n))).payload.n for n in range(5)]
    harm(path, away)
    with pytest.raises(OutcomeUnknown) as raised:
        await board.publish(A(n=99))
    assert "was deleted, moved or replaced while the board was open. Put it back, or choose" in one_line(raised.value)
    with pytest.raises(BoardBroken):
        await board.publish(A(n=100))
    await board.close()
    for suffix in ("", "-wal"):
        if Path(f"{away}{suffix}").exists():
            Path(f"{away}{suffix}").rename(f"{path}{suffix}")
    async with with_a_witness(Blackboard(path)) as again:
        assert numbers(again, A)[:5] == kept
        assert set(numbers(again, A)) <= {*kept, 99}
        await goes_on(again)


async def test_a_board_whose_lock_was_removed_gives_way_to_whoever_took_it(file_board: Boards) -> None:
    board = with_a_witness(file_board())
    await board.publish(A(n=1))
    path = Path(board._store.name)
    lock = Path(f"{path}.lock")
    lock.unlink()
    lock.write_text("of another process")
    with pytest.raises(OutcomeUnknown) as raised:
        await board.publish(A(n=2))
    assert "run.db.lock was removed" in one_line(raised.value).replace("board0", "run")
    await board.close()
    assert lock.read_text() == "of another process"
    assert numbers(read(path, [A]), A)[:1] == [1]
