"""Several answers of one agent: the best is published, and all are paid for."""

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Artifact, Ask, Blackboard, Costs, Limits, Retry, Roster, replay
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Called, Failed
from stigmergy.models import (
    BadModel,
    BadReply,
    Estimate,
    OnToken,
    RateLimited,
    Reply,
    Request,
    Scripted,
    ToolCall,
    UnknownPrice,
)
from stigmergy.testing import VirtualClock, outputs
from tests.boards import A, B, Boards, C, in_the_middle, numbers, stopped
from tests.paid import recount

pytestmark = pytest.mark.anyio
Replies = list[Any]
Answers = dict[int, Replies]
"""By the seed of a conversation: its replies in order."""


def scripted(answers: Answers, **paid: Any) -> Scripted:
    """A model that answers each conversation by itself, whoever asks first."""
    left = {seed: list(replies) for seed, replies in answers.items()}

    def answer(request: Request) -> Any:
        assert request.seed is not None
        return left[request.seed].pop(0)

    return Scripted(answer, **{"cost": "0.10", "tokens": 2, **paid})


def asking(
    board: Blackboard, *, score: Any = None, tools: Sequence[Callable[..., object]] = (), n: int = 3, **limits: Any
) -> Blackboard:
    builder = board.agent("thinker").model(ask=Ask(best_of=n, seed=0, score=score)).tools(*tools).limits(**limits)
    builder.consumes(A).publishes(B, C)
    return board


def calls(board: Blackboard) -> dict[str, str]:
    return {e.key: e.outcome for e in board.events() if isinstance(e, Called)}


def near(found: Sequence[BaseModel], inputs: Sequence[Artifact[Any]]) -> float:
    """How near the first output is to the input."""
    return -abs(getattr(found[0], "n") - inputs[0].payload.n)  # type: ignore[no-any-return]  # noqa: B009


async def test_without_a_score_the_answer_that_came_most_often_is_published(new_board: Boards) -> None:
    either = [B(n=2), C(n=3)]
    model = scripted({0: [B(n=1)], 1: [either], 2: [either[::-1]]})
    board = asking(new_board(model=model))
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.ok
    assert (numbers(board, B), numbers(board, C)) == ([2], [3])
    assert calls(board) == dict.fromkeys(["model/1", "model-2/1", "model-3/1", "model/1/best of 3"], "done")
    assert (report.cost, report.tokens) == (Decimal("0.30"), 6)
    assert replay(board, board).ok


@pytest.mark.parametrize(("answers", "chosen"), [([9, 5, 2], 5), ([1, 2, 3], 3), ([3, 5, 3], 3), ([7, 7, 7], 7)])
async def test_a_score_chooses_and_of_equals_the_first(new_board: Boards, answers: list[int], chosen: int) -> None:
    board = asking(new_board(model=scripted({i: [B(n=n)] for i, n in enumerate(answers)})), score=near)
    await board.publish(A(n=4))
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [chosen]


@pytest.mark.req("S0.24")
async def test_losers_are_paid_to_the_cent_with_their_tools_and_what_they_were_asked_again(new_board: Boards) -> None:
    looked = []

    def look(at: str) -> str:
        """Looks."""
        looked.append(at)
        return "seen"

    tool = ToolCall(id="1", name="look", arguments='{"at": "it"}')
    dear = Reply(text=outputs(B(n=9)), cost=Decimal("0.007"))
    model = scripted({0: [tool, B(n=4)], 1: ["no", "no", dear], 2: ["no"] * 3}, cost="0.013")
    board = asking(new_board(model=model), score=near, tools=[look])
    await board.publish(A(n=4))
    report = await board.run_until_idle()
    assert report.ok
    assert numbers(board, B) == [4]
    assert looked == ["it"]
    assert report.cost == Decimal("0.013") * 7 + Decimal("0.007") == recount(board.events())[0]
    spent = board.fold(Costs())
    assert spent.total.money == spent.agents["thinker"].money == spent.effects["scripted"].money == report.cost


async def test_one_usable_answer_is_enough_and_of_none_the_attempt_fails_and_all_begin_anew(new_board: Boards) -> None:
    useless = ["no"] * 3
    refusal = Reply(text="I cannot.", finish="refused")
    model = scripted({0: [*useless, B(n=1)], 1: [refusal, B(n=2)], 2: [*useless, B(n=2)]})
    board = asking(new_board(model=model, clock=VirtualClock()), retry=Retry(attempts=2))
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [2]
    assert [e.error.type for e in board.events() if isinstance(e, Failed) and e.error] == [BadReply.__name__]
    few = asking(new_board(model=scripted({0: useless, 1: [refusal], 2: [B(n=3)]})))
    await few.publish(A())
    assert (await few.run_until_idle()).ok
    assert numbers(few, B) == [3]


async def test_a_provider_that_fails_costs_a_candidate_and_when_all_fail_the_next_attempt_buys_only_what_is_missing(
    new_board: Boards,
) -> None:
    later = RateLimited("later", retry_after=100)
    one = asking(new_board(model=scripted({0: [later], 1: [B(n=2)], 2: [B(n=3)]})), score=near)
    await one.publish(A(n=9))
    report = await one.run_until_idle()
    assert (report.ok, report.cost, numbers(one, B)) == (True, Decimal("0.20"), [3])
    model = scripted({0: ["no"] * 3, 1: ["no", later, B(n=2)], 2: [later, B(n=3)]})
    clock = VirtualClock()
    began = clock.now()
    board = asking(new_board(model=model, clock=clock), score=near, retry=Retry(attempts=2))
    await board.publish(A(n=9))
    report = await board.run_until_idle(horizon=None)
    assert (report.ok, numbers(board, B)) == (True, [3])
    assert clock.now() - began == 100
    assert len(model.asked) == 8
    assert report.cost == Decimal("0.60")


async def test_whom_the_budget_stops_is_bought_later_and_the_others_not_again(new_board: Boards) -> None:
    model = scripted({0: [B(n=1)], 1: [B(n=1)], 2: [B(n=2)]})
    board = asking(new_board(model=model, limits=Limits(cost="0.25")))
    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.reason, report.cost, report.open, len(model.asked)) == ("budget", Decimal("0.20"), 1, 2)
    more = asking(await new_board.reopened(board, model=model, limits=Limits(cost="1")))
    report = await more.run_until_idle()
    assert (report.ok, report.cost, len(model.asked)) == (True, Decimal("0.30"), 3)
    assert numbers(more, B) == [1]


async def test_candidates_wait_for_what_others_have_only_reserved(new_board: Boards) -> None:
    model = scripted({i: [B(n=i)] for i in range(3)}, estimate=Estimate(cost=Decimal("0.60")))
    board = asking(new_board(model=model, limits=Limits(cost="1.00")))
    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.ok, report.cost) == (True, Decimal("0.30"))
    assert recount(board.events())[1] <= 1


async def test_what_was_chosen_is_on_record_and_an_attempt_that_failed_later_buys_and_scores_nothing_again(
    new_board: Boards,
) -> None:
    scored: list[int] = []

    def moody(found: Sequence[BaseModel], inputs: Sequence[Artifact[Any]]) -> float:
        scored.append(1)
        return len(scored) if len(scored) <= 3 else -len(scored)

    async def failing(call_next: Any, ctx: Any) -> Any:
        made = await call_next()
        if ctx.attempt == 1:
            raise OSError("no")
        return made

    model = scripted({i: [B(n=i)] for i in range(3)})
    board = new_board(model=model, clock=VirtualClock())
    builder = board.agent("thinker").model(ask=Ask(best_of=3, seed=0, score=moody)).limits(retry=Retry(attempts=2))
    builder.around(failing).consumes(A).publishes(B)
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert (numbers(board, B), len(scored), len(model.asked)) == ([2], 3, 3)
    [choice] = [e for e in board.events() if isinstance(e, Called) and e.key == "model/1/best of 3"]
    assert choice.payload == b"[1.0,2.0,3.0]"


@pytest.mark.parametrize("score", [lambda *_: float("nan"), lambda *_: "good", lambda *_: None])
async def test_a_score_that_is_no_number_is_a_dead_letter_that_says_so(new_board: Boards, score: Any) -> None:
    board = asking(new_board(model=scripted({i: [B()] for i in range(3)})), score=score, retry=Retry(attempts=3))
    await board.publish(A())
    [dead] = (await board.run_until_idle()).left.dead_letters
    assert dead.error is not None
    assert dead.error.message.startswith("Ask(score=…) gave ")
    assert dead.attempts == 1


async def test_each_conversation_can_be_watched_by_its_key(new_board: Boards) -> None:
    board = asking(new_board(model=scripted({0: [B(n=1)], 1: [B(n=2)]})), n=2)
    tokens = board.tokens()
    await board.publish(A())
    await board.run_until_idle()
    await board.close()
    written: dict[str, str] = {}
    async for token in tokens:
        written[token.reply] = written.get(token.reply, "") + token.text
    assert written == {"model/1": outputs(B(n=1)), "model-2/1": outputs(B(n=2))}


# -- several models --------------------------------------------------------------------------------------------------


def three(small: Replies, large: Replies, local: Replies) -> list[Scripted]:
    """Models of different names and prices, each with its replies."""
    return [
        Scripted(small, name="small", cost="0.01", tokens=1),
        Scripted(large, name="large", cost="0.20", tokens=2),
        Scripted(local, name="local", cost="0", tokens=4),
    ]


@pytest.mark.req("S0.24")
@pytest.mark.parametrize("of", ["agent", "board"])
async def test_several_models_vote_and_each_is_paid_under_its_own_name(new_board: Boards, of: str) -> None:
    models = three([[B(n=1)]], ["no", [B(n=2)]], [[B(n=2)]])
    board = new_board(model=models if of == "board" else Scripted([]))
    builder = board.agent("thinker")
    (builder.model(models) if of == "agent" else builder).consumes(A).publishes(B)
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.ok
    assert numbers(board, B) == [2]
    assert [r.model for m in models for r in m.asked] == ["small", "large", "large", "local"]
    assert models[0].asked[0].messages == models[1].asked[0].messages == models[2].asked[0].messages
    keys = ["model/1", "model-2/1", "model-2/2", "model-3/1", "model/1/best of 3"]
    assert calls(board) == dict.fromkeys(keys, "done")
    assert (report.cost, report.tokens) == (Decimal("0.41"), 9) == (recount(board.events())[0], 9)
    assert {name: (s.cost, s.tokens) for name, s in board.fold(Costs()).effects.items()} == {
        "small": ("0.01", 1), "large": ("0.40", 4), "local": ("0", 4),
    }  # fmt: skip
    assert replay(board, board).ok


async def test_several_models_may_be_scored_and_asked_several_times_each(new_board: Boards) -> None:
    models = three([[B(n=9)], [B(n=5)]], [[B(n=1)], [B(n=4)]], [[B(n=8)], [B(n=2)]])
    board = new_board()
    board.agent("thinker").model(models, ask=Ask(best_of=2, seed=10, score=near)).consumes(A).publishes(B)
    await board.publish(A(n=4))
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [4]
    asked = sorted((r.seed, r.model) for m in models for r in m.asked)
    assert asked == [(10, "small"), (11, "large"), (12, "local"), (13, "small"), (14, "large"), (15, "local")]


async def test_a_model_that_has_no_price_or_no_answer_leaves_the_choice_to_the_others(new_board: Boards) -> None:
    models = three([UnknownPrice("nobody knows")], [Reply(text="I cannot.", finish="refused")], [[B(n=3)]])
    board = new_board(model=models)
    board.agent("thinker").consumes(A).publishes(B)
    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.ok, numbers(board, B)) == (True, [3])


async def test_after_a_crash_each_model_is_asked_only_what_is_not_on_record(file_board: Boards) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    class Hanging(Scripted):
        async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
            reached.set()
            await gone.wait()
            return await super().complete(request)

    def team(*models: Scripted) -> Roster:
        roster = Roster(model=list(models))
        roster.agent("thinker").consumes(A).publishes(B)
        return roster

    first, second = Scripted([[B(n=1)]], name="first", cost="0.10"), Hanging([], name="second")
    board = file_board(team(first, second))
    await board.publish(A())
    run = await in_the_middle(board, reached)
    async for event in board.watch():
        if isinstance(event, Called):
            break
    rest = Scripted([[B(n=1)]], name="second", cost="0.30")
    after = file_board.crashed(board, team(Scripted([], name="first"), rest))
    report = await after.run_until_idle()
    assert (report.ok, report.cost, numbers(after, B)) == (True, Decimal("0.40"), [1])
    await stopped(run)


async def test_a_choice_among_none_is_refused(new_board: Boards) -> None:
    with pytest.raises(DefinitionError, match=r"Ask\(best_of=0\)"):
        Ask(best_of=0)
    alone = new_board(model=Scripted([]))
    alone.agent("thinker").model(ask=Ask(score=near)).consumes(A).publishes(B)
    with pytest.raises(
        DefinitionError, match=r'agent "thinker": Ask\(score=…\) has nothing to choose.*test_model_best'
    ):
        await alone.publish(A())
    for model, named in (([], r"model=\[\]"), (["openai/gpt-4.1", 3], "model=3")):
        board = new_board()
        board.agent("thinker").model(model).consumes(A).publishes(B)
        with pytest.raises(BadModel, match=named):
            await board.publish(A())
