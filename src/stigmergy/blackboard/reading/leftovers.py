"""What can be left on a board: each kind with its facts and the next thing to do about it."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import JsonValue

from stigmergy.blackboard.events import ErrorInfo
from stigmergy.blackboard.text import number, short, when

MESSAGE = 400
"""How many characters of an error a report shows; what to do about it stands at its end."""


def next_command(store: str, verb: str, *arguments: object) -> str:
    """What to type next: a command for a file, a call for a board in memory, nothing for one that is gone ("")."""
    if not store:
        return ""
    if store == "memory":
        call = f"board.{verb}({', '.join('...' if a is ... else repr(a) for a in arguments)})"
        return f"await {call}" if verb in ("retry", "answer", "cancel") else call
    return " ".join(["stigmergy", verb, shlex.quote(store), *(shlex.quote(str(a)) for a in arguments)])


def resume_command(store: str | Path, target: str = "FILE") -> str:
    """What goes on with a board's file; `target` says where its agents are defined."""
    return f"stigmergy resume {shlex.quote(target)} --store {shlex.quote(str(store))}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An activation that failed for good; `inputs` as `Type@id`."""

    kind: ClassVar[str] = "dead letter"
    activation: int
    agent: str
    inputs: tuple[str, ...]
    error: ErrorInfo | None
    reason: str
    attempts: int

    def line(self) -> str:
        """What happened."""
        what = f"{self.error.type}: {self.error.message}" if self.error and self.error.message else self.reason
        if self.error and not self.error.message:
            what = self.error.type
        tries = f", {number(self.attempts, 'attempt')}" if self.attempts > 1 else ""
        return f"{self.agent}@{self.activation} on {_some(self.inputs)}: {short(what, MESSAGE)}{tries}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "retry", self.activation)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question to a person; `until` is log time, and what is asked for is one of the choices, if there are any."""

    kind: ClassVar[str] = "question"
    id: int
    by: str
    about: int
    what: str
    choices: tuple[JsonValue, ...]
    until: float | None

    def line(self) -> str:
        """Who asks what."""
        choices = f" ({', '.join(_written(c) for c in self.choices)})" if self.choices else ""
        until = f" until {when(self.until)}" if self.until is not None else ""
        return f"HumanQuestion@{self.id} by {self.by}: {short(self.what, 72)}{choices}{until}"

    def command(self, store: str) -> str:
        """What to do next."""
        if store == "memory":
            return next_command(store, "answer", self.id, self.choices[0] if self.choices else ...)
        return next_command(store, "answer", self.id, _written(self.choices[0]) if self.choices else "field=value")


def _written(choice: JsonValue) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


@dataclass(frozen=True, slots=True)
class NoConsumer:
    """An artifact that nobody took; `self_skipped` would have, but published it."""

    kind: ClassVar[str] = "no consumer"
    id: int
    type: str
    phase: str | None
    self_skipped: tuple[str, ...]

    def line(self) -> str:
        """Which."""
        return f"{self.type}@{self.id}" + (f' (phase "{self.phase}")' if self.phase else "")

    def command(self, store: str) -> str:
        """Why."""
        if self.self_skipped:
            return f"only {', '.join(self.self_skipped)} takes it, who published it (self_trigger=)"
        return "no agent consumes this phase" if self.phase else "no agent that is enrolled takes it"


@dataclass(frozen=True, slots=True)
class WaitingInputs:
    """Artifacts in places of a subscription that waits for more; `what` it is and `lacks` are empty if its definition
    is not at hand, `until` is the log time of its deadline, if it has one."""

    subscription: str
    agent: str
    key: str
    has: tuple[str, ...]
    lacks: tuple[str, ...]
    latest: int
    until: float | None = None
    what: Literal["join", "batch", ""] = ""

    @property
    def kind(self) -> str:
        """What waits."""
        return f"{self.what} waiting".lstrip()

    def line(self) -> str:
        """What is there and what is lacking."""
        key = f", {self.key}" if self.key else ""
        lacks = f"lacks {', '.join(self.lacks)}" if self.lacks else "waits for more"
        until = f" (until {when(self.until)})" if self.until is not None else ""
        return f"{self.agent}{key}: has {_some(self.has)}, {lacks}{until}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "why-not" if store != "memory" else "why_not", self.agent, self.latest)


@dataclass(frozen=True, slots=True)
class Blocked:
    """An activation that waits for work that is not done."""

    kind: ClassVar[str] = "blocked"
    activation: int
    agent: str
    inputs: tuple[str, ...]
    works: tuple[str, ...]

    def line(self) -> str:
        """Who waits for what."""
        works = ", ".join(f'"{w}"' for w in self.works[:3]) + (", …" if len(self.works) > 3 else "")
        return f"{self.agent}@{self.activation} on {_some(self.inputs)} waits for work {works}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "why", self.activation)


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An artifact or activation that somebody holds; `until` is log time."""

    kind: ClassVar[str] = "held"
    id: int
    subject: str
    by: str
    reason: str
    until: float | None

    def line(self) -> str:
        """What, by whom, why."""
        reason = f": {short(self.reason, 60)}" if self.reason else ""
        until = f" until {when(self.until)}" if self.until is not None else ""
        return f"{self.subject} by {self.by}{until}{reason}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "why", self.id)


@dataclass(frozen=True, slots=True)
class Due:
    """A deadline that work waits for; `at` is log time."""

    kind: ClassVar[str] = "due"
    timer: Literal["retry", "sleep"]
    subject: str
    id: int
    at: float

    def line(self) -> str:
        """What comes when."""
        return f"{self.timer} of {self.subject} at {when(self.at)}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "why", self.id)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Activations of one agent that have not ended: ready ones, and those running when the log ends; `gone` if the
    agent did not take part when the board was last run."""

    kind: ClassVar[str] = "not finished"
    agent: str
    ready: int
    running: int
    oldest: int
    gone: bool = False

    def line(self) -> str:
        """How many."""
        parts = [f"{n:,} {word}" for n, word in ((self.ready, "ready"), (self.running, "running")) if n]
        return f"{self.agent}: {', '.join(parts)}" + (", and no such agent takes part" if self.gone else "")

    def command(self, store: str) -> str:
        """What to do next."""
        if self.gone and store:
            return f"define agent {self.agent!r} again, or {next_command(store, 'cancel', self.oldest)}"
        if store == "memory":
            return "await board.run_until_idle()"
        return resume_command(store) if store else ""


@dataclass(frozen=True, slots=True)
class FailedComponent:
    """A component that raised."""

    kind: ClassVar[str] = "component failed"
    component: str
    error: ErrorInfo | None

    def line(self) -> str:
        """What it raised."""
        error = self.error
        return f"{self.component}: {error.type}: {short(error.message, MESSAGE)}" if error else self.component

    def command(self, store: str) -> str:
        """What it means."""
        return "out of service; what it guards is denied. Mend it, raise its version= and open the board again"


@dataclass(frozen=True, slots=True)
class PutAside:
    """What ended on purpose without being done, by reason: skipped, cancelled, expired, withdrawn, blocker failed."""

    outcome: str
    subject: str
    reason: str
    count: int
    first: int

    def line(self) -> str:
        """How many, and why."""
        times = f" ({self.count:,} times)" if self.count > 1 else ""
        return f"{self.subject}{': ' + short(self.reason, 72) if self.reason else ''}{times}"


Leftover = (
    Unanswered | DeadLetter | NoConsumer | WaitingInputs | Blocked | HeldBack | Due | Unfinished | FailedComponent
)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Everything that is left; of each kind at most a thousand (the first and last thousand of dead letters and of
    what nobody took) are listed, and `count` is of all."""

    questions: tuple[Unanswered, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    failed_components: tuple[FailedComponent, ...] = ()
    no_consumer: tuple[NoConsumer, ...] = ()
    waiting: tuple[WaitingInputs, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    held: tuple[HeldBack, ...] = ()
    due: tuple[Due, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    count: int = 0

    def by_kind(self) -> list[tuple[Leftover, ...]]:
        """The kinds of which there are any, the gravest first."""
        kinds: list[tuple[Leftover, ...]] = [
            self.questions, self.dead_letters, self.failed_components, self.no_consumer, self.waiting, self.blocked,
            self.held, self.due, self.unfinished,
        ]  # fmt: skip
        return [kind for kind in kinds if kind]


def _some(refs: tuple[str, ...]) -> str:
    return ", ".join(refs[:3]) + (f" and {len(refs) - 3:,} more" if len(refs) > 3 else "")
