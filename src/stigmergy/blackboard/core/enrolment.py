"""Who takes part in a board from now on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stigmergy.blackboard.component import Component
from stigmergy.blackboard.core.fingerprints import fingerprint, shape, version_of
from stigmergy.blackboard.core.records import Member
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.text import number


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An agent or component that takes part from now on."""

    name: str
    role: Literal["agent", "component"]
    fingerprint: str
    shapes: dict[str, str]
    phase: str | None = None


def enrolments_of(
    specs: Iterable[AgentSpec], components: Iterable[Component[Any]], known: Mapping[str, str],
    phase_of: Callable[[AgentSpec], str | None] | None, *, opening: bool,
) -> list[Enrolment]:  # fmt: skip
    """What is to be recorded: everybody when a board is opened, later who is new or changed.

    Args:
        known: name -> fingerprint, as recorded.
        phase_of: says what phase an agent serves; if it does not, the agent's configuration does.
    """
    found: list[Enrolment] = []
    for spec in specs:
        digest = fingerprint(spec)
        if opening or known.get(spec.name) != digest:
            shapes = {s.id: shape(s) for s in spec.subscriptions}
            phase = (phase_of(spec) if phase_of is not None else None) or spec.phase
            found.append(Enrolment(spec.name, "agent", digest, shapes, phase))
    for c in components:
        digest = version_of(c)
        if opening or known.get(c.name) != digest:
            found.append(Enrolment(c.name, "component", digest, {}))
    return found


@dataclass(frozen=True, slots=True)
class RosterChange:
    """How one agent or component differs from when the board was last run.

    Bodies, predicates, models and limits are not compared: only what says who is offered what, and what is published.

    Attributes:
        what: which parts changed, in words; empty for who is new or gone.
        open: activations that wait for an agent that is gone.
    """

    role: Literal["agent", "component"]
    name: str
    change: Literal["added", "removed", "changed"]
    what: tuple[str, ...] = ()
    open: tuple[int, ...] = ()

    def __str__(self) -> str:
        who = f"{self.role} {self.name!r}"
        if self.change == "added":
            return f"{who} is new"
        if self.change == "changed":
            return f"{who} has changed: {'; '.join(self.what)}"
        if not self.open:
            return f"{who} is gone"
        more = ", …" if len(self.open) > 3 else ""
        which = ", ".join(f"{self.name}@{id}" for id in self.open[:3]) + more
        ids = ", ".join(map(str, self.open[:3])) + more
        count = number(len(self.open), "open activation")
        give_up = f"give them up with board.cancel({ids}) or stigmergy cancel"
        return f"{who} is gone, with {count}: {which}. Define it again, or {give_up}"


def roster_changes(state: State, enrolments: Sequence[Enrolment]) -> tuple[RosterChange, ...]:
    """How those who are to be enrolled differ from those who took part last; nothing for a board that nobody ran.

    Args:
        enrolments: everybody; nobody at all is somebody who only looks after the board.
    """
    before = state.roster
    if not before or not enrolments:
        return ()
    found = [RosterChange(e.role, e.name, "added") for e in enrolments if e.name not in before]
    for e in enrolments:
        was = before.get(e.name)
        if was is not None and was.fingerprint != e.fingerprint:
            found.append(RosterChange(e.role, e.name, "changed", _difference(was, e)))
    now = {e.name for e in enrolments}
    for name, was in before.items():
        if name not in now:
            waiting = tuple(a.id for a in state.activations.values() if a.agent == name)
            found.append(RosterChange(was.role, name, "removed", open=waiting))
    return tuple(found)


def _difference(was: Member, now: Enrolment) -> tuple[str, ...]:
    if was.role != now.role or now.role == "component":
        return (f"{now.fingerprint if now.role == 'component' else now.role}, was {_kind(was)}",)
    parts = [f"subscription {id} is new" for id in now.shapes if id not in was.shapes]
    parts += [f"subscription {id} is gone" for id in was.shapes if id not in now.shapes]
    for id, shape_now in now.shapes.items():
        if was.shapes.get(id, shape_now) != shape_now:
            parts.append(f"subscription {id} has other types, counts, join key or scope")
    return tuple(parts) or ("filters, deadlines or outputs",)


def _kind(was: Member) -> str:
    return was.fingerprint if was.role == "component" else was.role
