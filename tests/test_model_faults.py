"""A provider that misbehaves, seen from the board: a real server, the real litellm, a board in a file.

Whatever it does ends in an error of its kind, tried again or not as documented, with the cost on record and the board
whole.
"""

import json
from dataclasses import dataclass
from decimal import Decimal

import pytest

from stigmergy import Blackboard, Costs, Retry, replay, verify
from stigmergy.blackboard.events import Called, Calling, Failed
from stigmergy.models import (
    BadKey,
    BadReply,
    BadRequest,
    ContextTooLong,
    ModelError,
    ModelMissing,
    ModelTimeout,
    ModelUnreachable,
    ProviderFailed,
    RateLimited,
)
from stigmergy.testing import VirtualClock, outputs
from tests.boards import A, B, Boards, numbers
from tests.chat_server import (
    Behaviour,
    ChatServer,
    break_off,
    completion,
    cut_off,
    fail,
    huge,
    never,
    raw,
    reset,
    reset_in_the_middle,
    say,
    stall,
)
from tests.paid import recount
from tests.test_model_litellm import at, closed_connections, pytestmark  # noqa: F401  the same server and marks

GOOD = say(outputs(B(n=1)))
PAID = "0.000062"


@dataclass(frozen=True)
class Fault:
    """What the server does first, and what comes of it.

    Attributes:
        error: of the first attempt; None = it is asked again in the same attempt.
        retried: whether there is a second attempt.
        outcome: of the first request: "failed" costs nothing, "unknown" is booked at its estimate.
        wait: seconds until the second attempt, at least.
    """

    behaviour: Behaviour
    error: type[ModelError] | None = None
    retried: bool = True
    outcome: str = "failed"
    wait: float = 0.0


FAULTS = {
    "429 with Retry-After": Fault(fail(429, retry_after="70"), RateLimited, wait=70),
    "429": Fault(fail(429), RateLimited),
    "500": Fault(fail(500), ProviderFailed),
    "503 with Retry-After": Fault(fail(503, retry_after="30"), ProviderFailed, wait=30),
    "overloaded": Fault(fail(529), ProviderFailed),
    "slow first byte": Fault(never, ModelTimeout, outcome="unknown"),
    "reset": Fault(reset, ModelUnreachable, outcome="unknown"),
    "cut off": Fault(cut_off, ModelUnreachable, outcome="unknown"),
    "truncated JSON": Fault(raw('{"id": "x", "choices": [{"ind'), ProviderFailed, outcome="unknown"),
    "empty choices": Fault(raw(json.dumps({**completion({}), "choices": []})), ProviderFailed, outcome="unknown"),
    "wrong content type": Fault(raw("<html>hello</html>", "text/html"), ProviderFailed, outcome="unknown"),
    "bad key": Fault(fail(401, "Incorrect API key"), BadKey, retried=False),
    "no money": Fault(fail(429, "Sorry", "insufficient_quota"), BadKey, retried=False),
    "no such model": Fault(fail(404, "no such model", "model_not_found"), ModelMissing, retried=False),
    "bad request": Fault(fail(400), BadRequest, retried=False),
    "context overflow": Fault(
        fail(400, "This model's maximum context length is 8 tokens", "context_length_exceeded"), ContextTooLong,
        retried=False,
    ),
    "refusal": Fault(say("", refusal="I will not"), BadReply, outcome="done"),
    "wrong schema": Fault(say('{"outputs": [{"type": "B", "payload": {"n": "many"}}]}'), outcome="done"),
    "broken reply": Fault(say('{"outputs": [{"ty', finish="length"), outcome="done"),
    "huge reply": Fault(huge, outcome="done"),
}  # fmt: skip
BROKEN_STREAMS = {
    "stall in the middle": Fault(stall, ModelTimeout, outcome="unknown"),
    "stream that breaks off": Fault(break_off, ProviderFailed, outcome="unknown"),
    "reset in the middle": Fault(reset_in_the_middle, ProviderFailed, outcome="unknown"),
}
CASES = [
    *(pytest.param(fault, False, id=name) for name, fault in FAULTS.items()),
    *(pytest.param(fault, True, id=f"{name}, streamed") for name, fault in (FAULTS | BROKEN_STREAMS).items()),
]


@pytest.mark.parametrize(("fault", "watched"), CASES)
async def test_a_fault_ends_in_its_kind_with_its_cost_on_record_and_the_board_whole(
    file_board: Boards, fault: Fault, watched: bool
) -> None:
    hangs = fault.error is ModelTimeout
    clock = VirtualClock()
    async with ChatServer([fault.behaviour, GOOD]) as server:
        board = file_board(model=at(server, timeout=2 if hangs else 30), clock=clock)
        board.agent("thinker").limits(retry=Retry(attempts=2, backoff=1)).consumes(A).publishes(B)
        tokens = board.tokens() if watched else None
        await board.publish(A())
        report = await board.run_until_idle(horizon=None)
        del tokens
        assert len(server.asked) == 1 + fault.retried, "nobody asks again in secret"
    assert {bool(exchange.body.get("stream")) for exchange in server.asked} == {watched}
    failed = [e for e in board.events() if isinstance(e, Failed)]
    assert [e.error.type for e in failed if e.error] == ([fault.error.__name__] if fault.error else [])
    assert (report.done, report.dead, report.open) == (int(fault.retried), int(not fault.retried), 0)
    assert numbers(board, B) == [1] * fault.retried
    if fault.error and fault.retried:
        assert failed[0].retry_at is not None
        assert failed[0].retry_at - failed[0].at == max(fault.wait, 1)
    check_costs(board, fault, report.cost)
    assert replay(board, board).ok
    await board.close()
    proven = verify(board._source().name)
    assert proven.whole
    assert proven.closed


def check_costs(board: Blackboard, fault: Fault, cost: Decimal) -> None:
    """Every request is on record with its price, and all sums agree."""
    announced = {e.seq: Decimal(e.cost) for e in board.events() if isinstance(e, Calling) and e.tokens}
    first, *later = [e for e in board.events() if isinstance(e, Called) and e.cause in announced]
    assert first.outcome == fault.outcome
    assert [(e.outcome, e.cost) for e in later] == [("done", PAID)] * fault.retried
    if first.outcome == "unknown":
        assert Decimal(first.cost) == announced[first.cause] > 0
    elif first.outcome == "failed":
        assert first.cost == "0"
    elif fault.behaviour is not huge:
        assert first.cost == PAID
    spent = board.fold(Costs()).total
    assert recount(board.events())[0] == cost == spent.money
    assert spent.unanswered == (first.outcome == "unknown")
