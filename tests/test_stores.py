"""Both stores keep the same promises, and the same rows."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from stigmergy.blackboard.errors import StoreError, StoreLooksLikeModel
from stigmergy.blackboard.stores.base import Row, Store
from stigmergy.blackboard.stores.choose import store_for
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.blackboard.stores.sqlite import SQLiteStore
from stigmergy.testing.stores import CHECKS, Check, StoreMaker, published, row


@pytest.fixture(params=["memory", "sqlite", "sqlite-fast"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreMaker:
    def make() -> Store:
        if request.param == "memory":
            return MemoryStore()
        return SQLiteStore(tmp_path / "board.db", "fast" if request.param == "sqlite-fast" else "full")

    return make


@pytest.mark.anyio
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_every_store(check: Check, make_store: StoreMaker) -> None:
    await check(make_store)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
names = st.none() | texts
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
).map(lambda value: to_json(value, inf_nan_mode="strings").decode("utf-8", "replace"))
times = st.floats(0, 2**33).filter(lambda at: at == 0 or at > 1e-3)


@st.composite
def logs(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    seq = 0
    for _ in range(draw(st.integers(1, 12))):
        gap = draw(st.integers(0, 2))
        seq += gap + 1
        kind = "Opened" if gap else draw(st.sampled_from(["Published", "Activated", "Calling", "Called", "Later"]))
        run, type_, key, work = (draw(names) for _ in range(4))
        if kind == "Published":
            run, type_ = run or "main", type_ or "T"
        if any(r.kind == kind == "Published" and (r.run, r.key) == (run, key) for r in rows):
            key = None
        body = f'{{"gap":{gap}}}' if gap else draw(json_values)
        payload = draw(st.just("") | json_values)
        rows.append(Row(seq, seq, draw(times), kind, draw(st.integers(0, seq)), run, type_, key, work, body, payload))
    return rows


@settings(max_examples=60)
@given(log=logs(), data=st.data())
def test_whatever_is_appended_comes_back_the_same_from_both_stores(
    log: list[Row], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cut = data.draw(st.integers(0, len(log)))

    async def keep() -> None:
        stores: list[Store] = [MemoryStore(), SQLiteStore(tmp_path_factory.mktemp("log") / "board.db", "fast")]
        for store in stores:
            await store.open()
            await store.append(log[:cut])
            await store.append(log[cut:])
            assert list(store.reader().events()) == log
        memory, file = (store.reader() for store in stores)
        for r in log:
            assert memory.following(r.seq) == file.following(r.seq)
            assert memory.calls(r.seq) == file.calls(r.seq)
            assert list(memory.artifacts(r.type, r.run)) == list(file.artifacts(r.type, r.run))
            if r.run is not None:
                assert memory.by_key(r.run, r.key or "") == file.by_key(r.run, r.key or "")
                assert memory.by_work(r.run, r.work or "") == file.by_work(r.run, r.work or "")
        for store in stores:
            await store.close()

    asyncio.run(keep())


@pytest.mark.anyio
async def test_a_closed_file_is_one_file_and_opens_with_all_it_had(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "run.db")
    await store.open()
    await store.append([published(1, key="k"), row(2)])
    assert store.reader().last() == 2
    await store.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.db"]
    again = SQLiteStore(tmp_path / "run.db")
    await again.open()
    await again.append([row(3)])
    assert [r.seq for r in again.reader().events()] == [1, 2, 3]
    await again.close()


def test_a_store_is_chosen_by_what_is_given(tmp_path: Path) -> None:
    assert isinstance(store_for(None), MemoryStore)
    assert isinstance(store_for(":memory:"), MemoryStore)
    for value in ("run.db", "runs/a.sqlite", "a.sqlite3", Path("board"), tmp_path / "x.log"):
        store = store_for(value)
        assert isinstance(store, SQLiteStore)
        assert store.name == str(value)
    mine = MemoryStore()
    assert store_for(mine) is mine
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["openai/gpt-4.1", "gpt-4.1", "board", ""])
def test_the_name_of_a_model_is_no_store(value: str) -> None:
    with pytest.raises(StoreLooksLikeModel, match="A model goes to model="):
        store_for(value)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 767, 1024, 1025, 3000])
async def test_an_append_of_any_size_is_kept_whole_or_not_at_all(make_store: StoreMaker, size: int) -> None:
    store = make_store()
    await store.open()
    log = [row(seq, body=f'{{"n":{seq}}}') for seq in range(1, size + 1)]
    await store.append(log)
    with pytest.raises(StoreError):
        await store.append([*(row(seq) for seq in range(size + 1, 2 * size)), row(size)])
    assert list(store.reader().events()) == log
    with pytest.raises(StoreError, match="not Unicode"):
        await store.append([*(row(seq) for seq in range(size + 1, 2 * size)), row(2 * size, body='"half \ud800"')])
    assert list(store.reader().events()) == log
    await store.close()
