"""Lineage for other tools: W3C PROV as PROV-JSON (https://www.w3.org/submissions/prov-json/).

Artifacts are entities, activations are activities, agents and components are software agents; "outside" is an agent,
too. Derivations name the activity that they went through.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from pydantic import JsonValue

from stigmergy.blackboard.reading.step import Step

PREFIX = "board"
SOFTWARE = {"$": "prov:SoftwareAgent", "type": "xsd:QName"}


def prov_of(steps: Sequence[Step]) -> str:
    """The steps of a proof as a PROV-JSON document."""
    document: dict[str, dict[str, JsonValue]] = {"prefix": {PREFIX: "urn:stigmergy:board:"}}
    before: dict[int, list[int]] = {}
    first = {step.id: step for step in reversed(steps)}
    for step in steps:
        if step.parent >= 0:
            before.setdefault(steps[step.parent].id, []).append(step.id)

    def add(kind: str, name: str, **facts: JsonValue) -> None:
        document.setdefault(kind, {})[name] = {f"prov:{key}": value for key, value in facts.items()}

    def relate(kind: str, **ends: JsonValue) -> None:
        add(kind, f"_:{kind}{len(document.get(kind, {})) + 1}", **ends)

    for step in first.values():
        agent = f"{PREFIX}:agent.{quote(step.producer, safe='')}"
        add("agent", agent, type=dict(SOFTWARE), label=step.producer)
        if step.kind == "artifact":
            time = datetime.fromtimestamp(step.at, UTC).isoformat()
            label = f"{step.name} {step.title}".strip()
            add("entity", _entity(step.id), type=step.name.rpartition("@")[0], label=label)
            if not step.activation:
                relate("wasAttributedTo", entity=_entity(step.id), agent=agent)
            else:
                relate("wasGeneratedBy", entity=_entity(step.id), activity=_activity(step.activation), time=time)
        if step.activation and _activity(step.activation) not in document.get("activity", {}):
            add("activity", _activity(step.activation), label=f"{step.producer}@{step.activation}")
            relate("wasAssociatedWith", activity=_activity(step.activation), agent=agent)
            for source in dict.fromkeys(before.get(step.id, ())):
                relate("used", activity=_activity(step.activation), entity=_entity(source))
        if step.kind == "artifact":
            through: dict[str, JsonValue] = {"activity": _activity(step.activation)} if step.activation else {}
            for source in dict.fromkeys(before.get(step.id, ())):
                relate("wasDerivedFrom", generatedEntity=_entity(step.id), usedEntity=_entity(source), **through)
    return json.dumps(document, ensure_ascii=False, indent=2)


def _entity(id: int) -> str:
    return f"{PREFIX}:artifact.{id}"


def _activity(id: int) -> str:
    return f"{PREFIX}:activation.{id}"
