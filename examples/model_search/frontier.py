"""The component that opens the search round by round: nothing is tried twice, and the budget ends it.

Candidates wait until every open discovery has its plan and every candidate under way has its verdict. Only then is
it decided which of those that wait are tried: by priority, promise and name, never by the order in which they came.
So the same search leaves the same artifacts on one core or on eight, and after a crash.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from examples.model_search.artifacts import Candidate, Plan, Verdict
from stigmergy import ADMIT, Cancel, Component, Hold, Seen, WorkDiscovery
from stigmergy.blackboard.component import ActivationRequest, Admission, CallRequest
from stigmergy.blackboard.events import Activated

URGENCY = ("critical", "high", "medium", "low")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A candidate that nothing was decided on yet: its artifact, its pipeline, and its place in the order."""

    artifact: int
    digest: str
    order: tuple[int, float, str, str, str]


@dataclass(frozen=True, slots=True)
class FrontierState:
    """Where the search stands.

    Attributes:
        work: discoveries without a plan; `trying`: pipelines without a verdict.
        asked: candidate -> the activation that waits to build it.
        tried: digests of all pipelines that were ever admitted.
        admitted: candidates that may be built.
        refused: activations that the last round did not admit, and why; `opened_by` is the event that opened it.
    """

    work: frozenset[str] = frozenset()
    trying: frozenset[str] = frozenset()
    waiting: tuple[Waiting, ...] = ()
    asked: dict[int, int] = field(default_factory=dict)
    tried: frozenset[str] = frozenset()
    admitted: frozenset[int] = frozenset()
    refused: tuple[tuple[int, str], ...] = ()
    opened_by: int = 0


class Frontier(Component[FrontierState]):
    """Decides which candidates are built.

    Args:
        budget: how many pipelines may be tried in all.
        builder: the agent that builds them; its activations are held until their round.
    """

    observes: ClassVar = (WorkDiscovery, Plan, Candidate, Verdict, Activated)

    def __init__(self, budget: int, builder: str) -> None:
        self.budget = budget
        self.builder = builder

    def start(self) -> FrontierState:
        return FrontierState()

    def step(self, state: FrontierState, seen: Seen, /) -> FrontierState:
        event = seen.event
        if isinstance(event, Activated):
            if event.agent != self.builder:
                return state
            return replace(state, asked={**state.asked, event.inputs[0]: event.seq})
        match seen.artifact.payload if seen.artifact else None:
            case WorkDiscovery(work_id=str(name)):
                return replace(state, work=state.work | {name})
            case Candidate() as candidate:
                return replace(state, waiting=(*state.waiting, _waiting(event.seq, candidate)))
            case Plan(because=name):
                return self._next_round(replace(state, work=state.work - {name}), event.seq)
            case Verdict(digest=digest):
                return self._next_round(replace(state, trying=state.trying - {digest}), event.seq)
        return state

    def admit(self, state: FrontierState, request: ActivationRequest | CallRequest, /) -> Admission:
        if isinstance(request, CallRequest) or request.agent != self.builder:
            return ADMIT
        candidate = request.inputs[0]
        return ADMIT if candidate in state.admitted else Hold("waits until everything in this round is judged")

    def react(self, state: FrontierState, seen: Seen, /) -> Iterable[Cancel]:
        if seen.event.seq == state.opened_by:
            yield from (Cancel(activation, why) for activation, why in state.refused)

    def _next_round(self, state: FrontierState, event: int) -> FrontierState:
        if state.work or state.trying:
            return state
        admitted, refused = choose(state.waiting, state.tried, self.budget - len(state.tried))
        digests = frozenset(w.digest for w in admitted)
        return FrontierState(
            trying=digests,
            tried=state.tried | digests,
            admitted=frozenset(w.artifact for w in admitted),
            refused=tuple((state.asked[w.artifact], why) for w, why in refused),
            opened_by=event,
        )


def choose(
    waiting: Iterable[Waiting], tried: frozenset[str], left: int
) -> tuple[list[Waiting], list[tuple[Waiting, str]]]:
    """Which candidates are tried next, and why each of the others is not.

    Args:
        tried: digests of pipelines that were admitted before.
        left: how many pipelines may still be tried.
    """
    admitted: dict[str, Waiting] = {}
    refused: list[tuple[Waiting, str]] = []
    for candidate in sorted(waiting, key=lambda w: w.order):
        if candidate.digest in tried or candidate.digest in admitted:
            refused.append((candidate, "the same pipeline is tried already"))
        elif len(admitted) >= left:
            refused.append((candidate, "the budget is spent"))
        else:
            admitted[candidate.digest] = candidate
    return list(admitted.values()), refused


def _waiting(artifact: int, candidate: Candidate) -> Waiting:
    digest, urgency = candidate.spec.digest, URGENCY.index(candidate.priority)
    order = (urgency, -candidate.promise, digest, candidate.reference.digest, candidate.because)
    return Waiting(artifact, digest, order)
