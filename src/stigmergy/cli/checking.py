"""What a file defines: its agents and components, the settings of a run, and what looks like a mistake."""

from collections.abc import Iterator
from dataclasses import asdict

from pydantic import BaseModel
from pydantic_core import to_json

from stigmergy.agents.roster import Roster
from stigmergy.blackboard.definitions import Limits
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.text import number


def checked(roster: Roster) -> None:
    """Refuse agents that could never run.

    Raises:
        DefinitionError: one of them could not.
    """
    for agent in roster.agents:
        agent.validate(has_model=roster.model is not None)


def check_lines(roster: Roster) -> Iterator[str]:
    """What is there, for people."""
    yield from map(repr, roster.agents)
    for component in roster.components:
        yield f"Component({component.name!r})"
    yield "Settings(" + ", ".join(f"{name}={value}" for name, value in _settings(roster).items()) + ")"
    yield from _doubts(roster)
    types = roster.types.names()
    yield f"{number(len(roster.agents), 'agent')}, {number(len(types), 'artifact type')}: no errors"


def check_json(roster: Roster) -> str:
    """The same for programs."""
    agents = [
        {
            "name": agent.name, "definition": repr(agent), "phase": agent.spec.phase,
            "description": agent.spec.description, "place": agent.spec.place,
            "consumes": list(dict.fromkeys(slot.type_name for s in agent.subscriptions for slot in s.slots)),
            "publishes": [output.type_name for output in agent.outputs],
        }
        for agent in roster.agents
    ]  # fmt: skip
    found = {
        "agents": agents, "components": [c.name for c in roster.components], "types": sorted(roster.types.names()),
        "settings": _settings(roster), "doubts": list(_doubts(roster)),
    }  # fmt: skip
    return to_json(found, indent=2).decode()


def _settings(roster: Roster) -> dict[str, object]:
    model = roster.model
    limits = {f"limits.{k}": v for k, v in asdict(roster.limits or Limits()).items() if v is not None}
    named = {"model": getattr(model, "name", model)} if model is not None else {}
    return {**named, "concurrency": roster.concurrency, **limits}


def _doubts(roster: Roster) -> Iterator[str]:
    """What can be meant, and mostly is not: a published type that nobody takes, though somebody takes its base."""
    consumed = {slot.model for agent in roster.agents for s in agent.subscriptions for slot in s.slots}
    for agent in roster.agents:
        for output in agent.outputs:
            bases = [b for b in output.model.__mro__[1:] if b in consumed and b is not BaseModel]
            if bases and output.model not in consumed:
                base = type_of(bases[0]).name
                yield (
                    f'agent "{agent.name}" publishes {output.type_name}, which nobody consumes: what consumes {base} '
                    "gets that type alone, not what is derived from it."
                )
