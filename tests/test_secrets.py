"""Keys and tokens are nowhere: not in the log, reports, dead letters, log lines, cassettes or what commands print."""

import json
import logging
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stigmergy import Blackboard, Component, Context, Retry
from stigmergy.agents.models.cached import Cached
from stigmergy.agents.models.litellm import LiteLLM
from stigmergy.agents.models.model import Message, Request
from stigmergy.agents.models.price import Price
from stigmergy.agents.models.recorded import Recorded
from stigmergy.blackboard.component import ActivationRequest, Admission, CallRequest
from stigmergy.blackboard.redaction import redacted
from stigmergy.cli import app
from stigmergy.testing import VirtualClock
from tests.boards import A, Boards
from tests.chat_server import ChatServer, fail, say

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("litellm")]

CANARY = "canary0a1b2c3d4e5f"
SAID = [
    f"Incorrect API key provided: {CANARY}. You can find yours at …",
    f"headers={{'Authorization': 'Bearer {CANARY}', 'accept': '*/*'}}",
    f"Authorization: Basic {CANARY}==",
    f"authorization: {CANARY}",
    f"GET https://example.org/v1?api_key={CANARY}&n=1 failed",
    f"GET https://example.org/v1?access_token={CANARY} failed",
    f'{{"client_secret": "{CANARY}", "model": "m"}}',
    f"X-Api-Key: {CANARY}",
    f"no connection to postgresql://anna:{CANARY}@db/board",
    f"password = {CANARY!r}",
    f"the token={CANARY} has expired",
    f"Bearer {CANARY}",
    f"key sk-proj-{CANARY} is wrong",
    f"ghp_{CANARY * 2} is revoked",
    f"{'x' * 3_990} api_key={CANARY}",
]


@pytest.mark.parametrize("text", SAID, ids=range(len(SAID)))
def test_what_looks_like_a_secret_is_hidden_once_and_for_all(text: str) -> None:
    shown = redacted(text)
    assert CANARY not in shown
    assert "[hidden]" in shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "secret",
    [
        *(f"{kind}-{CANARY}" for kind in ("sk", "pk", "rk", "tvly", "gsk", "xai", "xoxb", "XOXP")),
        *(f"{kind}_{CANARY}abcd" for kind in ("gho", "ghp", "ghs", "ghu", "ghr", "github_pat", "hf", "HF")),
        *(f"{kind}0123456789ABCDEF" for kind in ("AKIA", "ASIA")),
        f"AIza{CANARY}{CANARY}",
        f"eyJ{CANARY}.{CANARY}.{CANARY}",
        *(
            f"{name}={CANARY}"
            for name in ("accesskey", "private-key", "client_secret", "refresh_token", "passwd", "PASSWORD")
        ),
        f"ftp://anna:{CANARY}@host",
        f"BEARER {CANARY}",
    ],
)
def test_every_kind_of_secret_is_hidden_wherever_it_stands(secret: str) -> None:
    for text in (secret, f"it was {secret}.", f"'{secret}'"):
        assert "[hidden]" in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "Unexpected token: foo",
        "A.key does not come back from JSON as it was.",
        "publish once more with the same key= to be sure.",
        "key 'order-1234' was used again with another payload",
        "sk-learn-pipeline and risk-averse-2024-planning",
        "the bearer of news; basic understanding; the secret is out",
        "1,234 tokens: 12 of them new; max_tokens=1024",
        "https://example.org:8080/a/b@c",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("part", ["sk-", "api_key ", "://a", "bearer ", "eyJ", "token ", "Authorization: bearer "])
def test_no_text_makes_hiding_slow(part: str) -> None:
    started = time.perf_counter()
    redacted(part * (8_000 // len(part)))
    assert time.perf_counter() - started < 1


class Nosy(Component[int]):
    """Quotes what it should not."""

    name = "nosy"

    def start(self) -> int:
        return 0

    def admit(self, state: int, request: ActivationRequest | CallRequest) -> Admission:
        raise RuntimeError(f"api_key={CANARY}")


def everything(board: Blackboard, caplog: pytest.LogCaptureFixture) -> str:
    """All that a board and its log lines say."""
    report = board.report()
    parts = [repr(event) for event in board.events()]
    parts += [str(report), report.to_json(), report._repr_html_(), str(board.graph().html())]
    parts += [json.dumps(letter.record()) for letter in board.dead_letters()]
    parts += [f"{board.why(event.seq)}" for event in board.events() if type(event).__name__ == "Activated"]
    parts += [repr(vars(record)) for record in caplog.records]
    with pytest.raises(Exception) as failed:  # noqa: PT011  whatever it is, its causes are looked at
        report.raise_for_failures()
    return "\n".join((*parts, str(failed.value), str(failed.value.__cause__)))


@pytest.mark.parametrize("said", SAID, ids=range(len(SAID)))
async def test_a_secret_in_an_error_is_nowhere(new_board: Boards, said: str, caplog: pytest.LogCaptureFixture) -> None:
    board = new_board(clock=VirtualClock())
    caplog.set_level(logging.DEBUG, "stigmergy")

    async def asks(a: A, ctx: Context) -> None:
        async def refuses() -> None:
            raise ConnectionError(said)

        try:
            await ctx.call("ask", refuses)
        except ConnectionError as error:
            raise RuntimeError(said) from error

    board.agent("asks").consumes(A).limits(retry=Retry(attempts=2)).body(asks)
    board.agent("picky").consumes(A, where=lambda a: bool(int(said))).body(lambda a: None)
    await board.publish(A())
    report = await board.run_until_idle(horizon=None)
    assert report.dead == 2
    found = everything(board, caplog)
    assert CANARY not in found
    assert "[hidden]" in found


async def test_a_secret_in_a_component_is_nowhere(new_board: Boards, caplog: pytest.LogCaptureFixture) -> None:
    board = new_board(components=[Nosy()])
    caplog.set_level(logging.DEBUG, "stigmergy")
    board.agent("works").consumes(A).body(lambda a: None)
    await board.publish(A())
    await board.run_until_idle()
    assert board.report().left.failed_components
    assert CANARY not in everything(board, caplog)


@pytest.mark.parametrize("given", ["api_key", "environment"])
async def test_the_key_of_a_model_is_nowhere(
    tmp_path: Path, given: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"{CANARY} of no known form"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if given == "environment":
        monkeypatch.setenv("PROVIDER_API_KEY", key)
    caplog.set_level(logging.DEBUG, "stigmergy")
    asking = Request(model="openai/m", messages=(Message(role="user", text="Hello"),))
    async with ChatServer([say("Hello"), fail(400, f"{key!r} is not what we gave you"), fail(401, key)]) as server:
        model = LiteLLM(
            "openai/m", price=Price("0", "0"), api_base=server.url, api_key=key if given == "api_key" else None
        )
        kept = Recorded(Cached(model, tmp_path / "cache"), tmp_path / "cassette.jsonl", mode="once")
        board = Blackboard(tmp_path / "run.db")

        async def asks(a: A, ctx: Context) -> None:
            try:
                await kept.complete(asking.model_copy(update={"seed": a.n}))
            except Exception as error:
                raise RuntimeError("the model failed") from error

        board.agent("asks").consumes(A).body(asks)
        await board.publish_many([A(n=n) for n in range(3)])
        assert (await board.run_until_idle()).dead == 2
    found = everything(board, caplog)
    await board.close()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} >= {".db", ".jsonl", ".json"}
    for file in files:
        assert CANARY.encode() not in file.read_bytes(), file.name
    commands = [["show"], ["dead-letters", "--json"], ["tail", "-n", "100", "--json"], ["graph"], ["export"]]
    for command, *options in commands:
        found += CliRunner().invoke(app, [command, str(tmp_path / "run.db"), *options]).output
    assert CANARY not in found
    assert "[hidden]" in found
