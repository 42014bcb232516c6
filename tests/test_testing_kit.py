"""The testing kit, as a project sees it that uses the library: by import, and as a pytest plugin."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from stigmergy import (
    Artifact,
    Blackboard,
    Context,
    Retry,
    Roster,
    WorkDiscovery,
    artifact_type,
    read,
)
from stigmergy.blackboard.errors import CallError, NotRoundTrippable
from stigmergy.blackboard.stores.base import Reader, Row, Snapshot, Store
from stigmergy.blackboard.stores.memory import MemoryLog, MemoryStore
from stigmergy.testing import (
    NetworkRefused,
    VirtualClock,
    artifact,
    assert_idle,
    assert_lineage,
    assert_not_published,
    assert_published,
    context,
    play,
    refused_network,
    trial,
)
from stigmergy.testing.stores import CHECKS, Check
from stigmergy.testing.strategies import artifacts, payloads, rosters, streams
from tests.boards import A, B, C
from tests.readme import ROOT, blocks

pytest_plugins = ["pytester"]


def played(*lines: BaseModel, roster: Roster | None = None) -> Blackboard:
    """A -> B -> C; an A of 13 is bad luck."""
    if roster is None:
        roster = Roster()

        @roster.agent
        async def double(a: A) -> B:
            if a.n == 13:
                raise ValueError("bad luck")
            return B(n=a.n * 2)

        @roster.agent
        async def end(b: B) -> C:
            return C(n=b.n)

    board = Blackboard(roster=roster, clock=VirtualClock())
    play(board, lines)
    return board


def failure(assertion: Callable[[], object]) -> str:
    with pytest.raises(AssertionError) as raised:
        assertion()
    return str(raised.value)


# -- assertions ---------------------------------------------------------------------------------------------------


def test_what_is_published_is_given_back() -> None:
    board = played(A(n=1), A(n=2))
    assert assert_published(board, B) == [B(n=2), B(n=4)]
    assert assert_published(board, B, where={"n": 4}, count=1) == [B(n=4)]
    assert assert_published(board, B, where=lambda b: b.n > 9, count=0) == []
    assert_not_published(board, B, where={"n": 3})
    assert_idle(board)
    assert [a.payload for a in assert_lineage(board, A, B, C)] == [A(n=2), B(n=4), C(n=4)]


def test_a_missing_artifact_is_explained_by_those_that_came_instead_and_where_they_came_from() -> None:
    board = played(A(n=1), A(n=2))
    text = failure(lambda: assert_published(board, B, where={"n": 3}))
    assert text.startswith("at least one B with {'n': 3} should be published; none of 2 artifacts passes.")
    assert "by double@" in text
    assert "from outside" in text
    text = failure(lambda: assert_published(board, B, count=3))
    assert text.startswith("3 B should be published; there are 2.")


def test_an_artifact_that_never_came_is_explained_by_what_failed() -> None:
    board = played(A(n=13))
    text = failure(lambda: assert_published(board, B))
    assert text.startswith("at least one B should be published; there is none.")
    assert "ValueError: bad luck" in text


def test_an_artifact_that_should_not_have_come_is_explained_by_its_lineage() -> None:
    text = failure(lambda: assert_not_published(played(A(n=1)), B, where=lambda b: b.n == 2))
    assert text.startswith("no B that passes the filter should be published; there is 1.")
    assert "from outside" in text


def test_a_board_is_not_idle_while_something_is_open_or_failed() -> None:
    assert "ValueError: bad luck" in failure(lambda: assert_idle(played(A(n=13))))
    board = played()
    asyncio.run(board.publish(A()))
    text = failure(lambda: assert_idle(board))
    assert text.startswith("the board should be idle, with all work done; it is 'waiting'.")
    assert_idle(board.run_sync())


def test_a_lineage_that_is_not_there_is_explained_by_the_one_that_is() -> None:
    board = played(A(n=1))
    text = failure(lambda: assert_lineage(board, B, A))
    assert text.startswith("some A should descend from B; none does.")
    assert "A@" in text
    assert "there is no WorkDiscovery" in failure(lambda: assert_lineage(board, A, WorkDiscovery))


def test_lineage_is_found_through_joins_and_over_other_artifacts() -> None:
    roster = Roster()

    @roster.agent(by="key")
    async def join(a: A, b: B) -> C:
        return C(n=a.n + b.n)

    board = played(A(key="x"), B(key="x"), A(key="y"), B(key="y", n=1), roster=roster)
    assert [type(a.payload) for a in assert_lineage(board, A, C)] == [A, C]
    assert_lineage(board, B, C)
    assert "none does" in failure(lambda: assert_lineage(board, A, B, C))


def test_a_file_is_a_view_as_good_as_a_living_board(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    board = Blackboard(path, roster=played(), clock=VirtualClock())
    play(board, [A(n=1)])
    asyncio.run(board.close())
    with read(path, types=[A, B, C]) as view:
        assert assert_published(view, B) == [B(n=2)]
        assert_lineage(view, A, B, C)
        assert_idle(view)
        assert "by double@" in failure(lambda: assert_not_published(view, B))


# -- one agent ----------------------------------------------------------------------------------------------------

team = Roster()


class Role(BaseModel):
    name: str


@team.agent(retry=Retry(attempts=2, backoff=60))
async def cashier(order: A, ctx: Context) -> list[B | C]:
    """Charges, waits, tells; the first attempt always fails after the charge."""
    receipt = await ctx.call("charge", charge, order.n)
    await ctx.sleep("settle", 3_600)
    if ctx.attempt == 1 and order.key == "twice":
        raise ValueError("not yet")
    told = [a.payload.n for a in ctx.past if isinstance(a.payload, C)]
    roles = [role.name for role in ctx.instructions if isinstance(role, Role)]
    return [B(n=receipt, key=",".join(roles)), *(C(n=n) for n in told)]


charged: list[int] = []


def charge(amount: int) -> int:
    charged.append(amount)
    return amount * 10


@pytest.fixture(autouse=True)
def nothing_is_charged_yet() -> None:
    charged.clear()


BUILD = Role(name="build")


def test_an_agent_is_tried_alone_with_retries_sleeps_and_effects_in_virtual_time() -> None:
    tried = trial(cashier, A(n=5, key="twice"))
    assert tried.outputs == (B(n=50),)
    assert (tried.report.done, tried.report.retries, charged) == (1, 1, [5])
    assert_idle(tried.report)


def test_a_trial_is_given_what_was_recorded_what_went_before_and_instructions() -> None:
    tried = trial(
        cashier, A(n=5), past=[C(n=1), artifact(C(n=2), id=900)], instructions=[BUILD], recorded={"charge": 7}
    )
    assert tried.outputs == (B(n=7, key="build"), C(n=1), C(n=2))
    assert charged == []


def test_a_trial_says_what_the_agent_did_not_take_and_what_failed() -> None:
    assert trial(cashier, B()).report.activations == 0
    failed = trial(cashier, A(n=1), recorded={"charge": "seven"})
    assert (failed.outputs, failed.report.dead) == ((), 1)
    clash = trial(cashier, A(n=1), past=[artifact(C(), id=3)]).report.left.dead_letters
    assert "which an input has here" in str(clash[0].error)


def test_an_agent_defined_fluently_is_tried_as_well() -> None:
    agent = Roster().agent("copy").consumes(A, where={"n": 1}).publishes(B).body(lambda a: B(n=a.n))
    assert trial(agent, A(n=1), A(n=2)).outputs == (B(n=1),)


@pytest.mark.anyio
async def test_a_body_is_called_by_hand_with_a_context() -> None:
    ctx = context("cashier", inputs=[A(n=5)], past=[C(n=1)], instructions=[BUILD], recorded={"charge": 3})
    assert await cashier(A(n=5), ctx) == [B(n=3, key="build"), C(n=1)]
    assert (ctx.agent_name, ctx.artifacts[0].payload, ctx.past[0].payload, charged) == ("cashier", A(n=5), C(n=1), [])
    assert await cashier(A(n=5), context()) == [B(n=50)]
    assert charged == [5]


@pytest.mark.anyio
async def test_a_context_made_by_hand_publishes_and_keeps_the_rules_of_effects() -> None:
    ctx = context(recorded={"model": A(n=9)})

    async def ask() -> A:
        raise AssertionError("the effect is recorded")

    assert await ctx.call("model", ask) == A(n=9)
    with pytest.raises(CallError, match="used twice"):
        await ctx.call("model", ask)
    first, second = await ctx.publish(B(n=1)), await ctx.publish(B(n=2), key="k")
    assert (second - first, ctx.published) == (1, [B(n=1), B(n=2)])
    assert ctx.now() == VirtualClock().now()
    assert "charge" in ctx.idempotency_key("charge")
    assert context(inputs=[A()]).past == ()


def test_an_envelope_is_made_as_a_board_would_make_it() -> None:
    work = WorkDiscovery(description="x", phase="analysis", done_definition="done", priority="high", tags=["ops"])
    made = artifact(work, id=7, tags=["mine"])
    assert (made.id, made.ref, made.root, made.priority, made.phase) == (7, "WorkDiscovery@7", 7, "high", "analysis")
    assert (made.payload, made.producer, set(made.tags)) == (work, "outside", {"mine", "ops"})

    class Lossy(BaseModel):
        x: object

    with pytest.raises(NotRoundTrippable):
        artifact(Lossy(x=object()))


# -- network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid", "2001:db8::1"])
def test_the_guard_refuses_other_machines_and_their_names(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with refused_network(), socket.socket(family, socket.SOCK_DGRAM) as sock:
        for reach in (
            lambda: sock.connect((host, 9)), lambda: sock.connect_ex((host, 9)), lambda: sock.sendto(b"", (host, 9)),
            lambda: socket.getaddrinfo(host, 80), lambda: socket.create_connection((host, 80)),
        ):  # fmt: skip
            with pytest.raises(NetworkRefused, match=f"a test tried to reach {host}"):
                reach()


def test_the_guard_lets_this_machine_through_and_goes_away_again() -> None:
    before = {name: getattr(socket, name) for name in ("getaddrinfo", "create_connection")}, dict(vars(socket.socket))
    with refused_network(), socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(("localhost", server.getsockname()[1]), 5) as client:
            client.sendall(b"x")
        left, right = socket.socketpair()
        left.close()
        right.close()

        async def connect() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", server.getsockname()[1])
            writer.close()
            with pytest.raises(NetworkRefused):
                await asyncio.open_connection("192.0.2.1", 80)

        asyncio.run(connect())
    after = {name: getattr(socket, name) for name in ("getaddrinfo", "create_connection")}, dict(vars(socket.socket))
    assert after == before


# -- strategies ---------------------------------------------------------------------------------------------------


class Inner(BaseModel):
    n: int = Field(ge=1, le=3)


@artifact_type(name="Outer")
class Outer(BaseModel):
    text: str = Field(min_length=1, max_length=5)
    share: float = Field(gt=0, lt=1)
    inner: Inner
    more: list[Inner] = Field(max_length=2)
    maybe: Inner | None = None
    named: dict[str, Inner] = {}
    pair: tuple[Inner, int] = Field(alias="pairOf")
    code: Annotated[str, Field(pattern=r"^[a-c]{2}$")] = "ab"


@settings(max_examples=40)
@given(payloads(Outer), artifacts(Outer, text=st.just("abc")))
def test_payloads_keep_the_limits_of_their_model_and_can_be_published(payload: Outer, made: Artifact[Outer]) -> None:
    assert artifact(payload).payload == payload
    assert made.payload.text == "abc"
    assert made.root == made.id
    assert (made.producer == "outside") == (made.cause == 0)


@settings(max_examples=40)
@given(rosters(A, B, C), streams(A, payloads(B, n=st.integers(1, 3))), st.integers())
def test_whatever_roster_plays_whatever_stream_comes_to_rest(roster: Roster, lines: list[str], seed: int) -> None:
    board = Blackboard(roster=roster, clock=VirtualClock())
    report = play(board, lines, shuffle=seed)
    assert report.ok
    assert report.open == 0
    assert report.seeds == len(lines)
    assert all(1 <= a.payload.n <= 3 for a in board.artifacts(B, producer="outside"))


# -- stores -------------------------------------------------------------------------------------------------------


class FaultyLog:
    """A reader that does as it is told, but for what a derived one does wrong."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


class OneTooFew(FaultyLog):
    def events(self, after: int = 0, until: int | None = None, kinds: Sequence[str] = ()) -> Iterator[Row]:
        return (row for row in self._log.events(after, until, kinds) if row.seq != until)


class NoRuns(FaultyLog):
    def by_key(self, run: str, key: str) -> Row | None:
        return next((row for row in self._log.artifacts() if row.key == key), None)


class AnySnapshot(FaultyLog):
    def snapshot(self, until: int | None = None) -> Snapshot | None:
        return self._log.snapshot()


class FaultyStore(MemoryStore):
    reads: type[FaultyLog] = FaultyLog

    def reader(self) -> Reader:  # type: ignore[override]
        return self.reads(super().reader())  # type: ignore[return-value]


class Halfway(FaultyStore):
    async def append(self, rows: Sequence[Row]) -> None:
        for row in rows:
            await super().append([row])


class Tidied(FaultyStore):
    async def append(self, rows: Sequence[Row]) -> None:
        await super().append([row._replace(payload=row.payload.strip()) for row in rows])


def faulty(log: type[FaultyLog]) -> type[FaultyStore]:
    return type(log.__name__, (FaultyStore,), {"reads": log})


def refused_by(make: Callable[[], Store]) -> list[str]:
    async def failed(check: Check) -> bool:
        try:
            await check(make)
        except (AssertionError, pytest.fail.Exception):
            return True
        return False

    return [check.__name__ for check in CHECKS if asyncio.run(failed(check))]


@pytest.mark.parametrize(
    ("make", "by"),
    [
        (Halfway, "an_append_that_is_refused_leaves_nothing"),
        (Tidied, "rows_come_back_as_they_were"),
        (faulty(OneTooFew), "events_are_read_between_positions_and_by_kind"),
        (faulty(NoRuns), "a_key_and_a_work_id_belong_to_a_run"),
        (faulty(AnySnapshot), "the_newest_fitting_snapshot_is_found"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_store_with_a_fault_is_refused_by_the_check_that_names_it(make: Callable[[], Store], by: str) -> None:
    assert by in refused_by(make)


def test_a_store_that_only_passes_everything_on_is_not_refused() -> None:
    assert refused_by(FaultyStore) == []


# -- the plugin ---------------------------------------------------------------------------------------------------


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of its own that loads this plugin and anyio's alone, whether the library is installed or not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    pytester.makeini(
        "[pytest]\naddopts = -p anyio -p stigmergy.testing.plugin -p no:cacheprovider\nfilterwarnings = error\n"
    )
    pytester.makepyfile(
        team="""
        from pydantic import BaseModel
        from stigmergy import Context, Roster

        class Question(BaseModel):
            text: str

        class Answer(BaseModel):
            text: str

        team = Roster()

        @team.agent
        async def shout(question: Question, ctx: Context) -> Answer:
            await ctx.sleep("think", 3_600)
            return Answer(text=question.text.upper())
        """
    )
    return pytester


def test_a_project_gets_boards_clocks_and_streams(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from stigmergy import Blackboard, Limits, StigmergyError
        from stigmergy.testing import assert_idle, assert_published, line, play
        from team import Answer, Question, team

        @pytest.mark.parametrize("store", ["memory", "sqlite"])
        def test_a_board(open_board, clock, store):
            before = clock.now()
            board = open_board(team, store=store, limits=Limits(activations=5))
            assert board.run_sync(Question(text="a")).ok
            assert assert_published(board, Answer) == [Answer(text="A")]
            assert clock.now() == before + 3_600
            assert board.limits.activations == 5

        def test_a_board_lends_its_agents(open_board):
            board = open_board(Blackboard("never-opened.db", roster=team))
            play(board, [Question(text="a")])
            assert_idle(board)

        def test_a_stream(open_board, stream):
            file = stream(Question(text="a"), line(Question(text="b"), at=2))
            first = open_board(team)
            play(first, file)
            second = open_board(team, store="sqlite")
            play(second, stream(first, name="again.jsonl"), mute=team.agents, strict=True)
            assert second.artifacts(Answer).payloads == first.artifacts(Answer).payloads

        @pytest.mark.anyio
        async def test_async(open_board):
            board = open_board(team, store="sqlite")
            await board.publish(Question(text="a"))
            assert (await board.run_until_idle(horizon=None)).ok

        def test_an_explanation(open_board):
            board = open_board(team)
            play(board, [Question(text="a")])
            assert_published(board, Answer, where={"text": "B"})

        def test_a_wrong_store(open_board):
            with pytest.raises(StigmergyError, match="is not one of"):
                open_board(team, store="postgres")
        """
    )
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["*none of 1 artifact passes.*", "*by shout@*", "*from outside*"])
    assert "assertions.py" not in result.stdout.str()
    assert not (project.path / "never-opened.db").exists()


def test_a_project_gets_models_that_answer_as_they_are_told(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from stigmergy import Roster, StigmergyError
        from stigmergy.agents.models.litellm import LiteLLM
        from stigmergy.testing import NetworkRefused, assert_published, outputs
        from team import Answer, Question

        thinking = Roster()
        thinking.agent("thinker").description("Thinks.").consumes(Question).publishes(Answer)

        @pytest.mark.parametrize("store", ["memory", "sqlite"])
        def test_a_list(open_board, scripted, store):
            model = scripted([[Answer(text="1")], "What?", outputs(Answer(text="2"))])
            board = open_board(thinking, store=store, model=model)
            assert board.run_sync(Question(text="a")).ok
            assert board.run_sync(Question(text="b")).ok
            assert assert_published(board, Answer) == [Answer(text="1"), Answer(text="2")]
            assert "Thinks." in model.asked[0].messages[0].text

        def test_a_function(open_board, scripted):
            board = open_board(thinking, model=scripted(lambda request: [Answer(text=request.model)], name="mirror"))
            assert board.run_sync(Question(text="a")).ok

        def test_too_many(open_board, scripted):
            board = open_board(thinking, model=scripted([[Answer(text="1")], "never"]))
            board.run_sync(Question(text="a"))

        def test_one_reply_is_no_list_of_letters(scripted):
            with pytest.raises(StigmergyError, match="Put the reply into a list"):
                scripted("42")

        def test_a_real_one(open_board):
            report = open_board(thinking, model=LiteLLM("openai/gpt-4.1")).run_sync(Question(text="a"))
            assert report.dead == 1
            assert "a test asked the model openai/gpt-4.1" in str(report)
        """
    )
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=6, errors=1)
    result.stdout.fnmatch_lines(["*scripted has 2 replies, and was asked for 1. Leave out the rest.*"])


NETWORK = """
    from contextlib import suppress
    from socket import AF_INET, SOCK_DGRAM, socket

    def reach():
        with socket(AF_INET, SOCK_DGRAM) as sock, suppress(OSError):
            sock.connect(("192.0.2.1", 9))  # sends nothing

    def test_plain():
        reach()

    def test_asked(no_network):
        reach()
"""


def test_the_network_is_refused_where_it_is_asked_for_and_everywhere_with_the_option(project: pytest.Pytester) -> None:
    project.makepyfile(NETWORK)
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*NetworkRefused: a test tried to reach 192.0.2.1.*"])
    project.runpytest_subprocess("-o", "stigmergy_no_network=true").assert_outcomes(failed=2)


UNUSED = """
import sys
import stigmergy.testing.plugin
heavy = {"hypothesis", "stigmergy.testing.strategies", "stigmergy.testing.stores", "rich", "typer"}
print(sorted(heavy & set(sys.modules)))
"""


def test_the_plugin_loads_nothing_that_only_some_tests_need() -> None:
    done = subprocess.run([sys.executable, "-c", UNUSED], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_library_itself_does_not_load_its_testing_kit() -> None:
    program = "import sys, stigmergy; print([m for m in sys.modules if m.startswith(('stigmergy.testing', 'pytest'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_tests_in_the_documentation_pass(project: pytest.Pytester) -> None:
    page = blocks((ROOT / "docs" / "testing.md").read_text(encoding="utf-8"), "python")
    project.makepyfile(**{f"test_block{number}": block for number, block in enumerate(page, 1)})
    result = project.runpytest_subprocess()
    outcomes = result.parseoutcomes()
    assert outcomes.get("passed", 0) >= len(page)
    assert set(outcomes) == {"passed"}
