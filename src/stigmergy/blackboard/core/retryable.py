"""Which errors are worth another attempt, and when."""

import math
from collections.abc import Iterable

from stigmergy.blackboard.errors import (
    CallChanged,
    CallRefused,
    DefinitionError,
    DuplicateCall,
    NotAnswered,
    NotJournalable,
    NotSendable,
)

NEVER: tuple[type[BaseException], ...] = (
    DefinitionError, CallChanged, DuplicateCall, NotJournalable, NotSendable, CallRefused, NotAnswered,
)  # fmt: skip
"""What no further attempt can mend: the code has to be changed, or what was said stands. A component that denies an
effect means it (who may admit it later holds or parks it), and a deadline that has passed is on record."""


def is_retryable(error: BaseException, never: Iterable[type[BaseException] | str] = ()) -> bool:
    """Whether another attempt may do better.

    An exception that has an attribute `retryable` says so itself; else everything may, but for a table.

    Args:
        never: more for the table: classes with all that derive from them, or their names.
    """
    if isinstance(error, NEVER) or _said(error, "retryable") is False:
        return False
    names = {cls.__name__ for cls in type(error).__mro__}
    return not any(kind in names if isinstance(kind, str) else isinstance(error, kind) for kind in never)


def patience(error: BaseException) -> float | None:
    """Seconds that an error asks to wait before another attempt; an attribute that is no such number asks nothing."""
    wait = _said(error, "retry_after")
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not math.isfinite(wait) or wait < 0:
        return None
    return float(wait)


def _said(error: BaseException, name: str) -> object:
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001  user code: an error that cannot say it says nothing
        return None
