"""The log alone says what an activation was made of, so that a later run can tell what it has in common with this one:
who it is as defined then, the contents of its inputs, whatever their positions, and what it asked of its effects."""

from hashlib import blake2b
from typing import Any

import pytest

from stigmergy import Blackboard, Context, Roster, View
from stigmergy.blackboard import events as ev
from stigmergy.models import Scripted
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C

pytestmark = pytest.mark.anyio


def digest(*parts: object) -> str:
    return blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def content_keys(view: View) -> dict[str, set[tuple[str, ...]]]:
    """Agent -> the content keys of its activations, each with those of its effects; of the events, and in one pass."""
    defined: dict[str, str] = {}
    content: dict[int, str] = {}
    key: dict[int, str] = {}
    agent: dict[int, str] = {}
    effects: dict[int, set[str]] = {}
    for e in view.events():
        match e:
            case ev.Enrolled(role="agent"):
                defined[e.name] = e.fingerprint
            case ev.Published():
                content[e.seq] = digest(e.type, e.version, e.schema, e.payload)
            case ev.Activated():
                inputs = [content[i] for i in e.inputs]
                key[e.seq] = digest(defined[e.agent], e.subscription, e.slots, inputs)
                agent[e.seq], effects[e.seq] = e.agent, set()
            case ev.Calling():
                effects[e.cause].add(digest(e.key, e.name, e.digest))
    found: dict[str, set[tuple[str, ...]]] = {}
    for id, name in agent.items():
        found.setdefault(name, set()).add((key[id], *sorted(effects[id])))
    return found


def team(*, key: str = "k", tone: str = "Thinks.") -> Roster:
    roster = Roster()

    @roster.agent
    async def double(a: A, ctx: Context) -> B:
        return B(n=await ctx.call("double", twice, a.n), key=a.key)

    roster.agent("pair").consumes(A, B, by="key", where={"key": key}).publishes(C).body(pair)
    roster.agent("thinker").description(tone).consumes(C).publishes(B)
    return roster


def twice(n: int) -> int:
    return 2 * n


async def pair(a: A, b: B) -> C:
    return C(n=a.n + b.n)


async def ran(board: Blackboard, *payloads: Any) -> dict[str, set[tuple[str, ...]]]:
    await board.publish_many(payloads)
    report = await board.run_until_idle(horizon=None)
    assert report.dead == 0
    return content_keys(board)


def options() -> dict[str, Any]:
    return {"clock": VirtualClock(), "model": Scripted(lambda _: B(n=7, key="of a model"))}


async def test_the_same_work_has_the_same_keys_wherever_and_in_whatever_order(new_board: Boards) -> None:
    one = await ran(new_board(team(), **options()), A(n=1, key="k"), A(n=2, key="other"))
    board = new_board(team(), **options())
    await ran(board, A(n=2, key="other"))
    board = await new_board.reopened(board, team(), **options())
    two = await ran(board, A(n=1, key="k"))
    assert {name: len(keys) for name, keys in one.items()} == {"double": 2, "pair": 1, "thinker": 1}
    assert all(len(key) == 2 for key in one["double"] | one["thinker"]), "one effect each"
    [(told, _)], [(told_again, _)] = one.pop("thinker"), two.pop("thinker")
    assert told == told_again, "its prompt names positions, its inputs are the same"
    assert one == two


async def test_another_input_definition_or_request_to_a_model_is_another_key(new_board: Boards) -> None:
    before = await ran(new_board(team(), **options()), A(n=1, key="k"))
    other_input = await ran(new_board(team(), **options()), A(n=5, key="k"))
    assert not any(before[name] & other_input[name] for name in before)
    redefined = await ran(new_board(team(key="k2"), **options()), A(n=1, key="k"))
    assert redefined["double"] == before["double"]
    assert "pair" not in redefined
    [(told, asked)] = before["thinker"]
    [(told_otherwise, asked_otherwise)] = (await ran(new_board(team(tone="Dreams."), **options()), A(n=1, key="k")))[
        "thinker"
    ]
    assert told == told_otherwise, "it has the same inputs"
    assert asked != asked_otherwise, "the prompt is part of what it asks its model"


async def test_a_redefined_agent_has_other_keys_for_the_same_inputs(new_board: Boards) -> None:
    def with_filter(tags: tuple[str, ...]) -> Roster:
        roster = Roster()
        roster.agent("pair").consumes(A, where=[], tags=tags).publishes(B).body(single)
        return roster

    board, other = new_board(with_filter(("x",))), new_board(with_filter(("x", "y")))
    for b in (board, other):
        await b.publish(A(n=1), tags=["x"])
        await b.run_until_idle()
    assert content_keys(board)["pair"].isdisjoint(content_keys(other)["pair"])


async def single(a: A) -> B:
    return B(n=a.n)
