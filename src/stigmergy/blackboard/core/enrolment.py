"""Who takes part in a board from now on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stigmergy.blackboard.component import Component
from stigmergy.blackboard.core.fingerprints import fingerprint, shape, version_of
from stigmergy.blackboard.definitions import AgentSpec


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
        phase_of: says what phase an agent serves that does not say so itself.
    """
    found: list[Enrolment] = []
    for spec in specs:
        digest = fingerprint(spec)
        if opening or known.get(spec.name) != digest:
            shapes = {s.id: shape(s) for s in spec.subscriptions}
            phase = spec.phase or (phase_of(spec) if phase_of is not None else None)
            found.append(Enrolment(spec.name, "agent", digest, shapes, phase))
    for c in components:
        digest = version_of(c)
        if opening or known.get(c.name) != digest:
            found.append(Enrolment(c.name, "component", digest, {}))
    return found
