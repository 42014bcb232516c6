"""Questions to people: whoever asked is held until the answer is on the board, and everything else goes on."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from pydantic import BaseModel, JsonValue

from stigmergy.blackboard.component import (
    ADMIT,
    ActivationRequest,
    Admission,
    CallRequest,
    Component,
    Hold,
    Publish,
    Reaction,
    Seen,
)
from stigmergy.blackboard.events import Completed, Ended, Event, Published, Rang, Redriven
from stigmergy.blackboard.question import DEADLINE, HumanAnswer, HumanQuestion, answer_key


@dataclass(frozen=True, slots=True)
class Asked:
    """A question without an answer; `until` is log time, `overdue` says that it has passed."""

    about: int
    by: str
    run: str
    what: str
    until: float | None
    default: JsonValue
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class OpenQuestions:
    """The open questions by id, and an open one of each activation that asks; and, of failures by activation: those
    that nobody has taken care of, with the event that ended them, and those about which a person has decided, with the
    run and the answer."""

    open: dict[int, Asked] = field(default_factory=dict)
    about: dict[int, int] = field(default_factory=dict)
    failed: dict[int, int] = field(default_factory=dict)
    decided: dict[int, tuple[str, JsonValue]] = field(default_factory=dict)


class Questions(Component[OpenQuestions]):
    """Lets agents ask people with `ctx.ask`: holds whoever asked, and answers for people when a deadline passes.

    A run in which nothing else is left ends as `waiting`, and names the questions.
    """

    publishes = (HumanQuestion, HumanAnswer)
    observes: ClassVar[tuple[type[Event] | type[BaseModel], ...]] = (
        HumanQuestion, HumanAnswer, Rang, Completed, Ended, Redriven,
    )  # fmt: skip

    def start(self) -> OpenQuestions:
        return OpenQuestions()

    def step(self, state: OpenQuestions, seen: Seen, /) -> OpenQuestions:
        event = seen.event
        match event:
            case Published() if seen.artifact is not None:
                if (question := seen.artifact.as_type(HumanQuestion)) is not None:
                    until = None if question.within is None else event.at + question.within
                    asked = Asked(question.about, event.producer, event.run, question.what, until, question.default)
                    return _with_open(state, {**state.open, event.seq: asked})
                answer = seen.artifact.as_type(HumanAnswer)
                if answer is None or event.key != answer_key(answer.question):
                    return state
                return _without(state, answer.question)
            case Rang(timer="alarm") if event.component == self.name:
                due = {id_: a for id_, a in state.open.items() if a.until is not None and a.until <= event.at}
                overdue = {id_: replace(a, overdue=True) for id_, a in due.items()}
                return _with_open(state, {**state.open, **overdue})
            case Completed() | Ended() | Redriven():
                over = [id_ for id_, a in state.open.items() if a.about == event.cause]
                return _without(state, *over) if over else state
            case _:
                return state

    def react(self, state: OpenQuestions, seen: Seen, /) -> Iterable[Reaction]:
        if isinstance(seen.event, Rang):
            for id_, a in state.open.items():
                if a.overdue:
                    answer = HumanAnswer(question=id_, value=a.default, by=DEADLINE)
                    yield Publish(answer, key=answer_key(id_), run=a.run, about=(id_,))
            return
        said = seen.artifact.as_type(HumanAnswer) if seen.artifact is not None else None
        if said is not None and seen.artifact is not None and said.question in state.open:
            # An agent said it. What counts is the one answer that has the key of the question.
            answer = HumanAnswer(question=said.question, value=said.value, by=seen.artifact.producer)
            run, about = state.open[said.question].run, (said.question, seen.artifact.id)
            yield Publish(answer, key=answer_key(said.question), run=run, about=about)

    def admit(self, state: OpenQuestions, request: ActivationRequest | CallRequest, /) -> Admission:
        if isinstance(request, ActivationRequest):
            id_ = state.about.get(request.id)
            if id_ is not None:
                return Hold(f"HumanQuestion@{id_}: {state.open[id_].what}", state.open[id_].until)
        return ADMIT

    def alarm(self, state: OpenQuestions, /) -> float | None:
        return min((a.until for a in state.open.values() if a.until is not None and not a.overdue), default=None)

    def waiting(self, state: OpenQuestions, /) -> str:
        if not state.open:
            return ""
        id_, first = next(iter(state.open.items()))
        more = f" and {len(state.open) - 1:,} more" if len(state.open) > 1 else ""
        return f"HumanQuestion@{id_}: {first.what}{more}"


def _without(state: OpenQuestions, *ids: int) -> OpenQuestions:
    return _with_open(state, {id_: a for id_, a in state.open.items() if id_ not in ids})


def _with_open(state: OpenQuestions, questions: dict[int, Asked]) -> OpenQuestions:
    return replace(state, open=questions, about={a.about: id_ for id_, a in questions.items()})
