"""Assertions over any view, which say how what they found came about."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.where import Filter
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.reading.artifacts import Artifacts
from stigmergy.blackboard.reading.proof import rests_on
from stigmergy.blackboard.reading.report import Report
from stigmergy.blackboard.reading.view import View
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.rows import as_published
from stigmergy.blackboard.text import number

M = TypeVar("M", bound=BaseModel)
_SHOWN = 3


def assert_published(
    view: View, model: type[M], /, *, where: Filter[M] | None = None, count: int | None = None
) -> list[M]:
    """Assert that such artifacts are on the board; their payloads, oldest first.

    Args:
        where: as in `View.artifacts`.
        count: exactly so many; at least one unless given.

    Raises:
        AssertionError: there are none, or another number; shows those there are, and how they came about.
    """
    __tracebackhide__ = True
    found = view.artifacts(model, where=where)
    payloads = found.payloads
    if payloads if count is None else len(payloads) == count:
        return payloads
    wanted = f"{'at least one' if count is None else count} {_named(model, where)} should be published"
    if payloads:
        raise AssertionError(f"{wanted}; there are {len(payloads):,}.\n{_origins(view, found)}")
    others = view.artifacts(model)
    if others:
        raise AssertionError(f"{wanted}; none of {number(others.total, 'artifact')} passes.\n{_origins(view, others)}")
    raise AssertionError(f"{wanted}; there is none.\n{_indented(view.report())}")


def assert_not_published(view: View, model: type[M], /, *, where: Filter[M] | None = None) -> None:
    """Assert that no such artifact is on the board.

    Raises:
        AssertionError: there is one; shows how it came about.
    """
    __tracebackhide__ = True
    found = view.artifacts(model, where=where)
    if found:
        raise AssertionError(
            f"no {_named(model, where)} should be published; there {'is' if found.total == 1 else 'are'} "
            f"{found.total:,}.\n{_origins(view, found)}"
        )


def assert_idle(view: View | Report, /) -> None:
    """Assert that all work is done: nothing is open, nothing failed, and nothing waits for a deadline.

    Raises:
        AssertionError: shows the report, and how the first activation that is open or failed came about.
    """
    __tracebackhide__ = True
    report = view if isinstance(view, Report) else view.report()
    if report.reason == "idle" and report.ok and not report.open:
        return
    parts = [f"the board should be idle, with all work done; it is {report.reason!r}.", _indented(report)]
    if isinstance(view, View):
        parts += [_indented(view.why(id)) for id in islice(_unfinished(report), 1)]
    raise AssertionError("\n".join(parts))


def assert_lineage(view: View, /, *models: type[BaseModel]) -> list[Artifact[Any]]:
    """Assert that some artifact of the last type descends from one of the type before, and so on back to the first.

    Others may come between. Returns such a chain, oldest first.

    Args:
        models: two or more, causes first.

    Raises:
        AssertionError: there is no such chain; shows what the newest artifacts of the last type descend from.
    """
    __tracebackhide__ = True
    reader = view._source().reader
    names = [type_of(model).name for model in models]
    last = view.artifacts(models[-1], held=True)
    for artifact in reversed(last):
        event = as_published(reader.event(artifact.id))
        chain = _chain(reader, event, names[:-1]) if event is not None else None
        if chain is not None:
            return [view.get(id) for id in chain]
    wanted = f"some {names[-1]} should descend from {' from '.join(reversed(names[:-1]))}"
    if not last:
        raise AssertionError(f"{wanted}; there is no {names[-1]}.\n{_indented(view.report())}")
    newest = list(islice(reversed(last), _SHOWN))
    raise AssertionError("\n".join([f"{wanted}; none does.", *(_indented(view.why(a.id)) for a in newest)]))


def _chain(reader: Reader, event: Published, names: list[str]) -> list[int] | None:
    """The positions of an artifact and, before it, of ancestors of these types, each an ancestor of the next."""
    if not names:
        return [event.seq]
    for ancestor in _ancestors(reader, event):
        if ancestor.type == names[-1] and (chain := _chain(reader, ancestor, names[:-1])) is not None:
            return [*chain, event.seq]
    return None


def _ancestors(reader: Reader, event: Event) -> Iterator[Published]:
    """What an artifact descends from, the nearest first, each once."""
    seen: set[int] = set()
    near = [event]
    while near:
        before = [e for of in near for e in rests_on(reader, of)]
        near = list({e.seq: e for e in before if e.seq not in seen}.values())
        seen |= {e.seq for e in near}
        yield from (e for e in near if isinstance(e, Published))


def _unfinished(report: Report) -> Iterator[int]:
    """The activations among what is left."""
    for kind in report.left.by_kind():
        for left in kind:
            activation = getattr(left, "activation", None)
            if isinstance(activation, int):
                yield activation


def _named(model: type[BaseModel], where: Filter[Any] | None) -> str:
    name = type_of(model).name
    if where is None:
        return name
    return f"{name} with {dict(where)}" if isinstance(where, Mapping) else f"{name} that passes the filter"


def _origins(view: View, found: Artifacts[Any]) -> str:
    shown = [_indented(view.why(a.id)) for a in islice(found, _SHOWN)]
    more = [f"  … {found.total - _SHOWN:,} more"] if found.total > _SHOWN else []
    return "\n".join([*shown, *more])


def _indented(what: object) -> str:
    return "\n".join(f"  {line}" if line else "" for line in str(what).splitlines())
