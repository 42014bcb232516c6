"""What was paid, counted again from the log alone."""

from collections.abc import Iterable
from decimal import Decimal

from stigmergy.blackboard.events import Called, Calling, Event


def recount(events: Iterable[Event]) -> tuple[Decimal, Decimal]:
    """What was spent, and the most that was spent and reserved together at any time."""
    spent = most = Decimal(0)
    reserved: dict[int, Decimal] = {}
    for e in events:
        if isinstance(e, Calling):
            reserved[e.seq] = Decimal(e.cost)
        elif isinstance(e, Called):
            reserved.pop(e.cause)
            spent += Decimal(e.cost)
        most = max(most, spent + sum(reserved.values()))
    assert not reserved, "every reservation was settled"
    return spent, most
