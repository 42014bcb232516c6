"""Durations as people may give them."""

from datetime import timedelta

from stigmergy.blackboard.errors import DefinitionError

Seconds = float | timedelta


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
    if not 0 < number < float("inf"):
        raise DefinitionError(f"{what} is {number:g} s. Give more than zero and less than forever, or leave it out.")
    return float(number)
