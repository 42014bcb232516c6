"""Boards that people, models, components and budgets had a hand in are replayed, rewound and played like any other."""

from collections.abc import Callable
from typing import Any

import pytest

from stigmergy import Blackboard, Roster, View, replay
from stigmergy.testing import VirtualClock
from tests.boards import A, Boards
from tests.troubled_boards import STORIES, Story, model

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
