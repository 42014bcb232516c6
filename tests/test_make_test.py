"""From a run to a test: the file that is written is formatted, passes at once, and fails when the body changes."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner, Result

from stigmergy import (
    Ask,
    Blackboard,
    Context,
    HumanQuestion,
    McpServer,
    PhaseContextProvider,
    PhaseDefinition,
    Questions,
    Retry,
    Roster,
    read,
)
from stigmergy.agents.models.errors import BadKey, RateLimited
from stigmergy.agents.models.model import ToolCall
from stigmergy.agents.models.scripted import Answer, Scripted
from stigmergy.blackboard.errors import CallChanged, DefinitionError, NotFound, WrongFanOut
from stigmergy.blackboard.events import Activated
from stigmergy.blackboard.reading.view import View
from stigmergy.cli import app
from stigmergy.cli.loading import load
from stigmergy.testing import Effect, VirtualClock, context, make_test, outputs, perform, trial

ROOT = Path(__file__).parent.parent
SHOP_NOTES = Path(tempfile.gettempdir()) / f"stigmergy_shop_{os.getpid()}"
SHOP_SERVER = (str(ROOT / "tests" / "mcp_target.py"), str(SHOP_NOTES))

SHOP = '''
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from pydantic import BaseModel, Field
from stigmergy import Artifact, Context, PhaseContextProvider, PHASES, Retry, Roster


class Color(Enum):
    RED = "red"


class Address(BaseModel):
    street: str = "Main \\"Street\\" it's 5"
    lines: list[str] = []


class Order(BaseModel):
    n: int
    key: str = "k"
    address: Address = Address()
    color: Color = Color.RED
    more: dict[str, list[float | None]] = {"a": [1.5, None]}


class Stock(BaseModel):
    key: str
    since: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    price: Decimal = Decimal("1.10")


class Tag(BaseModel):
    key: str
    renamed: str = Field(default="x", alias="old name")


class Parcel(BaseModel):
    key: str
    ns: list[int]


class Receipt(BaseModel):
    number: str
    at: float = 0.0
    said: list[str] = []


class Refused(Exception):
    """Cards are refused."""


roster = Roster()


def charge(amount: int, once: str) -> str:
    if amount == 3:
        raise Refused("the card (of 3) is refused")
    return f"{amount}-{uuid.uuid4()}"


async def find(amount: int) -> Address:
    return Address(street=f"{uuid.uuid4()}")


@roster.agent(retry=Retry(attempts=2, backoff=1))
async def sell(order: Artifact[Order], ctx: Context) -> list[Receipt | Parcel]:
    amount = order.payload.n
    if amount == 2 and ctx.attempt == 1:
        raise ValueError("not yet")
    try:
        number = await ctx.call("charge", charge, amount, ctx.idempotency_key("charge"))
    except Refused:
        number = "refused"
    await ctx.charge("fee", cost="0.10")
    await ctx.sleep("cool off", 3_600)
    where = await ctx.call("find", find, amount)
    if amount == 4:
        raise Refused(f"{number} is (always) refused")
    await ctx.publish(Parcel(key="inside", ns=[amount]))
    return [Receipt(number=number, at=ctx.now(), said=[where.street, order.ref]), Receipt(number="copy")]


@roster.agent(by="key", within=10)
async def pair(order: Order, stock: Stock | None, tag: Tag) -> Parcel:
    return Parcel(key=f"{stock.since.isoformat()} {stock.price}" if stock else tag.renamed, ns=[order.n])


@roster.agent(batch=2)
async def batch(parcels: list[Parcel]) -> Receipt:
    return Receipt(number=",".join(str(n) for p in parcels for n in p.ns))


def plain(receipt: Receipt) -> None:
    if receipt.number == "copy":
        raise LookupError("plain")


async def group(pairs: list[tuple[Order, Tag]]) -> Parcel:
    return Parcel(key="g", ns=[o.n for o, _ in pairs])


async def told(tag: Tag, ctx: Context) -> Parcel:
    return Parcel(key=",".join(type(i).__name__ for i in ctx.instructions), ns=[a.id for a in ctx.past])


async def marked(call_next: Any, ctx: Context) -> Any:
    return [Parcel(key=f"{parcel.key}!", ns=parcel.ns) for parcel in await call_next()]


roster.agent("plain").consumes(Receipt).body(plain)
roster.agent("group").consumes(Order, Tag, by="key", groups=2).publishes(Parcel).body(group)
(roster.agent("told").consumes(Tag).publishes(Parcel)
    .context(PhaseContextProvider(PHASES)).around(marked).body(told))


def one() -> Roster:
    return roster
'''


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a team and a run of it: everything happens that an activation can go through."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        asyncio.run(run_the_shop(folder, load(f"{folder / 'shop.py'}:one")))
    return folder


async def run_the_shop(folder: Path, roster: Roster) -> None:
    models: dict[str, Any] = {name: kind.model for name in roster.types.names() if (kind := roster.types.get(name))}
    order, stock, tag = models["Order"], models["Stock"], models["Tag"]
    async with Blackboard(folder / "run.db", roster=roster, clock=VirtualClock()) as board:
        await board.publish_many([order(n=n, key=f"k{n % 2}") for n in range(1, 6)])
        await board.publish_many([stock(key="k1"), tag(key="k1"), tag.model_validate({"key": "k0", "old name": "n"})])
        report = await board.run_until_idle(horizon=None)
        await board.retry(*(d.activation for d in report.left.dead_letters if d.agent == "sell"))
        await board.run_until_idle(horizon=None)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def ran(view: View) -> list[str]:
    """All activations that ran to an end."""
    asked = [e for e in view.events() if isinstance(e, Activated)]
    ended = {e.cause for e in view.events() if type(e).__name__ in ("Completed", "Failed")}
    return [f"{e.agent}@{e.seq}" for e in asked if e.seq in ended]


def pytest_on(folder: Path, *files: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run them with all plugins that are installed here, or as the environment says in `more`."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *map(str, files)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(command, cwd=folder, env=clean | more, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def written(shop: Path) -> dict[str, Path]:
    """A test file of every activation, by its name."""
    files: dict[str, Path] = {}
    with read(shop / "run.db") as view:
        names = ran(view)
    for name in names:
        files[name] = shop / f"test_{name.replace('@', '_')}.py"
        done = call("make-test", shop / "run.db", f"{shop / 'shop.py'}:one", name, "-o", files[name])
        assert done.exit_code == 0, done.output
    return files


@pytest.mark.timeout(300)
def test_every_kind_of_activation_gets_a_test_that_passes_at_once(shop: Path, written: dict[str, Path]) -> None:
    agents = {name.partition("@")[0] for name in written}
    assert agents == {"sell", "pair", "batch", "plain", "group", "told"}
    done = pytest_on(shop, *written.values())
    assert done.returncode == 0, done.stdout
    assert f"{len(written)} passed" in done.stdout


def test_what_is_written_is_formatted_and_sorted_at_every_width(shop: Path, written: dict[str, Path]) -> None:
    files = [str(file) for file in written.values()]
    for width in ("88", "120"):
        for command in (["format", "--check"], ["check", "--select", "E4,E7,E9,F,I,PT,UP"]):
            ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", width, *files]
            done = subprocess.run(ruff, cwd=shop, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


CHANGES = [
    pytest.param("amount = order.payload.n", "amount = -order.payload.n", "sell", "CallChanged", id="arguments"),
    pytest.param('number="copy"', 'number="double"', "sell", "assert ", id="output"),
    pytest.param('"find", find', '"find more", find', "sell", "is not recorded", id="new effect"),
    pytest.param('await ctx.charge("fee", cost="0.10")', "", "sell", "assert ", id="effect left out"),
    pytest.param('Parcel(key="inside"', 'Parcel(key="within"', "sell", "assert ", id="published inside"),
    pytest.param('LookupError("plain")', 'LookupError("odd")', "plain", "Regex", id="message"),
    pytest.param('== "copy"', '== "nothing"', "plain", "DID NOT RAISE", id="no failure"),
    pytest.param("for o, _ in pairs", "for o, _ in pairs[:1]", "group", "assert ", id="groups"),
    pytest.param("if stock else", "if not stock else", "pair", "Error", id="optional input"),
    pytest.param("ns=[a.id for a in ctx.past]", "ns=[]", "told", "assert ", id="context"),
    pytest.param('f"{parcel.key}!"', "parcel.key", "told", "assert ", id="middleware"),
    pytest.param('",".join(str(n)', '";".join(str(n)', "batch", "assert ", id="batch"),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("old", "new", "agent", "said"), CHANGES)
def test_a_body_that_behaves_otherwise_fails_its_test(
    written: dict[str, Path], tmp_path: Path, old: str, new: str, agent: str, said: str
) -> None:
    assert SHOP.count(old) == 1
    (tmp_path / "shop.py").write_text(SHOP.replace(old, new))
    files = [shutil.copy(file, tmp_path) for name, file in written.items() if name.startswith(f"{agent}@")]
    done = pytest_on(tmp_path, *map(Path, files), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == 1, done.stdout
    assert said in done.stdout


def test_the_test_can_be_written_elsewhere_and_to_stdout(shop: Path, written: dict[str, Path]) -> None:
    name = next(name for name in written if name.startswith("sell@"))
    (shop / "tests").mkdir()
    file = shop / "tests" / "test_elsewhere.py"
    done = call("make-test", shop / "run.db", f"{shop / 'shop.py'}:one", name, "-o", file)
    assert f"run it with: pytest {file}" in done.stderr
    assert 'sys.path.insert(0, str(Path(__file__).parent / ".."))' in file.read_text()
    assert pytest_on(shop / "tests", file).returncode == 0
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E4,E7,E9,F", str(file)]
    assert subprocess.run(lint, capture_output=True, check=False).returncode == 0
    with read(shop / "run.db") as view:
        published = next(a for a in view.artifacts("Receipt") if view.why(a.id).steps[0].activation == int(name[5:]))
    shown = call("make-test", shop / "run.db", f"{shop / 'shop.py'}:one", published.ref)
    assert f"def test_sell_{name[5:]}() -> None:" in shown.stdout


def test_what_no_body_decides_gets_no_test(shop: Path) -> None:
    def refused(*arguments: str | Path) -> str:
        done = call("make-test", shop / "run.db", *arguments)
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1
        return done.stderr

    assert "Order@8 came from outside" in refused(shop / "shop.py", "Order@8")
    assert "there is nothing at 999" in refused(shop / "shop.py", "999")
    (shop / "other.py").write_text("from stigmergy import Roster\nroster = Roster()\n")
    assert "There is no agent 'sell'" in refused(shop / "other.py", "9")
    (shop / "made.py").write_text("from stigmergy import Roster\ndef team() -> Roster:\n    return Roster()\n")
    assert "Name it: " in refused(shop / "made.py", "9")


class Plain(BaseModel):
    n: int


class Weight(BaseModel):
    n: int


def local_team() -> tuple[Roster, type[BaseModel]]:
    """A roster whose artifact class and error cannot be imported."""

    class Local(BaseModel):
        n: int

    class Odd(Exception):
        pass

    made = Roster()

    @made.agent
    async def work(local: Local) -> Plain:
        if local.n == 2:
            raise Odd("two")
        return Plain(n=local.n)

    made.agent("late").limits(timeout=0.05).consumes(Plain).body(_forever)
    return made, Local


async def _forever(plain: Plain) -> None:
    await asyncio.Event().wait()


team, LOCAL = local_team()


def test_from_python_a_roster_is_found_where_it_is_a_global(tmp_path: Path) -> None:
    board = Blackboard(roster=team)
    local: Any = LOCAL
    board.run_sync(local(n=1), local(n=2))
    done, failed, late = (
        next(e.seq for e in board.events() if isinstance(e, Activated) and e.agent == agent and of(board, e) == n)
        for agent, n in (("work", 1), ("work", 2), ("late", 1))
    )
    text = make_test(board, team, done, file=ROOT / "tests" / "test_x.py")
    assert 'Local = team.types.get("Local").model' in text
    assert "from tests.test_make_test import Plain, team" in text
    failing = make_test(board, team, f"work@{failed}", file=ROOT / "tests" / "test_x.py")
    assert "with pytest.raises(Exception):  # it was a Odd; no class of that name is found" in failing
    for name, content in (("done", text), ("failed", failing)):
        (tmp_path / f"test_{name}.py").write_text(content)
    with pytest.raises(NotFound, match="ran into its timeout"):
        make_test(board, team, late)
    with pytest.raises(NotFound, match="did not run to an end"):
        make_test(board.at(done), team, done)
    with pytest.raises(DefinitionError, match="no global of a module"):
        make_test(board, local_team()[0], done)


def of(board: Blackboard, e: Activated) -> int:
    return int(board.get(e.inputs[0]).payload.n)  # type: ignore[attr-defined]


asking = Roster(components=[Questions()])


@asking.agent
async def ask(plain: Plain, ctx: Context) -> Plain | None:
    return Plain(n=plain.n + 1) if await ctx.ask("sure", f"Count {plain.n}?") else None


@pytest.mark.anyio
async def test_what_a_person_answered_is_answered_again() -> None:
    board = Blackboard(roster=asking)
    await board.publish(Plain(n=1))
    await board.run_until_idle()
    await board.answer(board.artifacts(HumanQuestion)[0].id, True)
    await board.run_until_idle()
    text = make_test(board, asking, board.artifacts(Plain)[1].ref, file=ROOT / "tests" / "test_x.py")
    assert 'recorded={"sure": True},' in text
    assert "outputs == [Plain(n=2)]" in text
    assert perform(ask, context(inputs=[Plain(n=1)], recorded={"sure": True}, strict=True)) == [Plain(n=2)]


@pytest.mark.anyio
async def test_a_body_is_performed_as_on_a_board() -> None:
    roster = Roster()

    @roster.agent
    async def some(plain: Plain) -> Plain | None:
        return Plain(n=plain.n + 1) if plain.n else None

    def two(plain: Plain) -> list[Plain]:
        return [Plain(n=1), Plain(n=2)]

    assert perform(some, context(inputs=[Plain(n=1)])) == [Plain(n=2)]
    assert perform(some, context(inputs=[Plain(n=0)])) == []
    assert perform(roster.agent(two), context(inputs=[Plain(n=0)])) == [Plain(n=1), Plain(n=2)]
    few = roster.agent("few").consumes(Plain).publishes(Plain, fan_out=1).body(two)
    with pytest.raises(WrongFanOut):
        perform(few, context(inputs=[Plain(n=0)]))
    with pytest.raises(DefinitionError, match="does not take Plain & Plain; it takes Plain"):
        perform(some, context(inputs=[Plain(n=0), Plain(n=1)]))


@pytest.mark.anyio
async def test_recorded_effects_can_raise_and_know_their_arguments() -> None:
    async def fetch(n: int) -> int:
        raise AssertionError("it is recorded")

    ctx = context(recorded={"a": ConnectionError("down"), "b": 1}, strict=True)
    with pytest.raises(ConnectionError, match="down"):
        await ctx.call("a", fetch, 1)
    assert await ctx.call("b", fetch, 1) == 1
    with pytest.raises(AssertionError, match=r'call "c" of .* is not recorded'):
        await ctx.call("c", fetch, 1)
    assert ctx.called == ["a", "b", "c"]
    for effect in (Effect(1, digest="0"), Effect(ValueError("x"), digest="0")):
        with pytest.raises(CallChanged):
            await context(recorded={"a": effect}).call("a", fetch, 1)


def weigh(n: int) -> int:
    """What it weighs."""
    return 10 * n


answering = Roster()
answering.agent("weigher").tools(weigh).limits(retry=Retry(attempts=3)).model(ask=Ask(replies=1)).consumes(
    Plain
).publishes(Weight, fan_out=1)


def a_call(n: int) -> ToolCall:
    return ToolCall(id="1", name="weigh", arguments=f'{{"n": {n}}}')


@dataclass(frozen=True)
class Talk:
    """What a model replies, one after the other, and what the test of it says."""

    replies: list[Answer]
    said: str


GOOD = outputs(Weight(n=20))
TALKS = {
    "tools": Talk([[a_call(2)], GOOD], "outputs == [Weight(n=20)]"),
    "broken JSON": Talk(['{"outputs": [{"type": "Weight", "payload": {"n": 20}}'], "outputs == [Weight(n=20)]"),
    "failed provider": Talk([[a_call(2)], RateLimited("wait"), GOOD], "outputs == [Weight(n=20)]"),
    "refused outputs": Talk(["no", [a_call(3)], "no", [a_call(2)], GOOD], "outputs == [Weight(n=20)]"),
    "useless replies": Talk(["1", "2", "3"], "BadReply,\n        match=re.escape(\n            \"gave 'weigher' no"),
    "bad key": Talk([BadKey("missing")], 'pytest.raises(BadKey, match="missing")'),
}


def test_what_a_model_answered_is_answered_again(tmp_path: Path) -> None:
    files = []
    for number, (name, talk) in enumerate(TALKS.items()):
        board = Blackboard(roster=answering, model=Scripted(talk.replies), clock=VirtualClock())
        board.run_sync(Plain(n=2))
        asked = next(e.seq for e in board.events() if isinstance(e, Activated))
        text = make_test(board, answering, asked, file=ROOT / "tests" / "test_x.py")
        assert talk.said in text, name
        assert 'asked = prompt(answering.find("weigher"), ctx)\n    assert str(asked).split("\\n") == [\n' in text
        assert "asked with another" not in text, "what is compared is what was asked"
        files.append(tmp_path / f"test_{number}.py")
        files[-1].write_text(text)
        if name == "tools":
            assert 'assert ctx.called == ["model/1", "model/1/tool/1", "model/2"]' in text
            changed = tmp_path / "test_changed.py"
            changed.write_text(text.replace('{"n": 2}', '{"n": 3}'))
    for width in ("88", "120"):
        for command in (["format", "--check"], ["check", "--select", "E4,E7,E9,F,PT,UP"]):
            ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", width, *map(str, files)]
            checked = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=False)
            assert checked.returncode == 0, checked.stdout
    done = pytest_on(ROOT, *files)
    assert f"{len(TALKS)} passed" in done.stdout, done.stdout
    assert "CallChanged" in pytest_on(ROOT, changed).stdout


choosing = Roster()
choosing.agent("chooser").tools(weigh).model(
    ask=Ask(best_of=2, score=lambda outputs, _: sum(getattr(w, "n", 0) for w in outputs))
).consumes(Plain).publishes(Weight)


def test_of_several_conversations_the_best_is_the_best_again() -> None:
    model = Scripted([[a_call(2)], [a_call(3)], outputs(Weight(n=20)), outputs(Weight(n=30))])
    board = Blackboard(roster=choosing, model=model)
    board.run_sync(Plain(n=2))
    text = make_test(board, choosing, board.artifacts(Weight)[0].ref, file=ROOT / "tests" / "test_x.py")
    assert '"model-2/1/tool/1": Effect(' in text
    assert "outputs == [Weight(n=30)]" in text
    written: dict[str, Any] = {}
    exec(text, written)
    next(value for name, value in written.items() if name.startswith("test_chooser"))()


def written_for(roster: Roster, board: Blackboard, id: int | str, folder: Path) -> Path:
    """The file of a test of an activation, beside this one as far as its imports go."""
    file = folder / f"test_{id}.py".replace("@", "_")
    file.write_text(make_test(board, roster, id, file=ROOT / "tests" / "test_x.py"))
    return file


def run_here(file: Path) -> None:
    """Run the one test of a file in this process."""
    written: dict[str, Any] = {}
    exec(file.read_text(), written)
    next(value for name, value in written.items() if name.startswith("test_"))()


wordy = Roster(context=PhaseContextProvider())
wordy.agent("wordy").description("Weighs words.").consumes(Plain).publishes(Weight, fan_out=1)


def test_another_prompt_fails_the_test_and_shows_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Blackboard(roster=wordy, model=Scripted([outputs(Weight(n=1)), outputs(Weight(n=2))]))
    board.run_sync(Plain(n=2))
    board.run_sync(Plain(n=3))
    file = written_for(wordy, board, board.artifacts(Weight)[1].ref, tmp_path)
    assert "past=[" in file.read_text()
    run_here(file)
    agent = wordy.find("wordy")
    monkeypatch.setattr(agent, "spec", replace(agent.spec, description="Counts words."))
    with pytest.raises(AssertionError):
        run_here(file)
    shown = pytest_on(ROOT, file).stdout
    assert "1 passed" in shown, "there it is as it was"
    (tmp_path / "test_edited.py").write_text(file.read_text().replace("Weighs words.", "Counts words."))
    shown = pytest_on(ROOT, tmp_path / "test_edited.py").stdout
    assert """'You are the agent "wordy". Weighs words.' != 'You are the agent "wordy". Counts words.'""" in shown
    later = written_for(wordy, board, board.artifacts(Weight)[1].ref, tmp_path)
    assert "Its prompt is that of today; it was asked with another one then." in later.read_text()
    run_here(later)


def light(n: int) -> int:
    """What it weighs when it is dry."""
    return n


PHASE = PhaseDefinition(
    name="weighing", description="x", done_definitions=["y"], expected_outputs=["z"], tools=("light",)
)
allowing = Roster(context=PhaseContextProvider({"weighing": PHASE}))
allowing.agent("weigher").phase("weighing").tools(weigh, light).consumes(Plain).publishes(Weight, fan_out=1)


def test_the_tools_that_a_phase_allows_are_those_of_the_test(tmp_path: Path) -> None:
    allowed = ToolCall(id="2", name="light", arguments='{"n": 2}')
    board = Blackboard(roster=allowing, model=Scripted([[a_call(2)], [allowed], outputs(Weight(n=2))]))
    assert board.run_sync(Plain(n=2)).ok
    file = written_for(allowing, board, board.artifacts(Weight)[0].ref, tmp_path)
    assert 'tools=["light"],' in file.read_text()
    assert '"light: What it weighs when it is dry.",' in file.read_text()
    assert "weigh: " not in file.read_text()
    assert "asked with another" not in file.read_text()
    run_here(file)
    file.write_text(file.read_text().replace('tools=["light"],', 'tools=["light", "weigh"],'))
    with pytest.raises(AssertionError):
        run_here(file)


def test_a_trial_may_allow_some_tools_only() -> None:
    model = Scripted([[a_call(2)], outputs(Weight(n=2))])
    assert trial(allowing.find("weigher"), Plain(n=2), tools=["light"], model=model).report.ok
    assert model.texts()[-1] == "Error: There is no tool 'weigh' for you. You may call: light."


serving = Roster()
serving.agent("buyer").tools(weigh, McpServer(sys.executable, *SHOP_SERVER)).consumes(Plain).publishes(Weight)


def test_what_the_tools_of_a_server_gave_they_give_again_and_no_server_is_started(tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    buy = ToolCall(id="1", name="price", arguments='{"item": "pens", "count": 2}')
    odd = ToolCall(id="3", name="sell", arguments="{}")
    model = Scripted([[buy], [a_call(2)], [odd], outputs(Weight(n=6))])
    board = Blackboard(roster=serving, model=model)
    SHOP_NOTES.unlink(missing_ok=True)
    assert board.run_sync(Plain(n=2)).ok
    assert "pens 2" in SHOP_NOTES.read_text()
    SHOP_NOTES.unlink()
    file = written_for(serving, board, board.artifacts(Weight)[0].ref, tmp_path)
    assert 'served=["price"],' in file.read_text()
    run_here(file)
    assert not SHOP_NOTES.exists(), "no server was started"
    file.write_text(file.read_text().replace('"count": 2', '"count": 3'))
    with pytest.raises(CallChanged):
        run_here(file)


lost = Roster()
lost.agent("lost").tools(McpServer("/no/such/program")).consumes(Plain).publishes(Weight)


def test_a_server_that_was_not_reached_gets_no_test() -> None:
    board = Blackboard(roster=lost, model=Scripted([]))
    board.run_sync(Plain(n=2))
    asked = next(e.seq for e in board.events() if isinstance(e, Activated))
    with pytest.raises(NotFound, match="did not reach a server of tools"):
        make_test(board, lost, asked)


voting = Roster()
voting.agent("voter").consumes(Plain).publishes(Weight)


def test_several_models_of_the_board_choose_again(tmp_path: Path) -> None:
    models = [Scripted([outputs(Weight(n=n))], name=f"m{i}") for i, n in enumerate((1, 2, 2))]
    board = Blackboard(roster=voting, model=models)
    board.run_sync(Plain(n=2))
    file = written_for(voting, board, board.artifacts(Weight)[0].ref, tmp_path)
    assert "model=[Scripted([])] * 3)" in file.read_text()
    run_here(file)
    assert "1 passed" in pytest_on(ROOT, file).stdout
