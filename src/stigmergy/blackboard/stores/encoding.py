"""Events as rows. Bodies of the events that every delivery has are written by hand: byte for byte what pydantic gives,
in a third of the time. What is rare on these events is left to pydantic."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json

from stigmergy.blackboard.events import KINDS, Activated, Called, Claimed, Completed, Event, Matched, Published
from stigmergy.blackboard.stores.base import Row

ADAPTERS: dict[type[Event], TypeAdapter[Any]] = {cls: TypeAdapter(cls) for cls in KINDS.values()}
_TO_JSON: dict[type[Event], Callable[..., bytes]] = {cls: a.serializer.to_json for cls, a in ADAPTERS.items()}
_KNOWN = 10_000
"""Texts whose JSON is kept."""


class _Quoted(dict[str, str]):
    """Text -> its JSON. The names of types, agents, subscriptions and runs are few."""

    def __missing__(self, text: str) -> str:
        if len(self) >= _KNOWN:
            self.clear()
        quoted = self[text] = to_json(text).decode()
        return quoted


_quoted = _Quoted()
_row: Callable[[tuple[object, ...]], Row] = partial(tuple.__new__, Row)
"""A row from its values in order; the class itself takes twice as long."""


def plainly(event: Event) -> str:
    """The body of any event: its JSON, without the columns and without fields that have their default.

    Raises:
        PydanticSerializationError: a field is not of its type, so that the file could not be read again.
    """
    return _TO_JSON[event.__class__](event, exclude_defaults=True, warnings="error").decode()


def _any(e: Event) -> Row:
    payload = e.payload.decode() if isinstance(e, Called) else ""
    kind = e.__class__.__name__
    return _row((e.seq, e.tx, e.at, kind, e.cause, None, None, None, None, plainly(e), payload))


def _published(e: Published) -> Row:
    return _row((
        e.seq, e.tx, e.at, "Published", e.cause, e.run, e.type, e.key, e.work, _body_of_published(e),
        e.payload.decode(),
    ))  # fmt: skip


def _body_of_published(e: Published) -> str:
    if (
        e.key is not None or e.tags or e.visibility is not None or e.ancestors or e.work is not None or e.blocking
        or e.parent_work is not None or e.phase is not None or e.held_by or e.held_until is not None
        or e.self_skipped or e.digest or e.version != 1 or e.replaces
        or not (e.type and e.schema and e.run and e.producer)
    ):  # fmt: skip
        return plainly(e)
    q = _quoted
    body = f'{{"type":{q[e.type]},"schema":{q[e.schema]},"run":{q[e.run]},"producer":{q[e.producer]}'
    if e.priority != "medium":
        body += f',"priority":"{e.priority}"'
    if e.root:
        body += f',"root":{e.root}'
    if e.depth:
        body += f',"depth":{e.depth}'
    if e.unserved:
        body += ',"unserved":true'
    return body + (',"system":true}' if e.system else "}")


def _activated(e: Activated) -> Row:
    if e.blockers or e.blocker_runs or e.redriven or not (e.agent and e.subscription and e.inputs and e.run):
        return _any(e)
    q = _quoted
    body = f'{{"agent":{q[e.agent]},"subscription":{q[e.subscription]},"inputs":{_numbers(e.inputs)}'
    if e.slots:
        body += f',"slots":{_numbers(e.slots)}'
    if e.key:
        body += f',"key":{to_json(e.key).decode()}'
    if e.scope:
        body += f',"scope":{q[e.scope]}'
    body += f',"run":{q[e.run]}'
    if e.priority != "medium":
        body += f',"priority":"{e.priority}"'
    body += f',"depth":{e.depth}}}' if e.depth else "}"
    return _row((e.seq, e.tx, e.at, "Activated", e.cause, None, None, None, None, body, ""))


def _claimed(e: Claimed) -> Row:
    if e.worker or e.attempt != 1 or e.alone:
        return _any(e)
    body = "{}" if e.epoch == 1 else f'{{"epoch":{e.epoch}}}'
    return _row((e.seq, e.tx, e.at, "Claimed", e.cause, None, None, None, None, body, ""))


def _completed(e: Completed) -> Row:
    if not (e.outputs and e.seconds):
        return _any(e)
    body = f'{{"outputs":{e.outputs},"seconds":{to_json(e.seconds).decode()}}}'
    return _row((e.seq, e.tx, e.at, "Completed", e.cause, None, None, None, None, body, ""))


def _matched(e: Matched) -> Row:
    if not (e.subscription and e.key and e.scope):
        return _any(e)
    body = f'{{"subscription":{_quoted[e.subscription]}'
    if e.slot:
        body += f',"slot":{e.slot}'
    body += f',"key":{to_json(e.key).decode()},"scope":{_quoted[e.scope]}}}'
    return _row((e.seq, e.tx, e.at, "Matched", e.cause, None, None, None, None, body, ""))


def _numbers(ids: list[int]) -> str:
    return f"[{ids[0]}]" if len(ids) == 1 else str(ids).replace(" ", "")


ROWS: dict[type[Event], Callable[[Any], Row]] = {
    **dict.fromkeys(KINDS.values(), _any),
    Published: _published, Activated: _activated, Claimed: _claimed, Completed: _completed, Matched: _matched,
}  # fmt: skip
"""Event class -> what makes its row."""
