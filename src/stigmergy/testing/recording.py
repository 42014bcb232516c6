"""What one activation did, read from the log: its inputs and context, its effects, and how its last attempt ended."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from stigmergy.agents.agent import Agent
from stigmergy.agents.roster import Roster
from stigmergy.agents.worker import BodyWorker
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing
from stigmergy.blackboard.errors import NotFound
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.payloads.envelope import opened
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.question import HumanAnswer, HumanQuestion, answer_key
from stigmergy.blackboard.reading.view import View
from stigmergy.blackboard.shell.job import Job
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.rows import as_published, decode, event_at
from stigmergy.loop import in_a_loop
from stigmergy.testing.desk import HandDesk


@dataclass(frozen=True, slots=True)
class Recording:
    """One attempt of one activation: the last that ran to its end.

    Attributes:
        first: the first of the dead letters that it repeats; 0 = none.
        alone: no attempt came before it, so that all it asked for and published on the way is known to be its own.
        outputs: what it published at its end; `inside`: what it published before that.
        failures: how the attempts before it ended, oldest first.
        effects: by key the announcement, and the record that counts: of this attempt, or of one before it.
        asked: the keys that this attempt announced, in order.
        answers: what people answered, by the key of the question.
    """

    activation: ev.Activated
    claim: ev.Claimed
    end: ev.Completed | ev.Failed
    first: int
    alone: bool
    feedback: str
    inputs: tuple[Artifact[Any], ...]
    outputs: tuple[Artifact[Any], ...]
    inside: tuple[Artifact[Any], ...]
    failures: tuple[ev.Failed, ...]
    effects: dict[str, tuple[ev.Calling, ev.Called]]
    asked: tuple[str, ...]
    answers: dict[str, JsonValue]

    @property
    def name(self) -> str:
        """`agent@33`."""
        return f"{self.activation.agent}@{self.activation.seq}"


def recording(view: View, id: int | str, types: TypeTable) -> Recording:
    """Read one from the log.

    Args:
        id: of the activation, of one of its events, or of an artifact that it published.

    Raises:
        NotFound: there is no such activation, or no attempt of it ended in a way that its body decides.
    """
    reader, until = view._source().reader, view.last
    step = view.why(id).steps[0]
    activation = event_at(reader, step.activation)
    if not isinstance(activation, ev.Activated):
        raise NotFound(f"{step.name} came from outside, so no agent made it. Name an activation, or what it published.")
    followed = [decode(row) for row in reader.following(activation.seq) if row.seq <= until]
    claim, end, feedback = _attempt(activation, followed)
    published = [e for e in followed if isinstance(e, Published) and not e.system]
    questions = [e for e in published if e.type == type_of(HumanQuestion).name]

    def artifacts(events: Sequence[Published]) -> tuple[Artifact[Any], ...]:
        return tuple(opened(types, e) for e in events)

    chain = list(_chain(reader, activation))
    inputs = [e for e in (event_at(reader, i) for i in activation.inputs) if isinstance(e, Published)]
    return Recording(
        activation, claim, end, chain[-1] if len(chain) > 1 else 0,
        alone=len(chain) == 1 and next(e for e in followed if isinstance(e, ev.Claimed)).seq == claim.seq,
        feedback=feedback, inputs=artifacts(inputs),
        outputs=artifacts([e for e in published if e.tx == end.tx]),
        inside=artifacts([e for e in published if e.tx < end.tx and e not in questions]),
        failures=tuple(
            e for id in reversed(chain) for e in map(decode, reader.following(id))
            if isinstance(e, ev.Failed) and e.seq < claim.seq
        ),
        effects=_effects(reader, chain, claim.seq, end.seq),
        asked=tuple(
            e.key for e in map(decode, reader.calls(activation.seq))
            if isinstance(e, ev.Calling) and claim.seq < e.seq < end.seq
        ),
        answers=_answers(reader, activation.run, questions),
    )  # fmt: skip


def _attempt(activation: ev.Activated, followed: Sequence[Event]) -> tuple[ev.Claimed, ev.Completed | ev.Failed, str]:
    """The last attempt that ended: its claim and end, and what it was told of the one before."""
    claim: ev.Claimed | None = None
    found: tuple[ev.Claimed, ev.Completed | ev.Failed, str] | None = None
    told = feedback = ""
    for e in followed:
        if isinstance(e, ev.Claimed):
            claim, told = e, feedback
        elif isinstance(e, ev.Completed | ev.Failed) and claim is not None:
            found = claim, e, told
            feedback = e.feedback if isinstance(e, ev.Failed) else ""
    name = f"{activation.agent}@{activation.seq}"
    if found is None:
        raise NotFound(f"{name} did not run to an end, so there is nothing to test. See: why-not, or why {name}.")
    end = found[1]
    if isinstance(end, ev.Failed) and end.kind != "error":
        reasons = {"timeout": "ran into its timeout", "rejected": "had its outputs rejected, which are not recorded"}
        how = reasons.get(end.kind, "was interrupted when the board was closed or its process died")
        raise NotFound(
            f"the last attempt of {name} {how}; that is not what its body alone decides, so no test shows it."
        )
    return found


def _chain(reader: Reader, activation: ev.Activated) -> Iterator[int]:
    """The activation, and the dead letters that it repeats, the first of them last."""
    at: Event | None = activation
    while isinstance(at, ev.Activated):
        yield at.seq
        at = event_at(reader, at.redriven)


def _effects(reader: Reader, chain: Sequence[int], claim: int, end: int) -> dict[str, tuple[ev.Calling, ev.Called]]:
    """What was recorded by key: what is done is done for good, what failed counts in its own attempt only."""
    found: dict[str, tuple[ev.Calling, ev.Called]] = {}
    for id in reversed(chain):
        callings: dict[int, ev.Calling] = {}
        for e in map(decode, reader.calls(id)):
            if isinstance(e, ev.Calling):
                callings[e.seq] = e
            elif isinstance(e, ev.Called) and e.seq < end and e.cause in callings:
                calling = callings[e.cause]
                counts = e.outcome == "done" or (e.outcome == "failed" and calling.seq > claim)
                found |= {calling.key: (calling, e)} if counts else {}
    return found


def _answers(reader: Reader, run: str, questions: Sequence[Published]) -> dict[str, JsonValue]:
    """What was answered; of a question that was asked anew, the last answer."""
    found: dict[str, JsonValue] = {}
    for question in questions:
        _, _, rest = (question.key or "").partition("/ask/")
        answer = as_published(reader.by_key(run, answer_key(question.seq)))
        if answer is not None:
            found[rest.rpartition("/")[0]] = HumanAnswer.model_validate_json(answer.payload).value
    return found


# -- the context ------------------------------------------------------------------------------------------------------


def briefing(view: View, seen: Recording, agent: Agent, roster: Roster, types: TypeTable) -> Briefing:
    """The context that the attempt had: what the context provider of today says of the board as of the claim."""
    a, claim = seen.activation, seen.claim
    desk = HandDesk(seen.inputs, {}, reader=view._source().reader, now=claim.at)
    job = Job(
        a.seq, claim.seq, claim.attempt, agent.spec, a.subscription, a.inputs, a.slots, a.run, seen.feedback,
        claim.at, a.redriven, desk,
    )  # fmt: skip
    worker = BodyWorker([agent], types, roster.context)
    told = in_a_loop(lambda: worker.context(job))
    return Briefing(told.instructions, told.past, told.tools)
