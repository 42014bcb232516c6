"""Seed files and recorded streams: one format, read twice (first to check every line, then to use them) and written."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import IO, Annotated, Literal, TextIO, TypeAlias

from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import from_json

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.errors import InvalidPayload, SeedError, UnknownType
from stigmergy.blackboard.events import Priority, Visibility
from stigmergy.blackboard.payloads.envelope import check_there
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.reading.view import View

FORMAT = "stream/1"
_LINES = (".jsonl", ".ndjson")
_LARGE = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{300}")
"""What every number has that is too large for a float, and hardly any other."""
_MARK = b"\xef\xbb\xbf"
_Values: TypeAlias = Iterator[tuple[int, JsonValue | bytes]]
"""Values with the lines they begin at; bytes are still to be parsed, so that a bad line does not end the reading."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A checked line.

    Attributes:
        at: seconds since the stream began.
        producer: who published it when it was recorded; "" = it is to be published from outside.
        line: where it stands in the file.
        id, cause, inputs: its position when it was recorded, the activation that published it, and what that consumed.
    """

    payload: BaseModel
    type: str
    key: str | None
    tags: tuple[str, ...]
    priority: Priority | None
    visibility: Visibility | None
    at: float
    producer: str
    line: int
    id: int | None = None
    cause: int | None = None
    inputs: tuple[int, ...] = ()


class _Visibility(BaseModel):
    """A restriction with a typo would restrict nothing, so that these fields are as strict as the line itself."""

    model_config = ConfigDict(extra="forbid")

    agents: Annotated[list[str], Field(min_length=1)] | None = None
    labels: Annotated[list[str], Field(min_length=1)] | None = None
    tenant: Annotated[str, Field(min_length=1)] | None = None
    after: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] | None = None


class _Line(BaseModel):
    """The fields of a line; the last ones are written by an export, and are only of interest where it is played."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(min_length=1)]
    payload: JsonValue
    version: Annotated[int, Field(ge=1, strict=True)] = 1
    key: str | None = None
    tags: list[str] = Field(default_factory=list)
    priority: Priority | None = None
    visibility: _Visibility | None = None
    at: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] | None = None
    id: int | None = None
    producer: str = ""
    cause: int | None = None
    inputs: list[int] = Field(default_factory=list)
    time: JsonValue = None


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    stigmergy: Literal["stream/1"]
    start: datetime | None = None
    types: dict[str, int] = Field(default_factory=dict)


class Seeds:
    """The lines of a file, every one of them checked; iterating reads the file again, so that its length costs nothing.

    Attributes:
        count: the lines that are to be published from outside: those that iterating gives.
        recorded: the lines that an agent published when the stream was recorded; `all()` gives them too.
        start: when the stream was recorded, if it says so.
    """

    def __init__(self, values: "Callable[[], _Values]", reading: "_Reading") -> None:
        self._values = values
        self._reading = reading
        self.count = 0
        self.recorded = 0
        self.start: datetime | None = None
        self._check()

    def __iter__(self) -> Iterator[Seed]:
        return (seed for seed in self.all() if not seed.producer)

    def all(self) -> Iterator[Seed]:
        """All lines in order, the recorded outputs of agents among them."""
        at = 0.0
        for number, value in self._values():
            seed = self._reading.seed(number, value, at)
            if isinstance(seed, Seed):
                at = seed.at
                yield seed

    def _check(self) -> None:
        at, first, others = 0.0, None, list[int]()
        for number, value in self._values():
            try:
                seed = self._reading.seed(number, value, at)
            except SeedError as error:
                if first is None:
                    first = error
                else:
                    others.append(number)
                continue
            if isinstance(seed, _Header):
                self.start = seed.start
                continue
            at = seed.at
            self.recorded += bool(seed.producer)
            self.count += not seed.producer
        if first is not None:
            which = ", ".join(map(str, others[:10]))
            also = f" Lines {which} are wrong too." if others[1:] else f" Line {which} is wrong too." if others else ""
            raise SeedError(f"{first} Nothing was published.{also}") from first.__cause__


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the values of a file are understood."""

    name: str
    types: TypeTable
    type_name: str | None

    def seed(self, number: int, value: JsonValue | bytes, at: float) -> "Seed | _Header":
        where = f"{self.name}:{number}"
        if isinstance(value, bytes):
            try:
                value = _parse(value)
            except ValueError as error:
                raise SeedError(f"{where}: {error}") from error
        if self.type_name is not None:
            line = _Line(type=self.type_name, payload=value, version=self._version(self.type_name))
        elif isinstance(value, dict) and "stigmergy" in value:
            return self._header(value, where)
        else:
            line = self._line(value, where)
        if line.at is not None and line.at < at:
            raise SeedError(f"{where}: at is {line.at:g}, before the line above it ({at:g}). Sort the lines by time.")
        payload = self._payload(line, where)
        producer = "" if line.producer == "outside" else line.producer
        tags = tuple(line.tags)
        moment = at if line.at is None else line.at
        visibility = None if line.visibility is None else Visibility(**line.visibility.model_dump())
        return Seed(
            payload, line.type, line.key, tags, line.priority, visibility, moment, producer, number,
            line.id, line.cause, tuple(line.inputs),
        )  # fmt: skip

    def _version(self, name: str) -> int:
        known = self.types.get(name)
        return known.version if known is not None else 1

    @staticmethod
    def _header(value: JsonValue, where: str) -> "_Header":
        try:
            return _Header.model_validate(value)
        except ValidationError as error:
            raise SeedError(f"{where}: this is not a header of a {FORMAT}: {_reason(error)}") from error

    @staticmethod
    def _line(value: JsonValue, where: str) -> "_Line":
        if not isinstance(value, dict):
            raise SeedError(f'{where}: this is {_json_kind(value)}. A line is an object: {{"type": …, "payload": …}}.')
        try:
            return _Line.model_validate(value)
        except ValidationError as error:
            raise SeedError(f"{where}: {_reason(error)}") from error

    def _payload(self, line: "_Line", where: str) -> BaseModel:
        try:
            payload = self.types.parse(line.type, line.version, line.payload, where=where)
        except (InvalidPayload, UnknownType) as error:
            raise SeedError(str(error)) from error
        known = self.types.get(line.type)
        if known is not None and known.version == line.version and isinstance(line.payload, dict):
            unknown = _unknown_field(known.model, line.payload)
            if unknown is not None:
                close = get_close_matches(unknown, known.model.model_fields, 1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise SeedError(f"{where}: {line.type}.{unknown}: there is no such field.{hint}")
        return payload


def read_seeds(path: str | Path, types: TypeTable, *, type_name: str | None = None, name: str | None = None) -> Seeds:
    """Check every line of a seed file or stream.

    Args:
        path: a `.jsonl` file with an object per line, or a `.json` file with an object or a list of them.
        types: the artifact types that a line may name.
        type_name: every line is the bare payload of this type.
        name: how errors call the file; its path unless given.

    Raises:
        SeedError: a line is wrong: names the file, the line and the field.
    """
    if not isinstance(path, str | Path):
        raise SeedError(f"{path!r} is no file name. Give that of a .jsonl or .json file.")
    if type_name is not None and not isinstance(type_name, str):
        raise SeedError(f"type_name={type_name!r} is no text. Give the name of an artifact type.")
    file = Path(path)
    called = name or str(path)
    if file.suffix not in (".json", *_LINES):
        raise SeedError(f"{called}: seed files end in .jsonl or .json.")
    try:
        file.open("rb").close()
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise SeedError(f"{called} cannot be read: {reason}.") from error
    values = _values_by_line if file.suffix in _LINES else _values_of_document
    return Seeds(lambda: values(file, called), _Reading(called, types, type_name))


def save_seeds(stream: IO[bytes], folder: Path) -> Path:
    """Keep what comes from a stream that can be read once only, as a file with the ending that fits its content."""
    kept = folder / "seeds"
    with kept.open("wb") as file:
        shutil.copyfileobj(stream, file)
    with kept.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        by_line = isinstance(_parse(first), dict)
    except ValueError:
        by_line = False
    return kept.rename(kept.with_suffix(".jsonl" if by_line else ".json"))


def _values_by_line(path: Path, name: str) -> _Values:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(_MARK) if number == 1 else line
            if text.strip():
                yield number, text


def _values_of_document(path: Path, name: str) -> _Values:
    """The items of a list, each with the line that it begins at; an object is a list of one."""
    data = path.read_bytes().removeprefix(_MARK)
    try:
        value = _parse(data)
    except ValueError as error:
        raise SeedError(f"{name}: {error} Nothing was published.") from error
    if not isinstance(value, list):
        yield 1, value
        return
    text = data.decode()
    decoder, at, counted, line = json.JSONDecoder(), text.index("[") + 1, 0, 1
    for item in value:
        while text[at] in " \t\r\n,":
            at += 1
        line += text.count("\n", counted, at)
        counted = at
        yield line, item
        _, at = decoder.raw_decode(text, at)


def _parse(text: bytes) -> JsonValue:
    try:
        value: JsonValue = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        reason = str(error).replace(" at line 1 column", ", column")
        raise ValueError(f"this is not JSON: {reason}.") from error
    if _LARGE.search(text) and not _finite(value):  # it would be read as infinite, and written as a text
        raise ValueError("this is not JSON that can be kept: a number is out of range.")
    return value


def _finite(value: JsonValue) -> bool:
    """Whether all numbers in it are."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, float) and not isfinite(item):
            return False
        if isinstance(item, list | dict):
            todo += item if isinstance(item, list) else item.values()
    return True


def _reason(error: ValidationError) -> str:
    """The first error as `field: what is wrong`."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        close = get_close_matches(where, _Line.model_fields, 1)
        return f"there is no field {where!r}." + (f" Did you mean {close[0]!r}?" if close else "")
    if first["type"] == "missing":
        return f"{where} is missing."
    if first["type"] == "literal_error":
        expected = str(first["ctx"]["expected"]).replace(" or ", ", ").replace("'", "")
        return f"{where}: {first['input']!r} is not one of {expected}."
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}."


def _unknown_field(model: type[BaseModel], payload: dict[str, JsonValue]) -> str | None:
    """A field that the model would silently leave out."""
    if model.model_config.get("extra", "ignore") != "ignore":
        return None
    known: set[object] = set(model.model_fields)
    for info in model.model_fields.values():
        known.add(info.alias)
        aliases = info.validation_alias
        for choice in aliases.choices if isinstance(aliases, AliasChoices) else (aliases,):
            known.add(choice.path[0] if isinstance(choice, AliasPath) else choice)
    return next((field for field in payload if field not in known), None)


def _json_kind(value: JsonValue) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def write_stream(view: View, out: TextIO) -> int:
    """Write what was published on a board as a stream: outside artifacts, and the outputs of agents as recorded.

    Returns:
        how many artifacts were written.
    """
    types: dict[str, int] = {}
    start: float | None = None
    for event in view.events():
        if isinstance(event, ev.Published):
            types[event.type] = max(event.version, types.get(event.type, 1))
            start = event.at if start is None else start
    if start is None:
        return 0
    header = {"stigmergy": FORMAT, "start": _iso(start), "types": types}
    out.write(json.dumps(header, ensure_ascii=False) + "\n")
    count = 0
    inputs: dict[int, list[int]] = {}
    ended: list[tuple[int, int]] = []
    for event in view.events():
        if isinstance(event, ev.Activated):
            inputs[event.seq] = event.inputs
        elif isinstance(event, ev.Completed | ev.Ended):
            ended.append((event.tx, event.cause))
        elif isinstance(event, ev.Published):
            known = inputs.get(event.cause)
            out.write(_written(event, start, _inputs(view, event) if known is None else known) + "\n")
            count += 1
        while ended and ended[0][0] < event.tx:
            inputs.pop(ended.pop(0)[1], None)
    return count


def _inputs(view: View, e: ev.Published) -> list[int] | None:
    """What an activation consumed that ended before this was published, as those do that are played."""
    cause = next(view.events(e.cause - 1), None) if e.cause else None
    return cause.inputs if isinstance(cause, ev.Activated) else None


def _written(e: ev.Published, start: float, inputs: list[int] | None) -> str:
    check_there(e)
    fields: dict[str, object] = {"type": e.type, "payload": None, "at": round(e.at - start, 6), "id": e.seq}
    if e.version != 1:
        fields["version"] = e.version
    if e.key is not None:
        fields["key"] = e.key
    if e.tags:
        fields["tags"] = e.tags
    if e.priority != "medium":
        fields["priority"] = e.priority
    if e.visibility is not None:
        fields["visibility"] = {k: v for k, v in asdict(e.visibility).items() if v is not None}
    if e.producer != "outside":
        fields |= {"producer": e.producer, "cause": e.cause}
        if inputs is not None:
            fields["inputs"] = inputs
    fields["time"] = _iso(e.at)
    # The payload is written as it is stored: reading and writing it again could only change it.
    parts = [f"{json.dumps(k)}: {e.payload.decode() if k == 'payload' else _json(v)}" for k, v in fields.items()]
    return "{" + ", ".join(parts) + "}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
