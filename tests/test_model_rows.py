"""Rows of the requirements that speak of context, limits and a cache, with a model in place of a function."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel

from stigmergy import (
    PHASES,
    AnalysisResult,
    Ask,
    Blackboard,
    Briefing,
    ContextRequest,
    Implementation,
    PhaseContextProvider,
    PromptParts,
    ValidationResult,
    WorkDiscovery,
    private,
)
from stigmergy.blackboard.events import Called, Calling
from stigmergy.models import Cached, Message, OnToken, Paced, Reply, Request, Scripted
from stigmergy.testing import VirtualClock, outputs
from tests.boards import A, B, Boards, C

pytestmark = pytest.mark.anyio


def silent() -> Scripted:
    return Scripted(lambda _: outputs())


def work(text: str, phase: str = "analysis") -> WorkDiscovery:
    return WorkDiscovery(description=text, phase=phase, done_definition="done")


async def told(board: Blackboard, model: Scripted, *seeds: BaseModel) -> tuple[str, str]:
    """The system's and the user's word of the last request."""
    for seed in seeds:
        await board.publish(seed)
    assert (await board.run_until_idle()).ok
    system, user = model.texts()
    return system, user


@pytest.mark.req("S3.27", "S3.28", "S3.31")
async def test_a_model_is_told_of_its_phase_first_however_the_phase_is_known(new_board: Boards) -> None:
    for name, phase in (("anybody", "validation"), ("the_validator", None)):
        model = silent()
        board = new_board(model=model, context=PhaseContextProvider(PHASES))
        agent = board.agent(name)
        (agent.phase(phase) if phase else agent).consumes(A).publishes(ValidationResult, fan_out=(0, 9))
        system, _ = await told(board, model, A())
        assert system.startswith("Phase name: validation\n")
        assert system.index("Phase name: validation") < system.index(f'You are the agent "{name}"')
        assert PHASES["validation"].additional_notes in system
    by_filter = silent()
    board = new_board(model=by_filter, context=PhaseContextProvider(PHASES))
    board.agent("anybody").consumes(WorkDiscovery, where={"phase": "analysis"}).publishes(AnalysisResult)
    assert (await told(board, by_filter, work("x")))[0].startswith("Phase name: analysis\n")
    without = silent()
    board = new_board(model=without, context=PhaseContextProvider(PHASES))
    board.agent("anybody").consumes(A).publishes(B)
    assert (await told(board, without, A()))[0].startswith('You are the agent "anybody".')


@pytest.mark.req("S3.28")
async def test_the_history_in_a_prompt_is_bounded_and_in_log_order(new_board: Boards) -> None:
    model = silent()
    board = new_board(model=model, context=PhaseContextProvider(PHASES, limit=4))
    board.agent("validator").consumes(Implementation).publishes(ValidationResult)
    _, user = await told(
        board, model, *(work(f"w{i}") for i in range(9)), Implementation(summary="s", files_created=[])
    )
    places = [user.find(f'"description":"w{i}"') for i in range(9)]
    assert places[:5] == [-1] * 5
    assert -1 not in places[5:]
    assert places[5:] == sorted(places[5:])


@pytest.mark.req("S3.26", "S3.30")
async def test_each_activation_is_briefed_by_its_agents_provider_or_the_boards(new_board: Boards) -> None:
    class Says:
        def __init__(self, word: str) -> None:
            self.word, self.asked = word, 0

        async def provide(self, request: ContextRequest, /) -> Briefing:
            self.asked += 1
            return Briefing((C(key=f"{self.word} {self.asked}"),), ())

    own, common = Says("own"), Says("common")
    model = silent()
    board = new_board(model=model, context=common, concurrency=1)
    board.agent("first").context(own).consumes(A).publishes(B)
    board.agent("second").consumes(A).publishes(B)
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    words = [request.messages[0].text.split("Key: ")[1].split("\n")[0] for request in model.asked]
    assert sorted(words) == ["common 1", "common 2", "own 1", "own 2"]


@pytest.mark.req("S3.32")
async def test_no_provider_can_put_into_a_prompt_what_its_agent_may_not_see(new_board: Boards) -> None:
    model = silent()
    board = new_board(model=model)
    secret = await board.publish(C(key="secret"), visibility=private("auditor"))

    class Leaky:
        async def provide(self, request: ContextRequest, /) -> Briefing:
            return Briefing((), (secret, *request.recent(100)))

    board.agent("thinker").context(Leaky()).consumes(A).publishes(B)
    _, user = await told(board, model, C(key="open"), A())
    assert "secret" not in user
    assert "open" in user


@pytest.mark.req("S3.66")
async def test_a_prompt_keeps_its_budget_whatever_is_on_the_board(new_board: Boards) -> None:
    model = silent()
    board = new_board(model=model, context=PhaseContextProvider(limit=1000))
    board.agent("thinker").model(ask=Ask(context_tokens=300)).consumes(A).publishes(B)
    await board.publish_many([C(key="é" * 300) for _ in range(50)])
    _, user = await told(board, model, A(key="x" * 10_000))
    assert len(user) < 300 * 4 + 300
    assert "characters left out" in user
    assert "50 older artifacts left out" in user


@pytest.mark.req("S3.65")
async def test_models_are_never_asked_by_more_agents_at_once_than_the_board_runs(new_board: Boards) -> None:
    class Crowded(Scripted):
        open = most = 0

        async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
            self.open += 1
            self.most = max(self.most, self.open)
            if self.open == 3:
                full.set()
            await full.wait()
            reply = await super().complete(request)
            self.open -= 1
            return reply

    full = asyncio.Event()
    model = Crowded(lambda _: outputs())
    board = new_board(model=model, concurrency=3)
    board.agent("thinker").consumes(A).publishes(B)
    await board.publish_many([A(n=n) for n in range(20)])
    assert (await board.run_until_idle()).done == 20
    assert model.most == 3


@pytest.mark.req("S3.67")
async def test_a_board_asks_no_faster_than_its_model_is_paced(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(model=Paced(silent(), requests=6, clock=clock), clock=clock, concurrency=50)
    board.agent("thinker").consumes(A).publishes(B)
    began = clock.now()
    await board.publish_many([A(n=n) for n in range(10)])
    assert (await board.run_until_idle()).done == 10
    times = sorted(e.at - began for e in board.events() if isinstance(e, Called))
    assert all(times[i + 6] - times[i] >= 10 - 1e-3 for i in range(len(times) - 6)), "one each ten seconds after six"
    assert clock.now() - began == pytest.approx(40)


@pytest.mark.req("S2.54")
@pytest.mark.parametrize("named", [True, False], ids=["with ids", "without ids"])
async def test_on_one_board_only_a_prompt_that_names_no_artifact_asks_the_same_twice(
    new_board: Boards, tmp_path: Path, named: bool
) -> None:
    """Why the log itself need not be a cache; see docs/models.md."""

    def bare(parts: PromptParts) -> list[Message]:
        return [Message(role="user", text=f"{parts.inputs[0].payload} {parts.contract}")]

    model = Scripted(lambda _: [B(n=7)], cost="0.10", tokens=5)
    board = new_board(model=Cached(model, tmp_path / "cache"), concurrency=1)
    builder = board.agent("thinker") if named else board.agent("thinker").model(ask=Ask(prompt=bare))
    builder.consumes(A).publishes(B)
    await board.publish_many([A(n=1), A(n=1), A(n=2)])
    report = await board.run_until_idle()
    digests = [e.digest for e in board.events() if isinstance(e, Calling)]
    reused = [Reply.model_validate_json(e.payload).reused for e in board.events() if isinstance(e, Called)]
    if named:
        assert len(set(digests)) == 3
        assert (reused, report.cost) == ([False] * 3, Decimal("0.30"))
    else:
        assert digests[0] == digests[1] != digests[2]
        assert (reused, report.cost, report.tokens) == ([False, True, False], Decimal("0.20"), 10)
        assert [(e.cost, e.tokens) for e in board.events() if isinstance(e, Calling)][1] == ("0", 0)


@pytest.mark.req("S2.54")
async def test_the_second_board_that_asks_the_same_asks_nobody_and_pays_nothing(
    new_board: Boards, tmp_path: Path
) -> None:
    model = Scripted([[B(n=7)]], cost="0.10", tokens=5)
    for bought in (True, False):
        board = new_board(model=Cached(model, tmp_path / "cache"))
        board.agent("thinker").consumes(A).publishes(B)
        await board.publish(A(n=1))
        report = await board.run_until_idle()
        assert report.ok
        assert (report.cost, report.tokens) == ((Decimal("0.10"), 5) if bought else (Decimal(0), 0))
        [called] = [e for e in board.events() if isinstance(e, Called)]
        assert Reply.model_validate_json(called.payload).reused == (not bought)
        assert len(model.asked) == 1
