"""Looking at a board: plain calls that see what is durable, on a living board, at a past position, or in a file."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast, overload

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.component import Component
from stigmergy.blackboard.core.fold import fold
from stigmergy.blackboard.core.observers import Observers, overrides
from stigmergy.blackboard.core.visibility import Named
from stigmergy.blackboard.core.where import Filter, matches, parse_where
from stigmergy.blackboard.definitions import AgentSpec, Limits, Subscription
from stigmergy.blackboard.errors import BadComponent, BadFilter, BadType, NotExactlyOne, NotFound, StoreError
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.opaque import Gone, Opaque
from stigmergy.blackboard.payloads.envelope import envelope, opened
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import plain, type_of
from stigmergy.blackboard.reading.artifacts import Artifacts, Query
from stigmergy.blackboard.reading.dead_letters import DeadLetter, dead_letters
from stigmergy.blackboard.reading.picture import Picture, picture_of
from stigmergy.blackboard.reading.proof import Proof, why
from stigmergy.blackboard.reading.report import Report, report_of
from stigmergy.blackboard.reading.why_not import Question, WhyNot, why_not
from stigmergy.blackboard.stores.base import Reader, Row
from stigmergy.blackboard.stores.rows import as_published, decode
from stigmergy.blackboard.stores.sqlite import SQLiteReader

M = TypeVar("M", bound=BaseModel)
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Source:
    """What a view reads.

    Attributes:
        name: the file, or "memory".
        until: the last position that is seen; None = all that is durable.
        subscriptions: definitions by id, if they are at hand, to say what joins lack.
        agents: the same by agent, to say why one did not take an artifact.
        components: if they are at hand, to say what they let start.
    """

    reader: Reader
    types: TypeTable
    name: str
    until: int | None = None
    limits: Limits | None = None
    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    agents: Mapping[str, AgentSpec] = field(default_factory=dict)
    components: Sequence[Component[Any]] = ()


class View:
    """Everything that can be read of a board. Reads are not awaited and never change anything."""

    def _source(self) -> Source:
        """What to read."""
        raise NotImplementedError

    @overload
    def artifacts(
        self,
        model: type[M],
        /,
        *,
        where: Filter[M] | None = None,
        producer: str | Named | None = None,
        tags: str | Iterable[str] = (),
        run: str | None = None,
        limit: int | None = None,
        held: bool = False,
    ) -> Artifacts[M]: ...
    @overload
    def artifacts(
        self,
        model: str | None = None,
        /,
        *,
        where: Filter[Any] | None = None,
        producer: str | Named | None = None,
        tags: str | Iterable[str] = (),
        run: str | None = None,
        limit: int | None = None,
        held: bool = False,
    ) -> Artifacts[BaseModel]: ...
    def artifacts(
        self, model: type[BaseModel] | str | None = None, /, *, where: Filter[Any] | None = None,
        producer: str | Named | None = None, tags: str | Iterable[str] = (), run: str | None = None,
        limit: int | None = None, held: bool = False,
    ) -> Artifacts[Any]:  # fmt: skip
        """The artifacts of a type, oldest first, read as they are looked at.

        Args:
            model: the type, or its name; None = all types.
            where: fields with the values they must have, or a test of the payload, or a list of both.
            producer: only by this agent or component; "outside" = from outside.
            tags: only with at least one of these tags.
            run: only of this run.
            limit: list only so many of them, from the first; `total` still counts all.
            held: also those that were never released.

        Raises:
            UnknownField: the filter names a field that the type does not have.
        """
        source = self._source()
        if model is not None and not isinstance(model, type | str):
            raise BadType(f"{model!r} is no artifact type. Give a class, or the name of one.")
        if isinstance(limit, int) and limit < 0:
            raise BadFilter(f"limit={limit} lists nothing. Give how many to list, or leave it out.")
        if limit is not None and type(limit) is not int:
            raise BadFilter(f"limit={limit!r} is no number. Give how many to list, or leave it out.")
        cls = model if isinstance(model, type) else None
        if isinstance(model, str) and (known := source.types.get(model)) is not None:
            cls = known.model
        name = type_of(model).name if isinstance(model, type) else model
        by = producer if isinstance(producer, str) or producer is None else getattr(producer, "name", None)
        if producer is not None and not isinstance(by, str):
            raise BadFilter(f"producer={producer!r} is no agent or component. Give it, or its name.")
        if not isinstance(tags, Iterable):
            raise BadFilter(f"tags={tags!r} are no tags. Give a text, or a list of texts.")
        query: Query[BaseModel] = Query(
            source.reader,
            _until(source),
            _typed(cls) if cls is not None else _by_name(source.types),
            name,
            run,
            frozenset((by,)) if by is not None else frozenset(),
            frozenset((tags,)) if isinstance(tags, str) else frozenset(tags),
            _test(cls, where),
            held,
        )
        return Artifacts(query, limit)

    def one(self, model: type[M], /, *, where: Filter[M] | None = None) -> M:
        """The payload of the only artifact of that type that passes.

        Raises:
            NotExactlyOne: there is none, or there are several; says which.
        """
        found = self.artifacts(model, where=where)
        first = [a for _, a in zip(range(4), found, strict=False)]
        if len(first) == 1:
            return first[0].payload
        wanted = f"one {type_of(model).name}" + (f" with {where!r}" if isinstance(where, Mapping) else "")
        if not first:
            among = self.artifacts(model).total
            raise NotExactlyOne(f"{wanted} was asked for; there is none" + (f" among {among:,}." if among else "."))
        which = ", ".join(a.ref for a in first[:3]) + (", …" if len(first) > 3 else "")
        raise NotExactlyOne(f"{wanted} was asked for; there are {found.total:,}: {which}. Narrow it with where=.")

    def get(self, id: int | str, /) -> Artifact[BaseModel]:
        """The artifact with that id: `12`, `"12"`, or `"Type@12"`.

        Raises:
            NotFound: there is no such artifact.
        """
        source = self._source()
        position, name = self._position(id)
        row = source.reader.event(position) if position <= _until(source) else None
        event = as_published(row)
        if event is None:
            what = f"{position} is {row.kind}" if row is not None else f"the last position is {_until(source)}"
            raise NotFound(f"there is no artifact {id}: {what}.")
        if name and name != event.type:
            raise NotFound(f"there is no artifact {id}: {position} is {event.type}@{position}.")
        return opened(source.types, event) if event.payload else envelope(event, Gone(None))

    def at(self, moment: int | datetime, /) -> "View":
        """The board as it was: after the decision that this position belongs to, or at that time.

        Args:
            moment: a position, or a time; one without a time zone is local time.
        """
        source = self._source()
        last = _until(source)
        try:
            at = moment.timestamp() if isinstance(moment, datetime) else 0.0
        except (OverflowError, ValueError):
            at = 0.0  # so long ago that there was nothing
        if not isinstance(moment, int | datetime) or isinstance(moment, bool):
            raise NotFound(f"{moment!r} is no moment of a board. Give a position, or a datetime.")
        position = moment if isinstance(moment, int) else _position_at(source.reader, at, last)
        return Fixed(replace(source, until=_end_of_decision(source.reader, min(position, last), last)))

    def report(self) -> Report:
        """What happened up to now, and what is left, folded from the log."""
        source = self._source()
        until = _until(source)
        folded = fold(source.reader, Observers(()), lambda e: envelope(e, Opaque(None)), until)
        return report_of(
            folded.ledger, folded.state, store=source.name, ref=ref_in(source.reader), limits=source.limits,
            subscriptions=source.subscriptions,
        )  # fmt: skip

    def fold(self, component: Component[S], /) -> S:
        """The state of a component after this log, whether it took part in it or not: its sums, counts or tallies.

        Raises:
            BadComponent: it raised.
            PayloadErased: it asks for what was erased, and did not take part when it was.
        """
        if not isinstance(component, Component):
            raise BadComponent(f"{component!r} is no component. Give an instance of a class derived from Component.")
        source = self._source()
        observers = Observers((component,))
        fold(source.reader, observers, partial(opened, source.types), _until(source))
        for error in observers.began.values():  # what it says would be of a part of the log
            raise error
        if component.name in observers.faulted:
            raise BadComponent(f"component {component.name!r} raised at an event of {source.name}. Mend its step().")
        return cast("S", observers.states[component.name])

    def why(self, id: int | str | Artifact[Any], /) -> Proof:
        """How an artifact or activation came about, back to what came from outside.

        Args:
            id: `12`, `"12"`, `"Type@12"` or `"agent@33"`; or an artifact.

        Raises:
            NotFound: there is no such thing.
        """
        source = self._source()
        position, name = self._position(id)
        proof = why(source.reader, position, _until(source))
        subject = proof.steps[0].name
        if name and f"{name}@{position}" != subject:
            raise NotFound(f"there is no {name}@{position}: {position} is about {subject}.")
        return proof

    def why_not(self, agent: str | Named, id: int | str | Artifact[Any], /) -> WhyNot:
        """What held an agent back from an artifact, or what came of it if it did take it.

        A board knows the definitions of its agents; a view of a file alone can say only what the log says.

        Args:
            agent: the agent or its name.
            id: `12`, `"12"` or `"Type@12"`; or an artifact.

        Raises:
            NotFound: there is no such agent or artifact.
        """
        source = self._source()
        event = decode(cast("Row", source.reader.event(self.get(id.ref if isinstance(id, Artifact) else id).id)))
        admitting = Observers([c for c in source.components if overrides(c, "admit")])
        folded = fold(source.reader, admitting, partial(opened, source.types), _until(source))
        return why_not(Question(
            agent if isinstance(agent, str) else agent.name, cast("Published", event), source.reader, _until(source),
            folded.state, source.agents, source.types, source.limits or Limits(), source.name, admitting,
            frozenset(name for c in source.components for name in c.reserve.values()),
        ))  # fmt: skip

    def dead_letters(self, *ids: int | str) -> tuple[DeadLetter, ...]:
        """What failed for good, oldest first, with inputs, attempts and tracebacks; all of it, or these activations.

        Raises:
            NotFound: one of them is no dead letter, or no longer one.
        """
        source = self._source()
        wanted = [self._position(id)[0] for id in ids] or None
        return tuple(dead_letters(source.reader, source.types, _until(source), wanted))

    def graph(self) -> Picture:
        """What emerged: which agents consumed and published which types, how often."""
        source = self._source()
        return picture_of(self.events(), title=source.name)

    @property
    def last(self) -> int:
        """The last position that is seen; 0 = nothing is there."""
        return _until(self._source())

    def events(self, after: int = 0) -> Iterator[Event]:
        """The events of the log after that position, in order, read in pages."""
        if type(after) is not int:
            raise NotFound(f"after={after!r} is no position. Positions are whole numbers.")
        source = self._source()
        return (decode(row) for row in source.reader.events(max(0, min(after, _until(source))), _until(source)))

    def _position(self, id: int | str | Artifact[Any]) -> tuple[int, str]:
        if isinstance(id, Artifact):
            return id.id, id.type_name
        text = id.removeprefix(f"{self._source().name}:") if isinstance(id, str) else str(id)
        name, _, digits = text.rpartition("@")
        if not isinstance(id, int | str) or not digits.isdecimal() or len(digits) > 18:
            raise NotFound(f"{id!r} is no id. Ids are written 12 or Type@12.")
        return int(digits), name


class Fixed(View):
    """A view that stays as it is: of a file, or of a past position."""

    def __init__(self, source: Source) -> None:
        self._fixed = source

    def _source(self) -> Source:
        return self._fixed

    def __repr__(self) -> str:
        at = f" at {self._fixed.until}" if self._fixed.until is not None else ""
        return f"View({self._fixed.name!r}{at})"

    def close(self) -> None:
        """Close the file."""
        self._fixed.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read(path: str | Path, types: Iterable[type[BaseModel]] = ()) -> Fixed:
    """Open a board file for reading, also while another process runs it.

    Args:
        path: the file.
        types: the classes to read payloads into, or `roster.types`; other payloads are `Opaque`, their JSON.

    Raises:
        StoreError: it is not there, or no board.
    """
    if not isinstance(path, str | Path):
        raise StoreError(f"{path!r} is no board file. Give its name.")
    if not isinstance(types, Iterable):
        raise BadType(f"types={types!r} are no types. Give a list of classes, or roster.types.")
    table = TypeTable()
    for model in types:
        table.add(model)
    return Fixed(Source(SQLiteReader(Path(path)), table, str(path)))


def ref_in(reader: Reader) -> Callable[[int], str]:
    """Names artifacts by looking them up: `Type@12`."""

    def ref(id: int) -> str:
        row = reader.event(id)
        return f"{row.type or row.kind}@{id}" if row is not None else f"@{id}"

    return ref


def _until(source: Source) -> int:
    last = source.reader.last()
    return last if source.until is None else min(source.until, last)


def _end_of_decision(reader: Reader, position: int, last: int) -> int:
    first = next(reader.events(max(0, position - 1), last), None)
    if first is None or first.seq != position:
        return max(0, min(position, last))
    for row in reader.events(position, last):
        if row.tx != first.tx:
            break
        position = row.seq
    return position


def _position_at(reader: Reader, at: float, last: int) -> int:
    """The last position not after that time, by halving."""
    low, high = 0, last
    while low < high:
        middle = (low + high + 1) // 2
        row = next(reader.events(middle - 1, last), None)
        if row is not None and row.at <= at:
            low = max(middle, row.seq)
        else:
            high = middle - 1
    return low


def _typed(model: type[BaseModel]) -> Callable[[Published], BaseModel]:
    decoded = type_of(model).decode_version
    return lambda event: decoded(event.version, event.payload)


def _by_name(types: TypeTable) -> Callable[[Published], BaseModel]:
    return lambda event: types.decode(event.type, event.version, event.payload)


def _test(model: type[BaseModel] | None, where: Filter[Any] | None) -> Callable[[BaseModel], bool] | None:
    """The filter as a test; without a class, equality is asked of whatever fields the payload has."""
    if where is None:
        return None
    if model is not None:
        parsed = parse_where(model, where, "artifacts()")
        return lambda payload: matches(parsed, payload)
    parts = where if isinstance(where, list | tuple) else (where,)
    for part in parts:
        if not isinstance(part, Mapping) and not callable(part):
            what = "a mapping of fields to values, a function of the payload, or a list of both"
            raise BadFilter(f"artifacts() filters by {part!r}; where= takes {what}.")
    tests = [_loose(part) if isinstance(part, Mapping) else cast("Callable[[Any], bool]", part) for part in parts]
    return lambda payload: all(test(payload) for test in tests)


def _loose(fields: Mapping[str, object]) -> Callable[[BaseModel], bool]:
    allowed = {
        name: [plain(v) for v in (value if isinstance(value, set | frozenset | list | tuple) else (value,))]
        for name, value in fields.items()
    }

    def test(payload: BaseModel) -> bool:
        values = payload.root if isinstance(payload, Opaque) else payload.__dict__
        return isinstance(values, dict) and all(n in values and plain(values[n]) in a for n, a in allowed.items())

    return test
