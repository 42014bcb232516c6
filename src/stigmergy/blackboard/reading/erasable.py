"""What of a log may be erased: payloads that nothing needs any more."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.events import Activated, Called, Ended, Event, Redriven
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.question import HumanAnswer, HumanQuestion
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.erasing import HAVE_PAYLOADS
from stigmergy.blackboard.stores.rows import decode

_ASKED = {type_of(HumanQuestion).name, type_of(HumanAnswer).name}
_MAY_BE_RETRIED = ("dead_letter", "blocker_failed")


class Past(Protocol):
    """What was decided, durable or not."""

    def event(self, id: int) -> Event | None:
        """The event at that position."""
        ...

    def young(self, after: int) -> list[Event]:
        """The events after that position that are not durable."""
        ...


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


def erasable(reader: Reader, past: Past, state: State, before: int) -> Erasure:
    """Look through a log for what nothing needs.

    What stays: artifacts that are waiting or held, the inputs of what is open and of what failed and may be tried
    again, the replies that were recorded for these, and what people were asked and answered.

    Args:
        reader, past: the log, and what else was decided that is not durable yet.
        state: after all of that.
        before: the first position that is not looked at; durable, or the next.
    """
    young = past.young(reader.last())
    over = [*map(decode, reader.events(kinds=("Ended", "Redriven"))), *young]
    failed = {e.cause for e in over if isinstance(e, Ended) and e.outcome in _MAY_BE_RETRIED}
    failed -= {e.cause for e in over if isinstance(e, Redriven)}
    waiting = {id for id, alive in state.alive.items() if alive.refs}
    unfinished = {*state.activations, *failed, *_repeated(past, {*state.activations, *failed})}
    inputs = {i for id in failed for i in _inputs(past, id)}
    keep: list[int] = []
    payloads = size = 0
    for row in reader.events(0, before - 1, kinds=HAVE_PAYLOADS):
        if not row.payload:
            continue
        if row.kind == "Published":
            needed = row.seq in waiting or row.seq in inputs or row.type in _ASKED
        else:
            reply = decode(row)
            needed = isinstance(reply, Called) and reply.activation in unfinished
        if needed:
            keep.append(row.seq)
        else:
            payloads, size = payloads + 1, size + len(row.payload.encode())
    return Erasure(tuple(keep), payloads, size)


def _inputs(past: Past, id: int) -> list[int]:
    event = past.event(id)
    return event.inputs if isinstance(event, Activated) else []


def _repeated(past: Past, activations: Iterable[int]) -> set[int]:
    """The dead letters that these try again: what was paid for then is not paid for again."""
    found: set[int] = set()
    todo = list(activations)
    while todo:
        event = past.event(todo.pop())
        if isinstance(event, Activated) and event.redriven and event.redriven not in found:
            found.add(event.redriven)
            todo.append(event.redriven)
    return found
