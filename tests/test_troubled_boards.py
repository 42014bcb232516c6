"""Boards that people, models, components and budgets had a hand in are replayed, rewound and played like any other."""

import asyncio
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest

from stigmergy import Blackboard, HumanAnswer, HumanQuestion, Questions, Roster, View, replay
from stigmergy.blackboard.events import Calling
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.seeds import read_seeds, write_stream
from stigmergy.testing import VirtualClock, line, play
from stigmergy.testing.streams import as_file, shuffled, steps
from tests.boards import A, B, Boards, C, numbers
from tests.troubled_boards import STORIES, Story, counted, model

pytestmark = pytest.mark.anyio


@pytest.fixture(params=STORIES)
def story(request: pytest.FixtureRequest) -> Story:
    """Each of them."""
    return STORIES[request.param]


async def told(boards: Boards, story: Story, look: Callable[[Blackboard], None] = lambda board: None) -> Blackboard:
    """The board after its story; `look` is called whenever it stands still."""
    board = boards(story.team(), clock=VirtualClock(), model=model())
    await story.happens(board, lambda: look(board))
    kinds = {type(e).__name__ for e in board.events()} | {a.type_name for a in board.artifacts(held=True)}
    assert kinds >= story.kinds, "the story is not what it says"
    return board


async def test_what_happened_is_decided_the_same_way_again(new_board: Boards, story: Story) -> None:
    board = await told(new_board, story)
    found = replay(board, story.team())
    assert found.ok, str(found)
    assert (found.events, found.changed) == (board.last, ())


async def test_a_change_is_found_where_it_first_matters_with_its_cause(new_board: Boards, story: Story) -> None:
    board = await told(new_board, story)
    found = replay(board, story.team(**story.change))
    assert found.first is not None
    assert (found.first.cause, found.first.seq) == (story.cause, story.where(board)), str(found)
    assert replay(board, story.team(**story.change), until=found.first.tx - 1).ok


async def test_what_went_on_after_a_restart_is_decided_the_same_way_again(
    file_board: Boards, story: Story, ending: str
) -> None:
    board = await told(file_board, story)
    board = await file_board.after(ending, board, roster=story.team(), clock=VirtualClock(2_000_000_000), model=model())
    await board.run_until_idle(horizon=None)
    await board.publish_many([A(n=n) for n in (1, 2, 7)])
    await board.run_until_idle(horizon=None)
    found = replay(board, story.team())
    assert found.ok, str(found)


def shown(view: View, team: Roster) -> dict[str, Any]:
    """Everything that a view shows, of everybody and everything."""
    artifacts = view.artifacts(held=True)
    report = view.report()
    found: dict[str, Any] = {
        "report": report,
        "text": str(report),
        "json": report.to_json(),
        "artifacts": [repr(a) for a in artifacts],
        "dead letters": view.dead_letters(),
        "graph": view.graph().mermaid(),
        "events": [e.seq for e in view.events()],
        "last": view.last,
    }
    for component in team.components:
        found[component.name] = view.fold(component)
    for artifact in artifacts:
        found[f"why {artifact.ref}"] = str(view.why(artifact.id))
        for agent in team.agents:
            found[f"why not {agent.name} {artifact.ref}"] = view.why_not(agent, artifact.id)
    return found


@pytest.mark.req("S3.59")
async def test_every_view_of_every_moment_is_what_was_shown_then(new_board: Boards, story: Story) -> None:
    then: dict[int, dict[str, Any]] = {}

    def look(board: Blackboard) -> None:
        then[board.last] = shown(board, board)

    board = await told(new_board, story, look)
    assert len(then) > 2
    for position, views in then.items():
        now = shown(board.at(position), board)
        assert now.keys() == views.keys()
        for name, view in views.items():
            assert now[name] == view, f"{name} at {position}"


# -- streams -----------------------------------------------------------------------------------------------------------


def recording(view: View) -> list[str]:
    out = StringIO()
    write_stream(view, out)
    return out.getvalue().splitlines()


def from_agents(view: View, team: Roster, *, times: bool) -> list[tuple[object, ...]]:
    """What came from outside and from agents."""
    names = {"outside", *(agent.name for agent in team.agents)}
    return sorted(
        (a.type_name, a.payload.model_dump_json(), a.producer, a.priority, a.at if times else 0.0)
        for a in view.artifacts() if a.producer in names
    )  # fmt: skip


@pytest.mark.parametrize("shuffle", [None, 1, 2, 3])
def test_with_every_agent_muted_the_same_comes_of_the_exported_run(
    new_board: Boards, story: Story, shuffle: int | None
) -> None:
    source = Blackboard(roster=story.team(), clock=VirtualClock(), model=model())
    asyncio.run(told_on(source, story))
    again = new_board(story.team(), clock=VirtualClock(), model=model())
    play(again, recording(source), mute=again.agents, shuffle=shuffle)
    times = shuffle is None
    assert from_agents(again, again, times=times) == from_agents(source, source, times=times)
    assert not any(isinstance(event, Calling) for event in again.events())
    found = replay(again, story.team())
    assert found.ok, str(found)


async def told_on(board: Blackboard, story: Story) -> None:
    await story.happens(board, lambda: None)


def answers(view: View) -> list[tuple[str, object, str]]:
    """What was asked and answered, and by whom."""
    what = {a.id: a.payload.what for a in view.artifacts(HumanQuestion)}
    return [(what[a.question], a.value, a.by) for a in view.artifacts(HumanAnswer).payloads]


@pytest.mark.parametrize("before", [0, 3])
def test_a_live_agent_that_asks_gets_the_answer_that_was_recorded(new_board: Boards, before: int) -> None:
    story = STORIES["question"]
    source = Blackboard(roster=story.team(), clock=VirtualClock())
    asyncio.run(told_on(source, story))
    again = new_board(story.team(), clock=VirtualClock())
    in_front = [line(C(n=n)) for n in range(before)]  # so that the same is asked under another id
    report = play(again, [*recording(source)[:1], *in_front, *recording(source)[1:]])
    assert report.ok
    assert answers(again) == answers(source)
    assert len(answers(again)) == 3
    assert numbers(again, B) == numbers(source, B) == [1, 3]
    if not before:
        strict = new_board(story.team(), clock=VirtualClock(), model=model())
        play(strict, recording(source), strict=True)


def test_an_answer_to_what_nobody_asks_here_is_left_out(new_board: Boards) -> None:
    story = STORIES["question"]
    source = Blackboard(roster=story.team(), clock=VirtualClock())
    asyncio.run(told_on(source, story))
    silent = Roster(components=[Questions()])

    @silent.agent
    async def deploy(a: A) -> B:
        return B(n=a.n)

    silent.agent("counter").consumes(B).publishes(C).body(counted)
    again = new_board(silent, clock=VirtualClock())
    play(again, recording(source))
    assert (numbers(again, B), answers(again)) == ([1, 2, 3], [])


def test_a_shuffle_puts_answers_after_questions_and_keeps_the_order_of_an_activation() -> None:
    lines = [
        line(A(n=1), id=1),
        line(HumanQuestion(what="1?"), producer="ask", cause=2, id=3, inputs=[1]),
        line(HumanAnswer(question=3, value=True, by="person"), producer="person", cause=0, id=4),
        line(B(n=1), producer="ask", cause=2, id=5, inputs=[1], at=1),
    ]
    types = TypeTable()
    for kind in (A, B, HumanQuestion, HumanAnswer):
        types.add(kind)
    orders = set()
    with as_file(lines, types) as (path, name):
        for seed in range(40):
            steps_ = shuffled(steps(read_seeds(path, types, name=name).all()), seed)
            orders.add(tuple(s.seeds[0].id for s in steps_))
    assert orders == {(1, 3, 4, 5), (1, 3, 5, 4)}
