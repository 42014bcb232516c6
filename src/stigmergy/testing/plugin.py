"""The pytest plugin: fixtures for boards, their clock and their streams, and a guard against the network.

pytest loads it wherever stigmergy is installed, so it does nothing until asked, but for refusing real models.
"""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest

from stigmergy.agents.models import litellm as real
from stigmergy.agents.models.model import Estimate, Request
from stigmergy.agents.models.scripted import Answer, Scripted
from stigmergy.agents.roster import Roster
from stigmergy.blackboard.clock import VirtualClock
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.reading.view import View
from stigmergy.board import Blackboard
from stigmergy.loop import in_a_loop
from stigmergy.seeds import write_stream
from stigmergy.testing.network import refuse_real_model, refused_network
from stigmergy.testing.streams import Line, text_of


class OpenBoard(Protocol):
    """What the fixture `open_board` is."""

    def __call__(
        self, roster: Roster | None = None, /, *, store: Literal["memory", "sqlite"] = "memory", **options: Any
    ) -> Blackboard:
        """A board with the test's clock; closed when the test is over.

        Args:
            roster: a roster, or a board, which lends its agents, components and settings.
            store: "sqlite" for a file in a folder of the test's own.
            options: as of `Blackboard`.
        """
        ...


class MakeStream(Protocol):
    """What the fixture `stream` is."""

    def __call__(self, *lines: Line | View, name: str = "stream.jsonl") -> Path:
        """A stream file in the test's own folder.

        Args:
            lines: text, objects, or payloads to be published from outside; or a view: all that was published there.
        """
        ...


class MakeModel(Protocol):
    """What the fixture `scripted` is."""

    def __call__(
        self, replies: Iterable[Answer] | Callable[[Request], Answer], /, *, name: str = "scripted",
        cost: Decimal | str = "0", tokens: int = 0, estimate: Estimate | None = None,
    ) -> Scripted:  # fmt: skip
        """A model that answers from a list, in the order of the calls, or with a function of the request.

        Args:
            replies: as of `Scripted`; of a list every reply has to be asked for before the test is over.
            name: what requests and reports call it.
            cost, tokens: of each reply; dollars, exact.
            estimate: what each request is said to cost at most; by default what it costs.
        """
        ...


@pytest.fixture
def clock() -> VirtualClock:
    """The clock of this test's boards: it moves only when told, or when a board waits for a deadline."""
    return VirtualClock()


@pytest.fixture
def open_board(clock: VirtualClock, tmp_path: Path) -> Iterator[OpenBoard]:
    """Makes boards on the test's virtual clock; see `OpenBoard`."""
    made: list[Blackboard] = []

    def make(
        roster: Roster | None = None, /, *, store: Literal["memory", "sqlite"] = "memory", **options: Any
    ) -> Blackboard:
        if store not in ("memory", "sqlite"):
            raise DefinitionError(f'open_board: store={store!r} is not one of "memory", "sqlite".')
        path = tmp_path / f"board{len(made)}.db" if store == "sqlite" else None
        board = Blackboard(path, roster=roster, **{"clock": clock, **options})
        made.append(board)
        return board

    yield make

    async def close() -> None:
        for board in made:
            await board.close()

    in_a_loop(close)


@pytest.fixture
def stream(tmp_path: Path) -> MakeStream:
    """Writes stream files to play; see `MakeStream`."""

    def make(*lines: Line | View, name: str = "stream.jsonl") -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8") as file:
            for line in lines:
                if isinstance(line, View):
                    write_stream(line, file)
                else:
                    file.write(text_of(line) + "\n")
        return path

    return make


@pytest.fixture
def scripted() -> Iterator[MakeModel]:
    """Makes models that answer as they are told; see `MakeModel`."""
    made: list[tuple[Scripted, int]] = []

    def make(
        replies: Iterable[Answer] | Callable[[Request], Answer], /, *, name: str = "scripted",
        cost: Decimal | str = "0", tokens: int = 0, estimate: Estimate | None = None,
    ) -> Scripted:  # fmt: skip
        if callable(replies) or isinstance(replies, str):
            return Scripted(replies, name=name, cost=cost, tokens=tokens, estimate=estimate)
        listed = list(replies)
        made.append((Scripted(listed, name=name, cost=cost, tokens=tokens, estimate=estimate), len(listed)))
        return made[-1][0]

    yield make
    for model, count in made:
        asked = len(model.asked)
        assert asked >= count, f"{model.name} has {count} replies, and was asked for {asked}. Leave out the rest."


@pytest.fixture
def no_network() -> Iterator[None]:
    """In this test sockets reach this machine only."""
    with refused_network():
        yield


@pytest.fixture
def real_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this test real models may be asked; elsewhere only those on this machine, so that no test costs money."""
    monkeypatch.setattr(real, "guard", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one option."""
    parser.addini("stigmergy_no_network", "let no test reach another machine", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Real models are refused; with the option, all tests are guarded against the network."""
    config.add_cleanup(partial(setattr, real, "guard", real.guard))
    real.guard = refuse_real_model
    if config.getini("stigmergy_no_network"):
        config.pluginmanager.register(_Guard(), "stigmergy_no_network")


class _Guard:
    """Guards every test against the network, its fixtures included."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Around setup, call and teardown."""
        with refused_network():
            return (yield)
