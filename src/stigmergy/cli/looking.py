"""What the command line shows of a board file: as text for people, as JSON for programs."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from datetime import datetime

from pydantic import BaseModel

from stigmergy.agents.roster import Roster
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.tree import Growth
from stigmergy.blackboard.core.where import did_you_mean
from stigmergy.blackboard.errors import DefinitionError, NotFound, UnknownField
from stigmergy.blackboard.events import Event
from stigmergy.blackboard.opaque import Gone
from stigmergy.blackboard.reading.artifacts import Artifacts
from stigmergy.blackboard.reading.view import Fixed, View
from stigmergy.blackboard.stores.encoding import ADAPTERS
from stigmergy.blackboard.text import short, table, title, when

_POLL = 0.2
_TIMES = 1e9, 250e9
"""Numbers of seconds between these are log times, and not durations."""
_UNTOLD = {f.name for f in fields(Event)} | {
    "payload", "schema", "digest", "fingerprint", "subscriptions", "type", "ancestors", "root", "depth", "version",
    "inputs_root",
}  # fmt: skip


def artifact_lines(artifacts: Artifacts[BaseModel], *, as_json: bool) -> Iterator[str]:
    """One line per artifact, or a JSON array."""
    if as_json:
        before = "["
        for a in artifacts:
            text = json.dumps(record(a), ensure_ascii=False)  # a board that cannot be read prints nothing at all
            yield before
            before = text + ","
        yield before.removesuffix(",")
        yield "]"
        return
    rows = []
    for a in artifacts:
        said = "(erased)" if isinstance(a.payload, Gone) else short(title(a.payload.model_dump_json(), 60), 64)
        rows.append((a.ref, said, _whence(a), _time(a.at)))
    yield from table(rows, indent="")
    more = artifacts.total - len(artifacts)
    if more:
        yield f"… {more:,} more; --limit 0 shows all"
    elif not rows:
        yield "no such artifacts"


def check_names(view: View, type_name: str | None, fields: Iterable[str]) -> None:
    """Refuse names that nothing on the board has, so that a slip of the pen does not read as "there is none".

    Raises:
        NotFound: no artifact is of this type, and others are.
        UnknownField: none of this type has such a field.
    """
    types = {node.name for node in view.graph().nodes if node.kind == "type"}
    if type_name is not None and types and type_name not in types:
        raise NotFound(f"no artifact here is a {type_name!r}.{did_you_mean(type_name, sorted(types))}")
    missing = set(fields)
    known: set[str] = set()
    for a in view.artifacts(type_name) if missing else ():
        names = a.payload.model_dump(by_alias=True)
        known.update(names if isinstance(names, dict) else ())
    for name in sorted(missing - known) if known else ():
        hint = did_you_mean(name, sorted(known))
        raise UnknownField(f"no {type_name or 'artifact'} here has a field {name!r}.{hint}")


def record(a: Artifact[BaseModel]) -> dict[str, object]:
    """An artifact as JSON."""
    return {
        "id": a.id, "type": a.type_name, "version": a.version, "producer": a.producer, "cause": a.cause, "root": a.root,
        "run": a.run, "tags": list(a.tags), "priority": a.priority, "key": a.key, "phase": a.phase,
        "time": a.time.isoformat(), "payload": a.payload.model_dump(mode="json", by_alias=True),
    }  # fmt: skip


def informed(view: View, roster: Roster) -> View:
    """A view of a file that knows the agents, components and types of a roster."""
    agents = {agent.name: agent.spec for agent in roster.agents}
    known = replace(view._source(), types=roster.types, limits=roster.limits, agents=agents)
    return Fixed(replace(known, components=roster.components))


def tree_lines(view: View, limit: int) -> list[str]:
    """How the work branched, up to so many artifacts."""
    growth = Growth(limit=limit, roots=limit)
    phases: dict[str, str | None] = {}
    for event in view.events():
        growth.apply(event)
        if isinstance(event, ev.Enrolled):
            phases[event.name] = event.phase
    tree = growth.branches(limit)
    return table(tree.rows(phases, "--limit shows more"), indent="") or ["nothing was published"]


def event_lines(events: Iterable[Event], *, as_json: bool) -> Iterator[str]:
    """One line per event."""
    for e in events:
        body = ADAPTERS[type(e)].dump_python(e, mode="json", exclude_defaults=True)
        if as_json:
            common = {"seq": e.seq, "at": e.at, "event": type(e).__name__, "cause": e.cause, "tx": e.tx}
            extra = {"payload": json.loads(e.payload)} if isinstance(e, ev.Published | ev.Called) and e.payload else {}
            yield json.dumps({**common, **body, **extra}, ensure_ascii=False)
            continue
        about = " ".join(f"{k}={_value(v)}" for k, v in body.items() if k not in _UNTOLD)
        if isinstance(e, ev.Published):
            about = f"{e.type} {title(e.payload.decode(), 40)} {about}".strip()
        cause = f"<- {e.cause}" if e.cause else ""
        yield f"{e.seq:>6}  {_time(e.at)}  {type(e).__name__:<10} {cause:<9} {about}".rstrip()


def last_events(view: View, count: int) -> list[Event]:
    """The last so many events; positions may be left out, so that one has to look further back to find them."""
    back = count
    while True:
        start = max(0, view.last - back)
        found = list(view.events(start))
        if len(found) >= count or start == 0:
            return found[len(found) - count :] if count < len(found) else found
        back *= 2


def follow(view: View, after: int) -> Iterator[Event]:
    """Events as another process writes them, without end; the file is looked at a few times a second."""
    while True:
        for event in view.events(after):
            after = event.seq
            yield event
        time.sleep(_POLL)


def past(view: View, at: str | None) -> View:
    """What was to be seen at a position, or at a time in ISO 8601; None = now.

    Raises:
        DefinitionError: it is neither.
    """
    return view if at is None else view.at(moment(at, "--at"))


def moment(text: str, option: str) -> int | datetime:
    """A position, or a time in ISO 8601.

    Raises:
        DefinitionError: it is neither.
    """
    if text.isdecimal():
        return int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise DefinitionError(f"{option} {text}: give a position, or a time like 2026-11-20T12:00:00.") from error


def _whence(a: Artifact[BaseModel]) -> str:
    return "from outside" if a.producer == "outside" else a.producer


def _time(at: float) -> str:
    return when(at).removesuffix(" UTC")


def _value(value: object) -> str:
    if isinstance(value, float):
        first, last = _TIMES
        return _time(value).replace(" ", "T") if first < value < last else f"{value:.6g}"
    if isinstance(value, dict) and "traceback" in value:
        value = f"{value['type']}: {value['message']}"
    return short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 60)
