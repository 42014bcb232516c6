"""Shared fixtures."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """asyncio is what the library promises."""
    return "asyncio"
