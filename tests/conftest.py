"""Shared fixtures."""

import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.boards import Boards

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job, which no Ctrl-C reaches
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed: the first text that is drawn in a fresh clone takes seconds on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture
def anyio_backend() -> str:
    """asyncio is what the library promises."""
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite"])
async def new_board(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Boards]:
    """Boards on each store in turn; closed when the test is over."""
    boards = Boards(request.param, tmp_path)
    yield boards
    await boards.close()


@pytest.fixture
async def file_board(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Boards]:
    """Boards in files, for what only a file can show."""
    boards = Boards("sqlite", tmp_path)
    yield boards
    await boards.close()


@pytest.fixture(params=["closed", "died"])
def ending(request: pytest.FixtureRequest) -> str:
    """How a board ends: in good order, or in the middle of whatever it does."""
    return str(request.param)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that nobody in particular can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    return tmp_path
