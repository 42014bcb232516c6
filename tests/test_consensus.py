"""Votes and their tallies, as folds of logs that are made by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Opened
from stigmergy.components import Consensus, Rule, Tally, Vote
from stigmergy.components.consensus import Polls
from stigmergy.components.voting import is_settled, outcome
from tests.hand_made import HandMadeLog

RULES: tuple[Rule, ...] = ("plurality", "majority", "two_thirds", "unanimity")
OPTIONS = ("buy", "sell", "hold")


class Proposal(BaseModel):
    text: str = "Shall we?"


class Criteria(BaseModel):
    text: str = "Only if it is cheap"


@dataclass(frozen=True)
class Did:
    """What a voter does about a subject: votes, abstains, says nothing, or fails."""

    what: str
    confidence: float = 1.0


class Election:
    """A proposal that every voter was activated with."""

    def __init__(self, component: Consensus, voters: Sequence[str]) -> None:
        self.log: HandMadeLog[Polls] = HandMadeLog(component)
        self.subject = self.log.publish(Proposal())
        self.asked = {voter: self.log.activate(voter, self.subject) for voter in voters}
        for activation in self.asked.values():
            self.log.claim(activation)

    def vote(self, voter: str, did: Did) -> None:
        activation = self.asked[voter]
        if activation in self.log.cancelled:
            return
        if did.what in ("dead_letter", "cancelled"):
            self.log.end(activation, "dead_letter" if did.what == "dead_letter" else "cancelled")
        elif did.what == "silent":
            self.log.complete(activation, Proposal())
        elif did.what == "abstain":
            self.log.complete(activation, Vote(subject=self.subject, abstain=True))
        else:
            vote = Vote(subject=self.subject, option=did.what, confidence=did.confidence)
            self.log.complete(activation, Proposal(), vote)

    @property
    def tallies(self) -> list[Tally]:
        return [t for t in self.log.published if isinstance(t, Tally)]


def hold(dids: Sequence[tuple[str, Did]], rule: Rule = "majority", quorum: int = 2, *, early: bool = False) -> Election:
    """An election with these voters, who act in this order."""
    names = sorted(name for name, _ in dids)
    election = Election(Consensus(options=OPTIONS, voters=names, rule=rule, quorum=quorum, early=early), names)
    for name, did in dids:
        election.vote(name, did)
    return election


def voters(*whats: str) -> list[tuple[str, Did]]:
    return [(f"v{i}", Did(what)) for i, what in enumerate(whats)]


# -- votes ------------------------------------------------------------------------------------------------------------


def test_a_vote_names_an_option_or_abstains_and_confidence_is_a_share() -> None:
    assert Vote(subject=7, option="buy").confidence == 1.0
    assert Vote(subject=7, abstain=True).option == ""
    with pytest.raises(ValidationError, match="names an option or abstains"):
        Vote(subject=7)
    with pytest.raises(ValidationError):
        Vote(subject=7, option="buy", confidence=70)


# -- tallies ----------------------------------------------------------------------------------------------------------


def test_the_tally_shows_all_options_and_what_every_voter_did() -> None:
    dids = [
        ("a", Did("buy", 0.5)),
        ("b", Did("buy", 1.0)),
        ("c", Did("sell", 0.9)),
        ("d", Did("abstain")),
        ("e", Did("dead_letter")),
        ("f", Did("gamble")),
        ("g", Did("silent")),
    ]
    (tally,) = hold(dids).tallies
    assert tally == Tally(
        subject=1,
        result="buy",
        counts={"buy": 2, "sell": 1, "hold": 0},
        confidences={"buy": 1.5, "sell": 0.9, "hold": 0.0},
        invited=7,
        cast=3,
        abstained=2,
        invalid=1,
        failed=1,
        missing=0,
        agreement=2 / 3,
        unanimous=False,
        confidence=0.75,
        reason="majority: buy has 2 of 3 votes",
    )
    assert list(tally.counts) == list(OPTIONS)


def test_no_tally_before_the_last_voter_and_one_after() -> None:
    election = hold(voters("buy", "buy"))
    assert len(election.tallies) == 1
    names = ["v0", "v1", "v2"]
    election = Election(Consensus(options=OPTIONS, voters=names), names)
    for name in names[:2]:
        election.vote(name, Did("buy"))
        assert election.tallies == []
    election.vote("v2", Did("buy"))
    assert [t.unanimous for t in election.tallies] == [True]


_DIDS = st.builds(
    Did,
    st.sampled_from([*OPTIONS, "gamble", "abstain", "silent", "dead_letter", "cancelled"]),
    st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.7, 1.0]),
)


@settings(max_examples=25)
@given(st.lists(_DIDS, min_size=2, max_size=4), st.sampled_from(RULES), st.data())
def test_the_tally_is_the_same_in_every_order_of_arrival(dids: list[Did], rule: Rule, data: st.DataObject) -> None:
    quorum = data.draw(st.integers(1, len(dids)))
    named = [(f"v{i}", did) for i, did in enumerate(dids)]
    tallies = [hold(order, rule, quorum).tallies for order in permutations(named)]
    assert all(len(tally) == 1 for tally in tallies)
    assert all(tally == tallies[0] for tally in tallies)


@pytest.mark.parametrize("rule", RULES)
def test_five_voters_in_all_their_orders_have_one_tally(rule: Rule) -> None:
    named = [
        ("v0", Did("buy", 0.1)),
        ("v1", Did("buy", 0.2)),
        ("v2", Did("buy", 0.3)),
        ("v3", Did("sell")),
        ("v4", Did("abstain")),
    ]
    first, *others = [hold(order, rule).tallies for order in permutations(named)]
    assert len(first) == 1
    assert len(others) == 119
    assert all(other == first for other in others)


@settings(max_examples=40)
@given(st.lists(_DIDS, min_size=1, max_size=5), st.sampled_from(RULES), st.data())
def test_deciding_early_gives_the_result_of_the_full_vote(dids: list[Did], rule: Rule, data: st.DataObject) -> None:
    quorum = data.draw(st.integers(1, len(dids)))
    order = data.draw(st.permutations([(f"v{i}", did) for i, did in enumerate(dids)]))
    full, early = hold(order, rule, quorum), hold(order, rule, quorum, early=True)
    assert len(full.tallies) == len(early.tallies) == 1
    assert early.tallies[0].result == full.tallies[0].result
    assert early.tallies[0].cast <= full.tallies[0].cast


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("quorum", [1, 2, 3, 5])
def test_a_vote_is_settled_exactly_when_no_further_votes_can_change_it(rule: Rule, quorum: int) -> None:
    for total in product(range(4), repeat=3):
        for left in range(1, 4):
            counts = dict(zip(OPTIONS, total, strict=True))
            results = set()
            for further in product((*OPTIONS, None), repeat=left):
                final = {option: n + further.count(option) for option, n in counts.items()}
                results.add(outcome(final, rule, quorum)[0])
            assert is_settled(counts, left, rule, quorum) == (len(results) == 1)


def test_an_early_decision_cancels_who_has_not_voted() -> None:
    names = ["v0", "v1", "v2", "v3", "v4"]
    election = Election(Consensus(options=OPTIONS, voters=names, early=True), names)
    for name in names[:3]:
        election.vote(name, Did("buy"))
    (tally,) = election.tallies
    assert (tally.result, tally.cast, tally.missing) == ("buy", 3, 2)
    assert election.log.cancelled == [election.asked["v3"], election.asked["v4"]]
    full = Election(Consensus(options=OPTIONS, voters=names), names)
    for name in names:
        full.vote(name, Did("buy"))
    assert full.log.cancelled == []


def test_a_voter_that_still_votes_on_something_else_is_not_cancelled() -> None:
    log = HandMadeLog(Consensus(options=OPTIONS, voters=["v0", "v1", "v2"], early=True))
    subjects = log.publish(Proposal()), log.publish(Proposal())
    asked = {voter: log.activate(voter, *subjects) for voter in ("v0", "v1", "v2")}
    for voter in ("v0", "v1"):
        log.publish(Vote(subject=subjects[0], option="buy"), voter, asked[voter])
    assert len(log.published) == 1
    assert log.cancelled == []


# -- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "results"),
    [
        ((2, 1, 0), {"plurality": "buy", "majority": "buy", "two_thirds": "buy", "unanimity": None}),
        ((2, 1, 1), {"plurality": "buy", "majority": None, "two_thirds": None, "unanimity": None}),
        ((2, 2, 0), {"plurality": None, "majority": None, "two_thirds": None, "unanimity": None}),
        ((0, 3, 0), {"plurality": "sell", "majority": "sell", "two_thirds": "sell", "unanimity": "sell"}),
        ((67, 33, 0), {"plurality": "buy", "majority": "buy", "two_thirds": "buy", "unanimity": None}),
        ((66, 34, 0), {"plurality": "buy", "majority": "buy", "two_thirds": None, "unanimity": None}),
        ((0, 0, 0), {"plurality": None, "majority": None, "two_thirds": None, "unanimity": None}),
    ],
)
def test_the_rules_compare_exactly_and_never_break_a_tie(
    counts: tuple[int, int, int], results: dict[Rule, str | None]
) -> None:
    for rule, result in results.items():
        assert outcome(dict(zip(OPTIONS, counts, strict=True)), rule, 1)[0] == result


def test_a_tie_and_a_missing_quorum_are_reported_as_such() -> None:
    (tie,) = hold(voters("sell", "buy")).tallies
    assert (tie.result, tie.confidence, tie.agreement) == (None, 0.0, 0.5)
    assert tie.reason == "tie: buy, sell have 1 of 2 votes each"
    (short,) = hold(voters("buy", "abstain", "dead_letter")).tallies
    assert short.result is None
    assert short.reason == "no quorum: 1 of 2 needed votes were cast"


def test_a_vote_in_which_everybody_fails_still_ends() -> None:
    (tally,) = hold(voters("dead_letter", "cancelled", "dead_letter")).tallies
    assert (tally.result, tally.cast, tally.failed, tally.agreement, tally.unanimous) == (None, 0, 3, 0.0, False)


# -- who votes, and when ----------------------------------------------------------------------------------------------


def test_the_first_vote_of_a_voter_counts_and_a_second_is_invalid() -> None:
    names = ["v0", "v1"]
    election = Election(Consensus(options=OPTIONS, voters=names), names)
    votes = [Vote(subject=1, option="buy"), Vote(subject=1, option="sell")]
    election.log.complete(election.asked["v0"], *votes)
    election.vote("v1", Did("buy"))
    (tally,) = election.tallies
    assert (tally.counts["buy"], tally.counts["sell"], tally.invalid) == (2, 0, 1)


def test_a_vote_off_the_ballot_never_counts_for_another_option() -> None:
    (tally,) = hold(voters("gamble", "gamble", "buy"), quorum=1).tallies
    assert (tally.counts, tally.invalid, tally.result) == ({"buy": 1, "sell": 0, "hold": 0}, 2, "buy")


def test_strangers_have_no_vote() -> None:
    names = ["v0", "v1"]
    election = Election(Consensus(options=OPTIONS, voters=names), names)
    election.log.publish(Vote(subject=1, option="sell"), "stranger")
    election.log.publish(Vote(subject=99, option="sell"), "stranger")
    for name in names:
        election.vote(name, Did("buy"))
    (tally,) = election.tallies
    assert (tally.invalid, tally.unanimous) == (1, True)


def test_late_votes_change_nothing_and_are_counted() -> None:
    election = hold(voters("buy", "buy"))
    election.log.publish(Vote(subject=1, option="sell"), "v0")
    election.log.publish(Vote(subject=1, option="sell"), "v1")
    assert len(election.tallies) == 1
    assert election.log.state.late == 2
    assert election.log.state.tallied == {1: 2}
    assert election.log.state.polls == {}


def test_late_votes_stay_late_when_a_thousand_other_subjects_have_been_decided() -> None:
    log = HandMadeLog(Consensus(options=OPTIONS, voters=["outside"], quorum=1))
    for subject in range(1, 1_003):
        log.publish(Vote(subject=subject, option="buy"))
    assert len(log.published) == 1_002
    log.publish(Vote(subject=1, option="sell"))
    log.publish(Vote(subject=1_002, option="sell"))
    assert len(log.published) == 1_002
    assert log.state.late == 2
    assert len(log.state.tallied) == 1_000


def test_a_failed_voter_that_is_tried_again_may_vote_while_the_vote_is_open() -> None:
    names = ["v0", "v1"]
    election = Election(Consensus(options=OPTIONS, voters=names), names)
    election.vote("v0", Did("dead_letter"))
    election.asked["v0"] = election.log.activate("v0", election.subject, redriven=election.asked["v0"])
    election.vote("v1", Did("buy"))
    assert election.tallies == []
    election.vote("v0", Did("buy"))
    assert [(t.result, t.failed) for t in election.tallies] == [("buy", 0)]


def test_a_vote_that_was_published_counts_although_its_activation_failed() -> None:
    names = ["v0", "v1"]
    election = Election(Consensus(options=OPTIONS, voters=names), names)
    election.log.publish(Vote(subject=1, option="buy"), "v0", election.asked["v0"])
    election.vote("v0", Did("dead_letter"))
    election.vote("v1", Did("buy"))
    assert [(t.cast, t.failed) for t in election.tallies] == [(2, 0)]


def test_a_voter_has_failed_only_when_none_of_its_activations_is_left() -> None:
    names = ["v0", "v1"]
    election = Election(Consensus(options=OPTIONS, voters=names), names)
    second = election.log.activate("v0", election.subject)
    election.vote("v1", Did("buy"))
    election.vote("v0", Did("dead_letter"))
    assert election.tallies == []
    election.log.complete(second, Vote(subject=1, option="buy"))
    assert [(t.cast, t.failed) for t in election.tallies] == [(2, 0)]


def test_a_vote_still_counts_when_its_voter_is_asked_again() -> None:
    names = ["v0", "v1"]
    election = Election(Consensus(options=OPTIONS, voters=names), names)
    election.vote("v0", Did("buy"))
    election.log.activate("v0", election.subject)
    election.vote("v1", Did("buy"))
    assert [t.counts["buy"] for t in election.tallies] == [2]


def test_several_subjects_are_voted_on_at_one_time() -> None:
    log = HandMadeLog(Consensus(options=OPTIONS, voters=["v0", "v1"]))
    subjects = [log.publish(Proposal()) for _ in range(3)]
    asked = [log.activate(voter, *subjects) for voter in ("v0", "v1")]
    log.complete(asked[0], *(Vote(subject=s, option="buy") for s in subjects))
    log.complete(asked[1], *(Vote(subject=s, option="sell") for s in subjects[:2]))
    tallies = [t for t in log.published if isinstance(t, Tally)]
    assert [(t.subject, t.cast, t.abstained) for t in tallies] == [(1, 2, 0), (2, 2, 0), (3, 1, 1)]


def test_other_inputs_are_no_subjects_if_their_type_is_given() -> None:
    log = HandMadeLog(Consensus(options=OPTIONS, voters=["v0", "v1"], of=Proposal))
    criteria, subject = log.publish(Criteria()), log.publish(Proposal())
    for voter in ("v0", "v1"):
        log.complete(log.activate(voter, criteria, subject), Vote(subject=subject, option="buy"))
    log.publish(Vote(subject=criteria, option="buy"), "v0")
    assert [t.subject for t in log.published if isinstance(t, Tally)] == [subject]
    assert log.state.polls == {}


# -- deadlines --------------------------------------------------------------------------------------------------------


def test_a_deadline_decides_once_with_what_is_there() -> None:
    names = ["v0", "v1", "v2"]
    election = Election(Consensus(options=OPTIONS, voters=names, within=60.0), names)
    log = election.log
    assert log.component.alarm(log.state) == 1060.0
    election.vote("v0", Did("buy"))
    election.vote("v1", Did("buy"))
    assert log.ring() == []
    log.at = 1060.0
    (tally,) = log.ring()
    assert isinstance(tally, Tally)
    assert (tally.result, tally.cast, tally.missing) == ("buy", 2, 1)
    assert log.component.alarm(log.state) is None
    election.vote("v2", Did("sell"))
    assert len(election.tallies) == 1
    assert log.state.late == 1
    assert log.cancelled == []


def test_every_vote_has_its_own_deadline() -> None:
    log = HandMadeLog(Consensus(options=OPTIONS, voters=["v0"], quorum=1, within=10.0))
    for _ in range(2):
        log.activate("v0", log.publish(Proposal()))
        log.at += 5.0
    assert log.component.alarm(log.state) == 1010.0
    assert [t.subject for t in log.ring() if isinstance(t, Tally)] == [1]
    assert log.component.alarm(log.state) == 1015.0


# -- definition and restart -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"options": []}, "options"),
        ({"options": ["a", "a"]}, "options"),
        ({"voters": []}, "voters"),
        ({"voters": ["v0", "v0"]}, "voters"),
        ({"quorum": 3}, "quorum"),
        ({"quorum": 0}, "quorum"),
        ({"rule": "dictator"}, "no rule"),
        ({"within": -1.0}, "within"),
        ({"within": "60"}, "within"),
        ({"within": float("nan")}, "within"),
        ({"options": "yn"}, "a list of options"),
        ({"voters": "ab"}, "a list of voters"),
        ({"options": None}, "a list of options"),
        ({"options": ["a", ""]}, "options that are texts"),
        ({"options": ["a", 1]}, "options that are texts"),
        ({"voters": [3, 4]}, "3 is no agent"),
        ({"voters": ["v0", ""]}, "'' is no agent"),
        ({"quorum": 1.5}, "quorum"),
        ({"quorum": True}, "quorum"),
        ({"of": "Proposal"}, "no artifact type"),
    ],
)
def test_a_vote_that_cannot_work_is_refused_at_once(wrong: dict[str, object], complaint: str) -> None:
    good: dict[str, object] = {"options": OPTIONS, "voters": ["v0", "v1"]}
    with pytest.raises(DefinitionError, match=complaint):
        Consensus(**(good | wrong))  # type: ignore[arg-type]


def test_voters_may_be_agents_or_names() -> None:
    class Judge:
        name = "v0"

    component = Consensus(options=OPTIONS, voters=[Judge(), "v1"], name="jury")
    assert component.name == "jury"
    log = HandMadeLog(component)
    for voter in ("v0", "v1"):
        log.publish(Vote(subject=7, option="buy"), voter)
    assert [t.result for t in log.published if isinstance(t, Tally)] == ["buy"]


def test_opening_a_board_again_publishes_no_tally_twice() -> None:
    election = hold(voters("buy", "buy"))
    assert election.log.one(Opened()) == []
