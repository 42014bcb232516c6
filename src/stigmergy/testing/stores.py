"""What every store must do: `CHECKS`, plain async functions of a store maker, by passing which a store proves itself.

    @pytest.mark.anyio
    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_my_store(check: Check, tmp_path: Path) -> None:
        await check(lambda: MyStore(tmp_path / "board"))

A maker makes an empty store that is not open. Needs `stigmergy[testing]`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from threading import Thread

import pytest

from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.stores.base import Row, Snapshot, Store

StoreMaker = Callable[[], Store]
Check = Callable[[StoreMaker], Awaitable[None]]


def row(seq: int, kind: str = "Completed", *, cause: int = 0, body: str = "{}", payload: str = "") -> Row:
    """A row with only what a check is about."""
    return Row(seq, seq, 1_763_647_672.25 + seq, kind, cause, None, None, None, None, body, payload)


def published(
    seq: int, type_: str = "Order", run: str = "main", *, key: str | None = None, work: str | None = None
) -> Row:
    """A `Published` row."""
    made = row(seq, "Published", body='{"i":"\\u0000"}', payload=f'{{"n":{seq}}}')
    return made._replace(type=type_, run=run, key=key, work=work)


@asynccontextmanager
async def opened(make: StoreMaker) -> AsyncIterator[Store]:
    """A store that is open inside."""
    store = make()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def an_empty_store_has_nothing(make: StoreMaker) -> None:
    async with opened(make) as store:
        reader = store.reader()
        assert reader.last() == 0
        assert list(reader.events()) == []
        assert reader.event(1) is None
        assert list(reader.artifacts()) == []
        assert reader.count() == 0
        assert reader.following(0) == []
        assert reader.by_key("main", "k") is None
        assert reader.by_work("main", "w") is None
        assert reader.calls(1) == []
        assert reader.snapshot() is None
        await store.append([])
        assert reader.last() == 0


async def rows_come_back_as_they_were(make: StoreMaker) -> None:
    rows = [
        Row(1, 1, 0.1, "Published", 0, "main", "Order", "k", "w", '{"a":1}', '{"text":"h\\u00e9 \\u0000 \\"q\\""}'),
        Row(2, 1, 1763647672.123456, "Activated", 1, None, None, None, None, '{"key":"é 漢 🌍"}', ""),
        Row(
            3, 1, 4e9 + 1 / 3, "Called", 2, None, None, None, None, "{}", '  {"big": 123456789012345678901234567890}\n'
        ),
        Row(9, 9, 4e9 + 1, "Opened", 0, None, None, None, None, '{"gap":5}', ""),
        Row(10, 9, 5e9, "SomethingNew", 2**40, "", "", "", "", "{}", "null"),
    ]
    async with opened(make) as store:
        await store.append(rows[:1])
        await store.append(rows[1:])
        reader = store.reader()
        assert list(reader.events()) == rows
        assert [reader.event(r.seq) for r in rows] == rows
        assert reader.last() == 10


async def deep_and_long_json_is_kept(make: StoreMaker) -> None:
    deep = "[" * 5_000 + "]" * 5_000
    long = '"' + "é" * 1_000_000 + '"'
    async with opened(make) as store:
        await store.append([row(1, "Called", payload=deep), row(2, "Called", payload=long)])
        assert [r.payload for r in store.reader().events()] == [deep, long]


async def names_may_hold_any_text(make: StoreMaker) -> None:
    odd = [
        "",
        " ",
        "'; DROP TABLE event; --",
        '"',
        "\\",
        "\n\r\t",
        "\x01\x1f\x7f",
        "null",
        "1",
        "é",
        "漢字",
        "🌍",
        "\u2028",
    ]
    async with opened(make) as store:
        rows = [published(i, type_=text, run=text, key=text, work=text) for i, text in enumerate(odd, 1)]
        await store.append(rows)
        reader = store.reader()
        assert list(reader.events()) == rows
        for kept, text in zip(rows, odd, strict=True):
            assert reader.by_key(text, text) == kept
            assert reader.by_work(text, text) == kept
            assert list(reader.artifacts(text, text)) == [kept]


async def text_that_no_file_can_hold_is_refused_whole(make: StoreMaker) -> None:
    async with opened(make) as store:
        for bad in (
            published(2, key="a\0b"),
            published(2, work="\0"),
            published(2, run="r\0"),
            published(2, type_="\0T"),
            published(2, key="\ud800"),
            row(2, body='"\udfff"'),
        ):
            with pytest.raises(StoreError):
                await store.append([published(1), bad])
        assert store.reader().last() == 0
        assert store.reader().count() == 0
        await store.append([published(1)])
        assert store.reader().last() == 1


async def an_append_that_is_refused_leaves_nothing(make: StoreMaker) -> None:
    async with opened(make) as store:
        await store.append([published(1, key="once"), row(2)])
        reader = store.reader()
        before = list(reader.events())
        for bad in (
            [row(3), row(2)],
            [row(3), published(4, key="once")],
            [published(3, key="k"), published(4, key="k")],
        ):
            with pytest.raises(StoreError):
                await store.append(bad)
            assert list(reader.events()) == before
            assert reader.count() == 1
            assert reader.by_key("main", "k") is None
            assert reader.following(0) == before
        await store.append([published(3, key="once", run="other")])
        assert reader.last() == 3


async def events_are_read_between_positions_and_by_kind(make: StoreMaker) -> None:
    rows = [row(i, "Completed" if i % 3 else "Failed") for i in range(1, 1_302)]
    rows += [row(3_000, "Opened", body='{"gap":1698}'), *(row(i, "Ended") for i in range(3_001, 3_010))]
    async with opened(make) as store:
        await store.append(rows)
        reader = store.reader()
        assert list(reader.events()) == rows
        assert [r.seq for r in reader.events(after=1_299)] == [1_300, 1_301, *range(3_000, 3_010)]
        assert [r.seq for r in reader.events(after=10, until=13)] == [11, 12, 13]
        assert [r.seq for r in reader.events(after=1_301, until=2_999)] == []
        assert [r.seq for r in reader.events(after=5_000)] == []
        assert list(reader.events(kinds=["Failed", "Ended"])) == [r for r in rows if r.kind in ("Failed", "Ended")]
        assert list(reader.events(after=1_200, until=1_206, kinds=["Failed"])) == [rows[1_202], rows[1_205]]
        assert list(reader.events(kinds=["Unheard"])) == []
        assert reader.event(2_000) is None
        assert reader.event(3_005) == row(3_005, "Ended")


async def artifacts_are_found_by_type_and_run(make: StoreMaker) -> None:
    rows = [published(i, type_="AB"[i % 2], run="xyz"[i % 3]) if i % 5 else row(i, "Claimed") for i in range(1, 2_401)]
    wanted = [r for r in rows if r.kind == "Published"]
    async with opened(make) as store:
        for start in range(0, len(rows), 100):
            await store.append(rows[start : start + 100])
        reader = store.reader()
        for type_ in (None, "A", "B", "C"):
            for run in (None, "x", "y", "z", "w"):
                fit = [r for r in wanted if type_ in (None, r.type) and run in (None, r.run)]
                assert list(reader.artifacts(type_, run)) == fit
                assert list(reader.artifacts(type_, run, newest_first=True)) == fit[::-1]
                assert reader.count(type_, run) == len(fit)
                part = [r for r in fit if 100 < r.seq <= 2_000]
                assert list(reader.artifacts(type_, run, after=100, until=2_000)) == part
                assert list(reader.artifacts(type_, run, after=100, until=2_000, newest_first=True)) == part[::-1]
                assert reader.count(type_, run, until=100) == len([r for r in fit if r.seq <= 100])


async def a_key_and_a_work_id_belong_to_a_run(make: StoreMaker) -> None:
    rows = [
        published(1, key="k", work="w"),
        published(2, key="k", work="w", run="other"),
        published(3, key="k2"),
        row(4, "Calling")._replace(run="main", key="k3", work="w3"),
    ]
    async with opened(make) as store:
        await store.append(rows)
        reader = store.reader()
        assert reader.by_key("main", "k") == rows[0]
        assert reader.by_key("other", "k") == rows[1]
        assert reader.by_key("main", "k2") == rows[2]
        assert reader.by_work("main", "w") == rows[0]
        assert reader.by_work("other", "w") == rows[1]
        for absent in (reader.by_key("other", "k2"), reader.by_key("main", "k3"), reader.by_key("main", "w")):
            assert absent is None
        for absent in (reader.by_work("main", "w3"), reader.by_work("main", "k")):
            assert absent is None


async def what_follows_from_a_position_is_found(make: StoreMaker) -> None:
    rows = [
        published(1),
        row(2, "Activated", cause=1),
        row(3, "Activated", cause=1),
        row(4, "Calling", cause=2),
        row(5, "Calling", cause=2),
        row(6, "Called", cause=5),
        row(7, "Called", cause=4),
        published(8),
        row(9, "Completed", cause=2),
        row(10, "Rang", cause=77),
        row(11, "Calling", cause=3),
    ]
    async with opened(make) as store:
        await store.append(rows[:5])
        await store.append(rows[5:])
        reader = store.reader()
        assert [r.seq for r in reader.following(1)] == [2, 3]
        assert [r.seq for r in reader.following(2)] == [4, 5, 9]
        assert [r.seq for r in reader.following(0)] == [1, 8]
        assert reader.following(9) == []
        assert [r.seq for r in reader.calls(2)] == [4, 5, 6, 7]
        assert [r.seq for r in reader.calls(3)] == [11]
        assert reader.calls(1) == []


async def the_newest_fitting_snapshot_is_found(make: StoreMaker) -> None:
    async with opened(make) as store:
        await store.append([row(i) for i in range(1, 101)])
        reader = store.reader()
        for seq in (10, 50, 30):
            await store.save_snapshot(Snapshot(seq, "code", bytes([seq, 0, 255])))
        assert reader.snapshot() == Snapshot(50, "code", bytes([50, 0, 255]))
        assert reader.snapshot(49) == Snapshot(30, "code", bytes([30, 0, 255]))
        assert reader.snapshot(30) == Snapshot(30, "code", bytes([30, 0, 255]))
        assert reader.snapshot(9) is None
        again = replace(Snapshot(50, "code", b""), code="newer")
        await store.save_snapshot(again)
        assert reader.snapshot() == again


async def what_is_erased_is_gone_and_nothing_else(make: StoreMaker) -> None:
    kept = "a" * 4_000
    rows = [
        published(1)._replace(payload='"gone"'),
        row(2, "Activated")._replace(cause=1),
        published(3, key="k")._replace(payload=f'"{kept}"'),
        row(4, "Called", cause=2)._replace(payload='"replied"'),
        published(5)._replace(payload=f'"é{kept}"'),
        published(6)._replace(payload='"later"'),
    ]
    async with opened(make) as store:
        await store.append(rows)
        await store.save_snapshot(Snapshot(6, "code", b"gone"))
        await store.erase(6, [3])
        assert store.reader().snapshot() is None
        await store.append([published(7)])
        await store.erase(6, [3])  # again: nothing is left to do
        wanted = [r._replace(payload="") if r.seq in (1, 4, 5) else r for r in rows]
        reader = store.reader()
        assert [*reader.events(until=6)] == wanted
        assert reader.by_key("main", "k") == rows[2]
        assert [r.seq for r in reader.artifacts("Order")] == [1, 3, 5, 6, 7]


async def reading_may_go_on_while_rows_are_appended(make: StoreMaker) -> None:
    async with opened(make) as store:
        await store.append([published(i) for i in range(1, 1_201)])
        reader = store.reader()
        events, artifacts = reader.events(), reader.artifacts("Order")
        assert (next(events).seq, next(artifacts).seq) == (1, 1)
        await store.append([published(i) for i in range(1_201, 1_251)])
        assert [r.seq for r in events] == list(range(2, 1_251))
        assert [r.seq for r in artifacts] == list(range(2, 1_251))


async def other_threads_see_whole_appends(make: StoreMaker) -> None:
    async with opened(make) as store:
        reader = store.reader()
        await store.append([published(i, key=str(i)) for i in range(1, 5)])
        torn: list[object] = []
        done = False

        def watch() -> None:
            while not done:
                last = reader.last()
                seen = [r.seq for r in reader.events()]
                if last % 4 or len(seen) % 4 or seen != list(range(1, len(seen) + 1)) or reader.count() % 4:
                    torn.append((last, len(seen)))
                newest = reader.by_key("main", str(last))
                if newest is None or reader.event(last) != newest:
                    torn.append(last)

        thread = Thread(target=watch)
        thread.start()
        try:
            for start in range(5, 405, 4):
                await store.append([published(i, key=str(i)) for i in range(start, start + 4)])
        finally:
            done = True
            thread.join()
        assert torn == []
        assert reader.last() == 404


async def an_immediate_store_keeps_rows_at_once(make: StoreMaker) -> None:
    async with opened(make) as store:
        if store.immediate:
            store.append_now([row(1), row(2)])
            assert store.reader().last() == 2
        else:
            with pytest.raises(StoreError):
                store.append_now([row(1)])
            assert store.reader().last() == 0


CHECKS: list[Check] = [
    an_empty_store_has_nothing,
    rows_come_back_as_they_were,
    deep_and_long_json_is_kept,
    names_may_hold_any_text,
    text_that_no_file_can_hold_is_refused_whole,
    an_append_that_is_refused_leaves_nothing,
    events_are_read_between_positions_and_by_kind,
    artifacts_are_found_by_type_and_run,
    a_key_and_a_work_id_belong_to_a_run,
    what_follows_from_a_position_is_found,
    the_newest_fitting_snapshot_is_found,
    what_is_erased_is_gone_and_nothing_else,
    reading_may_go_on_while_rows_are_appended,
    other_threads_see_whole_appends,
    an_immediate_store_keeps_rows_at_once,
]
