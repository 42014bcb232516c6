"""A log made by hand, folded into one component the way a board folds it: all events of a decision are observed,
then it may react. Its state is dumped and loaded after every event, so nothing can hide in it."""

from collections import deque
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.component import ActivationRequest, Cancel, Component, Publish, Reaction, Seen
from stigmergy.blackboard.core.observers import state_type
from stigmergy.blackboard.events import (
    Activated,
    Called,
    Claimed,
    Completed,
    Ended,
    Enrolled,
    Event,
    Failed,
    Held,
    Idled,
    Outcome,
    Published,
    Rang,
    Reason,
    Redriven,
    Released,
    Visibility,
)

S = TypeVar("S")


class HandMadeLog(Generic[S]):
    """One component and a log; each method is one decision and returns what the component published in it."""

    def __init__(self, component: Component[S]) -> None:
        self.component = component
        self.state: S = component.start()
        self.seq = 0
        self.at = 1000.0
        self.requests: dict[int, ActivationRequest] = {}
        self.published: list[BaseModel] = []
        self.cancelled: list[int] = []
        self._json: TypeAdapter[S] = TypeAdapter(state_type(type(component)))
        self._pending: deque[Seen] = deque()

    def observe(self, event: Event, cause: int = 0, payload: BaseModel | None = None) -> int:
        """One event of the decision that goes on."""
        self.seq += 1
        event.seq, event.at, event.cause = self.seq, self.at, cause
        event.tx = self._tx
        if isinstance(event, Activated):
            self.requests[self.seq] = ActivationRequest(
                self.seq, event.agent, event.run, "medium", 0, tuple(event.inputs), 1, None, self.at
            )
        artifact: Artifact[Any] | None = None
        if isinstance(event, Published) and payload is not None:
            artifact = Artifact(
                self.seq, payload, event.type, 1, event.producer, cause, 0, event.run, (), "medium", None, self.at
            )
        about = self.seq if isinstance(event, Activated) else cause
        seen = Seen(event, artifact, None if artifact else self.requests.get(about))
        observed = self.component.observes
        if observed is not None and not any(isinstance(event, o) for o in observed if issubclass(o, Event)):
            return self.seq
        after = self.component.step(self.state, seen)
        self.state = self._json.validate_json(self._json.dump_json(after))
        assert self.state == after
        if not (isinstance(event, Published) and event.producer == self.component.name):
            self._pending.append(seen)
        return self.seq

    def begin(self) -> None:
        self._tx = self.seq + 1
        self.reactions: list[Reaction] = []

    def finish(self) -> list[BaseModel]:
        done: list[BaseModel] = []
        while self._pending:
            seen = self._pending.popleft()
            for reaction in list(self.component.react(self.state, seen)):
                self.reactions.append(reaction)
                if isinstance(reaction, Publish):
                    done.append(reaction.payload)
                    run = reaction.run or getattr(seen.event, "run", "") or "main"
                    name = type(reaction.payload).__name__
                    event = Published(type=name, run=run, producer=self.component.name, system=True)
                    self.observe(event, seen.event.seq, reaction.payload)
                elif isinstance(reaction, Cancel):
                    self.cancelled.append(reaction.id)
                    self.observe(Ended(outcome="cancelled"), reaction.id)
        self.published += done
        return done

    def put(
        self,
        payload: BaseModel,
        producer: str = "outside",
        cause: int = 0,
        run: str = "main",
        *,
        held_by: str = "",
        visibility: Visibility | None = None,
    ) -> int:
        """Publish without finishing the decision; the id."""
        event = Published(
            type=type(payload).__name__,
            run=run,
            producer=producer,
            work=getattr(payload, "work_id", None),
            blocking=list(getattr(payload, "blocking_work_ids", [])),
            phase=getattr(payload, "phase", None),
            held_by=held_by,
            visibility=visibility,
        )
        return self.observe(event, cause, payload)

    def publish(self, payload: BaseModel, producer: str = "outside", cause: int = 0, run: str = "main") -> int:
        self.begin()
        id_ = self.put(payload, producer, cause, run)
        self.finish()
        return id_

    def activate(
        self, agent: str, *inputs: int, run: str = "main", blockers: tuple[str, ...] = (), redriven: int = 0
    ) -> int:
        self.begin()
        if redriven:
            self.observe(Redriven(), redriven)
        event = Activated(agent=agent, inputs=list(inputs), run=run, blockers=list(blockers), redriven=redriven)
        id_ = self.observe(event, inputs[-1])
        self.finish()
        return id_

    def claim(self, activation: int) -> None:
        self.one(Claimed(), activation)

    def complete(self, activation: int, *outputs: BaseModel, seconds: float = 1.0) -> list[BaseModel]:
        self.begin()
        self.observe(Completed(outputs=len(outputs), seconds=seconds), activation)
        request = self.requests[activation]
        for payload in outputs:
            self.put(payload, request.agent, activation, request.run)
        return self.finish()

    def fail(self, activation: int, seconds: float = 1.0, kind: Any = "error", *, retry: bool = True) -> None:
        self.begin()
        self.observe(Failed(kind=kind, seconds=seconds, retry_at=self.at if retry else None), activation)
        if not retry:
            self.observe(Ended(outcome="dead_letter"), activation)
        self.finish()

    def end(self, activation: int, outcome: Outcome = "dead_letter") -> list[BaseModel]:
        return self.one(Ended(outcome=outcome), activation)

    def run_through(self, agent: str, *inputs: int, outputs: tuple[BaseModel, ...] = (), run: str = "main") -> int:
        """Activate, claim and complete; the activation."""
        id_ = self.activate(agent, *inputs, run=run)
        self.claim(id_)
        self.complete(id_, *outputs)
        return id_

    def one(self, event: Event, cause: int = 0) -> list[BaseModel]:
        """A decision of one event."""
        self.begin()
        self.observe(event, cause)
        return self.finish()

    def enroll(self, name: str, phase: str | None = None) -> None:
        self.one(Enrolled(name=name, phase=phase))

    def idle(self, reason: Reason = "idle") -> list[BaseModel]:
        return self.one(Idled(reason=reason))

    def hold(self, activation: int) -> None:
        self.one(Held(by="gate"), activation)

    def release(self, id_: int) -> None:
        self.one(Released(by="gate"), id_)

    def called(self, activation: int, cost: str, tokens: int = 0) -> None:
        self.one(Called(activation=activation, cost=cost, tokens=tokens), self.seq)

    def ring(self) -> list[BaseModel]:
        """Let the component's alarm go off, if it set one that is due."""
        due = self.component.alarm(self.state)
        if due is None or due > self.at:
            return []
        return self.one(Rang(component=self.component.name))
