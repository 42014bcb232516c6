"""A person for what nobody could do."""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel, JsonValue, ValidationError

from stigmergy.blackboard.component import Close, Discard, Publish, Reaction, Redrive, Seen
from stigmergy.blackboard.core.visibility import Named, name_of
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import Closed, Ended, Event, Opened, Published, Rang, Redriven
from stigmergy.blackboard.question import REMEDY, Choice, HumanAnswer, HumanQuestion, Remedy
from stigmergy.blackboard.reading.dead_letters import RECOVERY
from stigmergy.blackboard.text import problems, short
from stigmergy.components.questions import OpenQuestions, Questions


class Escalation(Questions):
    """Asks a person what to do about what failed for good, and does it; everything else goes on meanwhile.

    It stays a dead letter until it is answered. It also keeps the questions of agents, as `Questions` does.
    Of the agents only those are asked that may see all inputs of what failed: the question quotes the error.
    What another component makes good before this one is not asked about.

    Args:
        agents: whose failures; none = everybody's.
        within: seconds until the default counts.
        default: what is done then.
    """

    observes: ClassVar[tuple[type[Event] | type[BaseModel], ...]] = (
        *Questions.observes, Published, Opened, Closed,
    )  # fmt: skip

    def __init__(
        self, *agents: str | Named, within: Seconds | None = None, default: Choice | None = None
    ) -> None:  # fmt: skip
        if (within is None) != (default is None):
            raise BadComponent("Escalation: default= is what is done when within= has passed. Give both or neither.")
        self._agents = frozenset(map(name_of, agents))
        self._within = None if within is None else in_seconds(within, "within=")
        self._default = default

    def step(self, state: OpenQuestions, seen: Seen, /) -> OpenQuestions:
        event = seen.event
        match event:
            case Ended(outcome="dead_letter") if seen.activation is not None:
                state = super().step(state, seen)
                if self._agents and seen.activation.agent not in self._agents:
                    return state
                return replace(state, failed={**state.failed, seen.activation.id: event.seq})
            case Published() if RECOVERY in event.tags and event.system:
                return replace(state, failed={a: end for a, end in state.failed.items() if end != event.cause})
            case Published() if seen.artifact is not None:
                return self._published(state, seen, event)
            case Redriven():
                return _settled(super().step(state, seen), event.cause)
            case Closed() if event.by == self.name:
                over = [a for a, (run, _) in state.decided.items() if run == event.run]
                return _settled(state, *over)
            case _:
                return super().step(state, seen)

    def _published(self, state: OpenQuestions, seen: Seen, event: Published) -> OpenQuestions:
        answer = seen.artifact.as_type(HumanAnswer) if seen.artifact is not None else None
        asked = state.open.get(answer.question) if answer is not None else None
        after = super().step(state, seen)
        if event.producer == self.name and seen.artifact is not None:
            question = seen.artifact.as_type(HumanQuestion)
            if question is not None:
                return _settled(after, question.about)
        if answer is None or asked is None or asked.by != self.name or answer.question in after.open:
            return after
        return replace(after, decided={**after.decided, asked.about: (asked.run, answer.value)})

    def react(self, state: OpenQuestions, seen: Seen, /) -> Iterable[Reaction]:
        yield from super().react(state, seen)
        event, a = seen.event, seen.activation
        if isinstance(event, Ended) and a is not None and a.id in state.failed:
            error = event.reason
            if event.error is not None:
                message = short(event.error.message, 200)
                error = f"{event.error.type}: {message}" if message else event.error.type
            yield Publish(
                self._question(a.id, f"{a.agent}@{a.id} failed: {error}. What now?"), run=a.run, about=(a.id,)
            )
        said = seen.artifact.as_type(HumanAnswer) if seen.artifact is not None else None
        answered = state.open.get(said.question) if said is not None else None
        if said is not None and answered is not None and answered.by == self.name:  # its own answers it is not told of
            yield self._remedy(answered.about, answered.run, said.value)
        if isinstance(event, Rang):
            for asked in state.open.values():
                if asked.overdue and asked.by == self.name:
                    yield self._remedy(asked.about, asked.run, asked.default)
        if isinstance(event, Published | Opened):
            for about, (run, value) in state.decided.items():
                yield self._remedy(about, run, value)

    def _remedy(self, about: int, run: str, value: JsonValue) -> Reaction:
        try:
            remedy = Remedy.of(value)
        except ValidationError as error:
            refused = problems(error)
            again = self._question(about, f"{short(repr(value), 200)} is no answer about {about}. What now?", refused)
            return Publish(again, run=run, about=(about,))
        match remedy.then:
            case "retry":
                return Redrive(about, edited=remedy.edited)
            case "skip":
                return Discard(about, "a person skipped it")
            case "abort":
                return Close("cancelled", f"aborted after {about} failed", run=run, stop="cancel")

    def _question(self, about: int, what: str, refused: str = "") -> HumanQuestion:
        return HumanQuestion(
            what=what, answer=REMEDY, within=self._within, default=self._default, about=about, refused=refused
        )


def _settled(state: OpenQuestions, *activations: int) -> OpenQuestions:
    return replace(
        state,
        failed={a: end for a, end in state.failed.items() if a not in activations},
        decided={a: decided for a, decided in state.decided.items() if a not in activations},
    )
