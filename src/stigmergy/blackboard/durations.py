"""Durations as people may give them."""

from datetime import timedelta

from stigmergy.blackboard.errors import DefinitionError

Seconds = float | timedelta
LONGEST = 1e11
"""Three thousand years; log times that come of it can still be written as dates."""


def in_seconds(value: Seconds, what: str) -> float:
    """The duration as a number of seconds.

    Args:
        value: seconds, or a `timedelta`; more than zero.
        what: how an error names it.

    Raises:
        DefinitionError: it is no duration, or not more than zero.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise DefinitionError(f"{what} is {value!r}, which is no duration. Give seconds or a timedelta.")
    if not 0 < number <= LONGEST:
        text = f"{number:g}" if number != number or abs(number) < 1e300 else "beyond all time"
        raise DefinitionError(f"{what} is {text} s. Give more than zero and less than forever, or leave it out.")
    return float(number)
