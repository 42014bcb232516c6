"""The component that opens the search round by round: nothing is tried twice, and the budget ends it.

Candidates wait until every open discovery has its plan and every candidate under way has its verdict. Only then is
it decided which of those that wait are tried: by priority and name, never by the order in which they came. So the
same search leaves the same artifacts on one core or on eight, and after a crash.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from stigmergy.blackboard.component import ADMIT, ActivationRequest, Admission, CallRequest, Component, Deny, Hold, Seen

from examples.model_search.artifacts import Candidate, Plan, Verdict
from stigmergy import WorkDiscovery

URGENCY = ("critical", "high", "medium", "low")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A candidate that no decision was taken on: its artifact, its pipeline, and its place in the order."""

    artifact: int
    digest: str
    order: tuple[int, str, str, str]


@dataclass(frozen=True, slots=True)
class FrontierState:
    """Where the search stands.

    Attributes:
        work: discoveries without a plan; `trying`: pipelines without a verdict.
        tried: digests of all pipelines that were ever admitted.
        admitted: artifact ids; `refused`: artifact id -> why.
    """

    work: frozenset[str] = frozenset()
    trying: frozenset[str] = frozenset()
    waiting: tuple[Waiting, ...] = ()
    tried: frozenset[str] = frozenset()
    admitted: frozenset[int] = frozenset()
    refused: tuple[tuple[int, str], ...] = ()


class Frontier(Component[FrontierState]):
    """Admits candidates to the implementer.

    Args:
        budget: how many pipelines may be tried in all.
        guards: the agent whose activations are held back.
    """

    observes: ClassVar = (WorkDiscovery, Plan, Candidate, Verdict)

    def __init__(self, budget: int, guards: str = "implementer") -> None:
        self.budget = budget
        self.guards = guards

    def start(self) -> FrontierState:
        return FrontierState()

    def step(self, state: FrontierState, seen: Seen, /) -> FrontierState:
        match seen.artifact.payload if seen.artifact else None:
            case WorkDiscovery(work_id=str(work_id)):
                return replace(state, work=state.work | {work_id})
            case Candidate() as candidate if seen.artifact:
                return replace(state, waiting=(*state.waiting, _waiting(seen.artifact.id, candidate)))
            case Plan(because=work_id):
                return self._next_round(replace(state, work=state.work - {work_id}))
            case Verdict(digest=digest):
                return self._next_round(replace(state, trying=state.trying - {digest}))
        return state

    def admit(self, state: FrontierState, request: ActivationRequest | CallRequest, /) -> Admission:
        if isinstance(request, CallRequest) or request.agent != self.guards:
            return ADMIT
        candidate = request.inputs[0]
        if candidate in state.admitted:
            return ADMIT
        refused = dict(state.refused).get(candidate)
        return Deny(refused) if refused else Hold(f"candidate {candidate} waits until this round is judged")

    def _next_round(self, state: FrontierState) -> FrontierState:
        if state.work or state.trying:
            return state
        admitted, refused = choose(state.waiting, state.tried, self.budget - len(state.tried))
        digests = frozenset(w.digest for w in admitted)
        return replace(
            state, waiting=(), trying=digests, tried=state.tried | digests,
            admitted=state.admitted | {w.artifact for w in admitted},
            refused=(*state.refused, *((w.artifact, why) for w, why in refused)),
        )  # fmt: skip


def choose(
    waiting: Iterable[Waiting], tried: frozenset[str], left: int
) -> tuple[list[Waiting], list[tuple[Waiting, str]]]:
    """Which candidates are tried next, and why each of the others is not.

    Args:
        tried: digests of pipelines that were admitted before.
        left: how many pipelines may still be tried.
    """
    admitted: list[Waiting] = []
    refused: list[tuple[Waiting, str]] = []
    for candidate in sorted(waiting, key=lambda w: w.order):
        if candidate.digest in tried or candidate.digest in {w.digest for w in admitted}:
            refused.append((candidate, f"pipeline {candidate.digest} is tried once only"))
        elif len(admitted) >= left:
            refused.append((candidate, "the budget is spent"))
        else:
            admitted.append(candidate)
    return admitted, refused


def _waiting(artifact: int, candidate: Candidate) -> Waiting:
    digest = candidate.spec.digest
    order = (URGENCY.index(candidate.priority), digest, candidate.reference.digest, candidate.because)
    return Waiting(artifact, digest, order)
