"""What a body in a thread may know and do."""

from typing import Any, Never

from stigmergy.agents.context import Context
from stigmergy.blackboard.errors import UseContext


class ThreadContext(Context):
    """The context of a plain function, which cannot await: what would have to be awaited raises at once, because a
    call that nobody awaits does nothing, and says nothing."""

    def call(self, *args: Any, **kwargs: Any) -> Never:
        """Not in a plain function."""
        self._refuse("make it async def to journal effects")

    def sleep(self, *args: Any, **kwargs: Any) -> Never:
        """Not in a plain function."""
        self._refuse("make it async def to sleep durably")

    def ask(self, *args: Any, **kwargs: Any) -> Never:
        """Not in a plain function."""
        self._refuse("make it async def to ask")

    def charge(self, *args: Any, **kwargs: Any) -> Never:
        """Not in a plain function."""
        self._refuse("make it async def to book what it cost")

    def publish(self, *args: Any, **kwargs: Any) -> Never:
        """Not in a plain function."""
        self._refuse("return what it publishes")

    def _refuse(self, way_out: str) -> Never:
        raise UseContext(f"{self.agent_name!r} is a plain function in a thread; {way_out}.")
