"""What of a log may be erased: payloads that nothing needs any more."""

from collections.abc import Iterable
from dataclasses import dataclass

from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.events import Activated, Called, Ended
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.question import HumanAnswer, HumanQuestion
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.erasing import HAVE_PAYLOADS
from stigmergy.blackboard.stores.rows import decode, event_at

_ASKED = {type_of(HumanQuestion).name, type_of(HumanAnswer).name}
_MAY_BE_RETRIED = ("dead_letter", "blocker_failed")


@dataclass(frozen=True, slots=True)
class Erasure:
    """What goes of a log, below a position, and what stays.

    Attributes:
        keep: the positions of payloads that are still needed.
        payloads, bytes: how many go, and how long they are.
    """

    keep: tuple[int, ...]
    payloads: int
    bytes: int


def erasable(reader: Reader, state: State, before: int) -> Erasure:
    """Look through a log for what nothing needs.

    What stays: artifacts that are waiting or held, the inputs of what is open and of what failed and may be tried
    again, the replies that were recorded for these, and what people were asked and answered.

    Args:
        state: of the end of that log.
        before: the first position that is not looked at.
    """
    failed = {row.cause for row in reader.events(kinds=("Ended",)) if _may_be_retried(decode(row))}
    failed -= {row.cause for row in reader.events(kinds=("Redriven",))}
    waiting = {id for id, alive in state.alive.items() if alive.refs}
    unfinished = {*state.activations, *failed, *_repeated(reader, {*state.activations, *failed})}
    inputs = {i for id in failed for i in _inputs(reader, id)}
    keep: list[int] = []
    payloads = size = 0
    for row in reader.events(0, before - 1, kinds=HAVE_PAYLOADS):
        event = decode(row) if row.payload else None
        if event is None:
            continue
        if isinstance(event, Called):
            needed = event.activation in unfinished
        else:
            needed = row.seq in waiting or row.seq in inputs or row.type in _ASKED
        if needed:
            keep.append(row.seq)
        else:
            payloads, size = payloads + 1, size + len(row.payload.encode())
    return Erasure(tuple(keep), payloads, size)


def _may_be_retried(event: object) -> bool:
    return isinstance(event, Ended) and event.outcome in _MAY_BE_RETRIED


def _activated(reader: Reader, id: int) -> Activated | None:
    event = event_at(reader, id)
    return event if isinstance(event, Activated) else None


def _inputs(reader: Reader, id: int) -> list[int]:
    found = _activated(reader, id)
    return found.inputs if found is not None else []


def _repeated(reader: Reader, activations: Iterable[int]) -> set[int]:
    """The dead letters that these try again: what was paid for then is not paid for again."""
    found: set[int] = set()
    todo = list(activations)
    while todo:
        event = _activated(reader, todo.pop())
        if event is not None and event.redriven and event.redriven not in found:
            found.add(event.redriven)
            todo.append(event.redriven)
    return found
