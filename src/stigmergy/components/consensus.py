"""Votes, and what follows from them: exact, decided once, the same in whatever order the votes arrive."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from pydantic import BaseModel

from stigmergy.blackboard.component import Cancel, Component, Publish, Reaction, Seen
from stigmergy.blackboard.core.visibility import Named, name_of
from stigmergy.blackboard.definitions import is_number
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import Activated, Completed, Ended, Event, Opened, Published, Rang
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.components.voting import Rule, Tally, Vote, is_settled, outcome

_REMEMBERED = 1_000
"""Decided subjects whose late votes are counted one by one."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one voter did about one subject."""

    kind: Literal["cast", "abstained", "invalid", "failed"]
    option: str = ""
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Poll:
    """The vote on one subject.

    Attributes:
        due: log time at which it is decided with what is there.
        ballots: by voter.
        asked: open activation -> the voter that it belongs to.
        strays: second votes and votes of others than the voters.
        decided: the event that decided it; 0 = it is open.
    """

    run: str
    due: float | None
    ballots: dict[str, Ballot] = field(default_factory=dict)
    asked: dict[int, str] = field(default_factory=dict)
    strays: int = 0
    decided: int = 0


@dataclass(frozen=True, slots=True)
class Completing:
    """A voter's activation that has completed, while `left` of its outputs are still to come."""

    activation: int
    voter: str
    inputs: tuple[int, ...]
    left: int


@dataclass(frozen=True, slots=True)
class Polls:
    """All votes that go on.

    Attributes:
        polls: subject -> its vote.
        decided: subjects that are decided and whose tally is not published yet.
        tallied: subject -> late votes, for the latest subjects; `before`: subjects up to here that are in neither
            are long since decided.
        late: votes for subjects that were decided.
    """

    polls: dict[int, Poll] = field(default_factory=dict)
    decided: tuple[int, ...] = ()
    tallied: dict[int, int] = field(default_factory=dict)
    before: int = 0
    late: int = 0
    completing: Completing | None = None


class Consensus(Component[Polls]):
    """Publishes one `Tally` for every subject that its voters vote on.

    A vote begins when a voter is activated with an artifact, and that artifact is its subject; it ends when every
    voter has voted, abstained or failed. A voter that completes without a `Vote` has abstained. A run that ends while
    a vote lacks a voter that was not asked ends as `waiting`, and names it. A vote counts when it is published, also
    while it is held for review.

    Args:
        options: the ballot.
        voters: agents, or their names; "outside" for votes that are published from outside.
        rule: "plurality" (more than any other), "majority" (more than half), "two_thirds" (at least) or "unanimity",
            of the votes that are cast.
        quorum: how many votes must be cast for any result.
        within: seconds, or a `timedelta`, after its beginning at which a vote is decided with what is there.
        early: decide as soon as the remaining votes cannot change the result, and cancel those voters. The result is
            that of the full vote; the counts are those so far.
        of: only artifacts of this type are subjects; needed if the voters take other inputs beside the subject.
        name: needed for a second consensus on one board.

    Raises:
        BadComponent: options or voters are missing or named twice, or quorum or rule cannot be met.
        DefinitionError: a voter is no agent, `within` no duration, or `of` no artifact type.
    """

    publishes = (Tally,)
    observes = (Published, Activated, Completed, Ended, Rang, Opened)

    def __init__(
        self,
        *,
        options: Sequence[str],
        voters: Iterable[str | Named],
        rule: Rule = "majority",
        quorum: int = 2,
        within: Seconds | None = None,
        early: bool = False,
        of: type[BaseModel] | None = None,
        name: str = "consensus",
    ) -> None:
        for what, given in (("options", options), ("voters", voters)):
            if isinstance(given, str) or not isinstance(given, Iterable):
                raise BadComponent(f"{name!r} needs a list of {what}, and got {given!r}.")
        self._options = tuple(options)
        self._voters = tuple(map(name_of, voters))
        self._rule: Rule = rule
        self._quorum = quorum
        self._within = None if within is None else in_seconds(within, f"{name!r}: within=")
        self._early = early
        self._of = of
        self._name = name
        for what, names in (("options", self._options), ("voters", self._voters)):
            if not names or len(set(names)) != len(names) or not all(isinstance(n, str) and n for n in names):
                raise BadComponent(f"{name!r} needs {what} that are texts and all different, and got {list(names)}.")
        if not is_number(quorum, whole=True) or not 1 <= quorum <= len(self._voters):
            raise BadComponent(
                f"{name!r} has {len(self._voters)} voters and quorum {quorum}. Use a quorum they can meet."
            )
        if rule not in get_args(Rule):
            raise BadComponent(f"{name!r} has no rule {rule!r}. Use one of {', '.join(get_args(Rule))}.")
        if of is not None:
            type_of(of)

    @property
    def name(self) -> str:
        return self._name

    def start(self) -> Polls:
        return Polls()

    def step(self, state: Polls, seen: Seen, /) -> Polls:
        event, activation = seen.event, seen.activation
        match event:
            case Published():
                return self._published(state, event, seen)
            case Activated(agent=voter) if voter in self._voters:
                return self._asked(state, event)
            case Completed(outputs=left) if activation is not None and activation.agent in self._voters:
                completing = Completing(activation.id, activation.agent, activation.inputs, left)
                state = replace(state, completing=completing if left else None)
                return state if left else self._over(state, completing, "abstained", event)
            case Ended() if activation is not None and activation.agent in self._voters:
                ended = Completing(activation.id, activation.agent, activation.inputs, 0)
                return self._over(state, ended, "failed", event)
            case Rang(timer="alarm", component=self._name):
                for subject, poll in state.polls.items():
                    if not poll.decided and poll.due is not None and poll.due <= event.at:
                        state = _decide(state, subject, event)
                return state
            case _:
                return state

    def react(self, state: Polls, seen: Seen, /) -> Iterable[Reaction]:
        for subject in state.decided:
            poll = state.polls[subject]
            if poll.decided != seen.event.seq and not isinstance(seen.event, Opened):
                continue
            yield Publish(self._tally(subject, poll), run=poll.run)
            if self._early:
                others = {id_ for s, p in state.polls.items() if s != subject for id_ in p.asked}
                for id_, voter in poll.asked.items():
                    if voter not in poll.ballots and id_ not in others:
                        yield Cancel(id_, f"the vote on {subject} is decided")

    def alarm(self, state: Polls, /) -> float | None:
        dues = [poll.due for poll in state.polls.values() if poll.due is not None and not poll.decided]
        return min(dues, default=None)

    def waiting(self, state: Polls, /) -> str:
        """The first vote that lacks somebody who was not even asked: another process, a person, or a misspelt name."""
        for subject, poll in state.polls.items():
            absent = [v for v in self._voters if v not in poll.ballots and v not in poll.asked.values()]
            if absent and not poll.decided:
                return f"{self._name}: the vote on {subject} waits for {', '.join(absent)}"
        return ""

    # -- what happens to a vote -----------------------------------------------------------------------------------

    def _published(self, state: Polls, event: Published, seen: Seen) -> Polls:
        if event.producer == self._name:
            tally = seen.artifact.as_type(Tally) if seen.artifact else None
            return state if tally is None else _close(state, tally.subject)
        if seen.artifact is not None:
            if self._of is not None and seen.artifact.as_type(self._of) is not None:
                state = self._opened(state, event.seq, event.run, event.at)
            vote = seen.artifact.as_type(Vote)
            if vote is not None:
                state = self._voted(state, vote, event)
        completing = state.completing
        if completing is None or event.system or event.cause != completing.activation:
            return state
        if completing.left > 1:
            return replace(state, completing=replace(completing, left=completing.left - 1))
        return self._over(replace(state, completing=None), completing, "abstained", event)

    def _opened(self, state: Polls, subject: int, run: str, at: float) -> Polls:
        if subject in state.polls or _is_over(state, subject):
            return state
        poll = Poll(run, None if self._within is None else at + self._within)
        return replace(state, polls={**state.polls, subject: poll})

    def _asked(self, state: Polls, event: Activated) -> Polls:
        for subject in event.inputs:
            if self._of is None:
                state = self._opened(state, subject, event.run, event.at)
            poll = state.polls.get(subject)
            if poll is None or poll.decided:
                continue
            again = {v: b for v, b in poll.ballots.items() if v != event.agent or b.kind != "failed"}
            poll = replace(poll, asked={**poll.asked, event.seq: event.agent}, ballots=again)
            state = replace(state, polls={**state.polls, subject: poll})
        return state

    def _voted(self, state: Polls, vote: Vote, event: Published) -> Polls:
        subject, voter = vote.subject, event.producer
        if voter in self._voters and self._of is None:
            state = self._opened(state, subject, event.run, event.at)
        poll = state.polls.get(subject)
        if poll is None or poll.decided:
            if voter not in self._voters or (poll is None and not _is_over(state, subject)):
                return state
            tallied = state.tallied
            if subject in tallied:
                tallied = {**tallied, subject: tallied[subject] + 1}
            return replace(state, late=state.late + 1, tallied=tallied)
        if voter not in self._voters or voter in poll.ballots:
            return replace(state, polls={**state.polls, subject: replace(poll, strays=poll.strays + 1)})
        if vote.abstain:
            ballot = Ballot("abstained")
        elif vote.option in self._options:
            ballot = Ballot("cast", vote.option, vote.confidence)
        else:
            ballot = Ballot("invalid", vote.option)
        poll = replace(poll, ballots={**poll.ballots, voter: ballot})
        return self._settled(replace(state, polls={**state.polls, subject: poll}), subject, event)

    def _over(self, state: Polls, over: Completing, kind: Literal["abstained", "failed"], event: Event) -> Polls:
        """A voter's activation is over: it votes on these subjects no more, unless another one of it is open."""
        for subject in over.inputs:
            poll = state.polls.get(subject)
            if poll is None or poll.decided or over.activation not in poll.asked:
                continue
            asked = {id_: voter for id_, voter in poll.asked.items() if id_ != over.activation}
            ballots = poll.ballots
            if over.voter not in ballots and over.voter not in asked.values():
                ballots = {**ballots, over.voter: Ballot(kind)}
            poll = replace(poll, asked=asked, ballots=ballots)
            state = self._settled(replace(state, polls={**state.polls, subject: poll}), subject, event)
        return state

    def _settled(self, state: Polls, subject: int, event: Event) -> Polls:
        """Decide a vote if nothing can change its result, or everybody has voted."""
        ballots = state.polls[subject].ballots
        left = len(self._voters) - len(ballots)
        if left and not (self._early and is_settled(self._counts(ballots), left, self._rule, self._quorum)):
            return state
        return _decide(state, subject, event)

    # -- the outcome ----------------------------------------------------------------------------------------------

    def _counts(self, ballots: Mapping[str, Ballot]) -> dict[str, int]:
        counts = dict.fromkeys(self._options, 0)
        for ballot in ballots.values():
            if ballot.kind == "cast":
                counts[ballot.option] += 1
        return counts

    def _tally(self, subject: int, poll: Poll) -> Tally:
        counts = self._counts(poll.ballots)
        kinds = [ballot.kind for ballot in poll.ballots.values()]
        cast, most = sum(counts.values()), max(counts.values())
        result, reason = outcome(counts, self._rule, self._quorum)
        sums = {option: math.fsum(_confidences(poll, option)) for option in counts}
        return Tally(
            subject=subject,
            result=result,
            counts=counts,
            confidences=sums,
            invited=len(self._voters),
            cast=cast,
            abstained=kinds.count("abstained"),
            invalid=kinds.count("invalid") + poll.strays,
            failed=kinds.count("failed"),
            missing=len(self._voters) - len(kinds),
            agreement=most / cast if cast else 0.0,
            unanimous=cast > 0 and most == cast,
            confidence=sums[result] / counts[result] if result is not None else 0.0,
            reason=reason,
        )


def _confidences(poll: Poll, option: str) -> list[float]:
    return [b.confidence for b in poll.ballots.values() if b.kind == "cast" and b.option == option]


def _decide(state: Polls, subject: int, event: Event) -> Polls:
    poll = replace(state.polls[subject], decided=event.seq)
    return replace(state, polls={**state.polls, subject: poll}, decided=(*state.decided, subject))


def _close(state: Polls, subject: int) -> Polls:
    """The tally is on the board: forget the vote, and the oldest of the votes that were remembered for late voters."""
    polls = {s: poll for s, poll in state.polls.items() if s != subject}
    tallied, before = {**state.tallied, subject: 0}, state.before
    if len(tallied) > _REMEMBERED:
        oldest = next(iter(tallied))
        del tallied[oldest]
        before = max(before, oldest)
    decided = tuple(s for s in state.decided if s != subject)
    return replace(state, polls=polls, decided=decided, tallied=tallied, before=before)


def _is_over(state: Polls, subject: int) -> bool:
    return subject in state.tallied or subject <= state.before
