"""Publishing the same thing twice: once on the board, also after a restart."""

import pytest

from stigmergy.blackboard.errors import InvalidPayload, KeyReused
from tests.boards import A, Boards, copying, numbers

pytestmark = pytest.mark.anyio


async def test_the_same_key_again_is_the_first_artifact_and_runs_nothing_twice(new_board: Boards) -> None:
    ran: list[int] = []
    board = copying(new_board(), ran)
    first = await board.publish(A(n=1), key="k")
    again = await board.publish(A(n=1), key="k")
    await board.run_until_idle()
    third = await board.publish(A(n=1), key="k")
    await board.run_until_idle()
    assert first == again == third
    assert ran == [1]
    assert board.artifacts(A).total == 1


async def test_a_key_survives_closing_and_opening(new_board: Boards) -> None:
    ran: list[int] = []
    board = copying(new_board(), ran)
    first = await board.publish(A(n=1), key="k")
    await board.run_until_idle()
    again = copying(await new_board.reopened(board), ran)
    second = await again.publish(A(n=1), key="k")
    await again.run_until_idle()
    assert second.id == first.id
    assert ran == [1]
    with pytest.raises(KeyReused):
        await again.publish(A(n=2), key="k")


async def test_a_key_survives_a_crash(file_board: Boards) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    first = await board.publish(A(n=1), key="k")
    again = copying(file_board.crashed(board), ran)
    second = await again.publish(A(n=1), key="k")
    await again.run_until_idle()
    assert second.id == first.id
    assert ran == [1]


async def test_a_key_for_another_payload_is_refused_and_nothing_is_published(new_board: Boards) -> None:
    board = new_board()
    await board.publish(A(n=1), key="k")
    with pytest.raises(KeyReused, match=r"key 'k' was used for another payload in run 'main'. Use a new key"):
        await board.publish(A(n=2), key="k")
    assert numbers(board, A) == [1]


async def test_a_key_stands_for_one_artifact_in_each_run(new_board: Boards) -> None:
    board = new_board()
    one = await board.publish(A(n=1), key="k", run="one")
    two = await board.publish(A(n=2), key="k", run="two")
    assert one.id != two.id


async def test_without_a_key_equal_payloads_are_different_artifacts(new_board: Boards) -> None:
    ran: list[int] = []
    board = copying(new_board(), ran)
    await board.publish(A(n=1))
    await board.publish(A(n=1))
    await board.run_until_idle()
    assert ran == [1, 1]


async def test_artifacts_with_other_keys_in_between_do_not_confuse_it(new_board: Boards) -> None:
    board = new_board()
    ids = {n: (await board.publish(A(n=n), key=str(n))).id for n in range(20)}
    assert {n: (await board.publish(A(n=n), key=str(n))).id for n in range(20)} == ids


@pytest.mark.parametrize("key", ["a\0b", "\ud800"])
async def test_a_key_that_no_file_can_hold_is_refused(new_board: Boards, key: str) -> None:
    board = new_board()
    with pytest.raises(InvalidPayload):
        await board.publish(A(), key=key)
    await board.publish(A(), key="ok")
    assert board.artifacts(A).total == 1
