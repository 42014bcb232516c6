"""Votes on a living board: what voters do, in whatever order, becomes one tally, by the numbers of the theory."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction
from itertools import permutations, product

import pytest
from pydantic import BaseModel

from stigmergy import Artifact, Blackboard, Consensus, Context, Tally, Vote
from stigmergy.blackboard.events import Activated
from stigmergy.components import Rule
from stigmergy.testing import VirtualClock
from tests.boards import Boards

pytestmark = pytest.mark.anyio


class Proposal(BaseModel):
    text: str


def jury(board: Blackboard, **verdicts: str) -> None:
    """Voters by name; "raise" fails, "abstain" abstains."""
    for name, verdict in verdicts.items():
        board.agent(name).consumes(Proposal).publishes(Vote).body(voter(verdict))


def voter(verdict: str) -> Callable[[Artifact[Proposal]], Awaitable[Vote]]:
    async def vote(proposal: Artifact[Proposal]) -> Vote:
        if verdict == "raise":
            raise RuntimeError("no opinion")
        if verdict == "abstain":
            return Vote(subject=proposal.id, abstain=True)
        return Vote(subject=proposal.id, option=verdict, confidence=0.5)

    return vote


@pytest.mark.req("S1.12", "S1.14", "S1.45")
def test_a_wired_vote_counts_every_voter_and_failures_are_nobodys_opinion(new_board: Boards) -> None:
    names = ["a", "b", "c", "d", "e"]
    board = new_board(components=[Consensus(options=["buy", "sell", "hold"], voters=names)])
    jury(board, a="buy", b="buy", c="sell", d="raise", e="abstain")
    board.run_sync(Proposal(text="Shall we?"))
    tally = board.one(Tally)
    assert tally.counts == {"buy": 2, "sell": 1, "hold": 0}
    assert (tally.result, tally.cast, tally.abstained, tally.failed, tally.invalid) == ("buy", 3, 1, 1, 0)
    assert (tally.invited, tally.agreement, tally.unanimous) == (5, 2 / 3, False)
    assert tally.confidences == {"buy": 1.0, "sell": 0.5, "hold": 0.0}
    assert tally.subject == board.artifacts(Proposal)[0].id


@pytest.mark.req("S1.45")
def test_a_wired_vote_without_enough_voters_left_decides_nothing(new_board: Boards) -> None:
    board = new_board(components=[Consensus(options=["buy", "hold"], voters=["a", "b", "c"])])
    jury(board, a="buy", b="raise", c="raise")
    board.run_sync(Proposal(text="Shall we?"))
    tally = board.one(Tally)
    assert (tally.result, tally.counts, tally.failed) == (None, {"buy": 1, "hold": 0}, 2)
    assert tally.reason.startswith("no quorum")


@pytest.mark.req("S1.10", "S1.18")
def test_a_wired_vote_keeps_off_ballot_votes_apart_and_says_who_agreed(new_board: Boards) -> None:
    board = new_board(components=[Consensus(options=["buy", "hold"], voters=["a", "b", "c"])])
    jury(board, a="buy", b="gamble", c="buy")
    board.run_sync(Proposal(text="Shall we?"))
    tally = board.one(Tally)
    assert (tally.counts, tally.invalid, tally.unanimous) == ({"buy": 2, "hold": 0}, 1, True)


def test_a_wired_vote_that_is_decided_early_cancels_the_rest(new_board: Boards) -> None:
    board = new_board(components=[Consensus(options=["buy", "sell"], voters=["a", "b", "c"], early=True)])
    undecided = asyncio.Event()

    for name in ("a", "b"):

        @board.agent(name).consumes(Proposal).publishes(Vote).body
        async def vote(proposal: Artifact[Proposal]) -> Vote:
            await undecided.wait()
            return Vote(subject=proposal.id, option="buy")

    @board.agent("c").consumes(Proposal).publishes(Vote).body
    async def ponder(proposal: Proposal) -> Vote:
        undecided.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets this event")

    report = board.run_sync(Proposal(text="Shall we?"), timeout=30)
    assert report.reason == "idle"
    assert report.cancelled == 1
    tally = board.one(Tally)
    assert (tally.result, tally.missing) == ("buy", 1)


# -- by the numbers ----------------------------------------------------------------------------------------------------


class Question(BaseModel):
    """What each voter will say: right or wrong."""

    said: str


async def all_votes(
    board: Blackboard, voters: int, rule: Rule = "majority", *, early: bool = False
) -> list[tuple[str, Tally]]:
    """Every way in which so many voters can vote, and its tally."""
    names = [f"v{i}" for i in range(voters)]
    board.add(Consensus(options=["right", "wrong"], voters=names, rule=rule, quorum=1, early=early))

    def define(name: str, i: int) -> None:
        async def vote(question: Artifact[Question]) -> Vote:
            return Vote(subject=question.id, option={"r": "right", "w": "wrong"}[question.payload.said[i]])

        board.agent(name).consumes(Question).publishes(Vote).body(vote)

    for i, name in enumerate(names):
        define(name, i)
    asked = await board.publish_many([Question(said="".join(said)) for said in product("rw", repeat=voters)])
    assert (await board.run_until_idle()).reason == "idle"
    tallies = {tally.subject: tally for tally in board.artifacts(Tally).payloads}
    assert len(tallies) == board.artifacts(Tally).total == len(asked)
    return [(question.payload.said, tallies[question.id]) for question in asked]


def chance(said: str, competence: str) -> Fraction:
    """How probable these votes are if every voter is right with this probability."""
    p = Fraction(competence)
    return p ** said.count("r") * (1 - p) ** said.count("w")


def probable(tallied: Sequence[tuple[str, Tally]], competence: str, result: str | None) -> float:
    return float(sum(chance(said, competence) for said, tally in tallied if tally.result == result))


@pytest.mark.req("S1.15")
@pytest.mark.parametrize(
    ("voters", "expected"),
    [
        (3, (0.352, 0.514998, 0.57475, 0.648, 0.784, 0.896, 0.972)),
        (5, (0.31744, 0.518745, 0.593127, 0.68256, 0.83692, 0.94208, 0.99144)),
        (7, (0.289792, 0.521866, 0.608288, 0.710208, 0.873964, 0.966656, 0.997272)),
    ],
)
async def test_a_majority_is_right_as_often_as_condorcet_says(
    new_board: Boards, voters: int, expected: tuple[float, ...]
) -> None:
    tallied = await all_votes(new_board(), voters)
    for competence, right in zip(("0.4", "0.51", "0.55", "0.6", "0.7", "0.8", "0.9"), expected, strict=True):
        assert probable(tallied, competence, "right") == pytest.approx(right, abs=1e-6)
        assert probable(tallied, competence, None) == 0.0


@pytest.mark.req("S1.15")
@pytest.mark.parametrize(
    ("voters", "rule", "competence", "expected"),
    [
        (3, "two_thirds", "0.6", (0.648, 0.352, 0.0)),  # 2 of 3 are two thirds
        (3, "unanimity", "0.6", (0.216, 0.064, 0.72)),
        (5, "two_thirds", "0.6", (0.33696, 0.08704, 0.576)),
        (5, "two_thirds", "0.7", (0.52822, 0.03078, 0.441)),
        (7, "two_thirds", "0.6", (0.419904, 0.096256, 0.48384)),
    ],
)
async def test_who_asks_for_more_than_a_majority_gets_fewer_and_better_decisions(
    new_board: Boards, voters: int, rule: Rule, competence: str, expected: tuple[float, float, float]
) -> None:
    tallied = await all_votes(new_board(), voters, rule)
    found = tuple(probable(tallied, competence, result) for result in ("right", "wrong", None))
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("voters", "expected"), [(3, (2.5, 2.48, 2.42, 2.32, 2.18)), (5, (4.125, 4.0656, 3.8946, 3.6336, 3.3186))]
)
async def test_deciding_early_saves_the_votes_that_could_not_change_the_result(
    new_board: Boards, voters: int, expected: tuple[float, ...]
) -> None:
    full = await all_votes(new_board(), voters)
    early = await all_votes(new_board(concurrency=1), voters, early=True)
    assert [(said, tally.result) for said, tally in early] == [(said, tally.result) for said, tally in full]
    for competence, votes in zip(("0.5", "0.6", "0.7", "0.8", "0.9"), expected, strict=True):
        assert float(sum(chance(said, competence) * tally.cast for said, tally in early)) == pytest.approx(votes)


# -- when and who ------------------------------------------------------------------------------------------------------


async def test_the_tally_does_not_depend_on_who_votes_first(new_board: Boards) -> None:
    verdicts = {"a": "buy", "b": "sell", "c": "buy", "d": "abstain", "e": "raise"}
    found = []
    for order in list(permutations(verdicts))[::17]:
        board = new_board(clock=VirtualClock())
        board.add(Consensus(options=["buy", "sell"], voters=verdicts))

        def define(board: Blackboard, name: str, pause: int) -> None:
            decide = voter(verdicts[name])

            async def vote(proposal: Artifact[Proposal], ctx: Context) -> Vote:
                await ctx.sleep("think", pause)
                return await decide(proposal)

            board.agent(name).consumes(Proposal).publishes(Vote).body(vote)

        for name in verdicts:
            define(board, name, order.index(name) + 1)
        await board.publish(Proposal(text="Shall we?"))
        await board.run_until_idle()
        first = [a.producer for a in board.artifacts(Vote)]
        assert first == [name for name in order if name != "e"], "they voted in this order"
        found.append(board.one(Tally).model_copy(update={"subject": 0}))
    assert len(found) == 8
    assert all(tally == found[0] for tally in found)
    assert (found[0].result, found[0].cast, found[0].abstained, found[0].failed) == ("buy", 3, 1, 1)


async def test_a_tie_decides_nothing_and_says_so(new_board: Boards) -> None:
    board = new_board(components=[Consensus(options=["x", "y", "z"], voters=["a", "b", "c"], rule="plurality")])
    jury(board, a="x", b="y", c="z")
    await board.publish(Proposal(text="Which?"))
    await board.run_until_idle()
    tally = board.one(Tally)
    assert (tally.result, tally.reason) == (None, "tie: x, y, z have 1 of 3 votes each")


async def test_a_vote_that_lacks_somebody_who_was_not_asked_is_waited_for_and_named(new_board: Boards) -> None:
    board = new_board(components=[Consensus(options=["buy", "sell"], voters=["a", "bb", "outside"])])
    jury(board, a="buy", b="buy")
    subject = await board.publish(Proposal(text="Shall we?"))
    report = await board.run_until_idle()
    assert (report.reason, report.detail) == ("waiting", f"consensus: the vote on {subject.id} waits for bb, outside")
    await board.publish(Vote(subject=subject.id, option="sell"))
    report = await board.run_until_idle()
    assert (report.reason, report.detail) == ("waiting", f"consensus: the vote on {subject.id} waits for bb")
    assert board.artifacts(Tally).total == 0


@pytest.mark.parametrize("restart", [False, True])
async def test_a_deadline_that_passes_while_nothing_runs_decides_in_the_next_run(
    new_board: Boards, restart: bool
) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)

    def defined(board: Blackboard) -> Blackboard:
        board.add(Consensus(options=["buy", "sell"], voters=["a", "person"], quorum=1, within=3_600))
        jury(board, a="buy")
        return board

    subject = await defined(board).publish(Proposal(text="Shall we?"))
    assert (await board.run_until_idle()).reason == "waiting"
    clock.advance(3_599)
    assert (await board.run_until_idle()).reason == "waiting"
    if restart:
        board = defined(await new_board.reopened(board, clock=clock))
    clock.advance(1)
    assert (await board.run_until_idle()).reason == "idle"
    [tally] = board.artifacts(Tally)
    assert (tally.payload.result, tally.payload.cast, tally.payload.missing) == ("buy", 1, 1)
    await board.publish(Vote(subject=subject.id, option="sell"))
    await board.run_until_idle()
    assert board.artifacts(Tally).total == 1


async def test_a_lowered_quorum_counts_for_votes_that_are_open(new_board: Boards) -> None:
    board = new_board()

    def defined(board: Blackboard, quorum: int) -> Blackboard:
        board.add(
            Consensus(options=["buy", "sell"], voters=["a", "b", "person"], rule="plurality", quorum=quorum, early=True)
        )
        jury(board, a="buy", b="buy")
        return board

    await defined(board, 3).publish(Proposal(text="Shall we?"))
    assert (await board.run_until_idle()).reason == "waiting"
    board = defined(await new_board.reopened(board), 2)
    assert (await board.run_until_idle()).reason == "idle"
    assert [tally.result for tally in board.artifacts(Tally).payloads] == ["buy"]


async def test_a_voter_that_is_tried_again_after_the_tally_changes_nothing(new_board: Boards) -> None:
    board = new_board(components=[Consensus(options=["buy", "sell"], voters=["a", "b", "c"], quorum=1)])
    jury(board, a="buy", b="sell")
    failing = [True]

    @board.agent("c").consumes(Proposal).publishes(Vote).body
    async def late(proposal: Artifact[Proposal]) -> Vote:
        if failing[0]:
            raise RuntimeError("not now")
        return Vote(subject=proposal.id, option="sell")

    await board.publish(Proposal(text="Shall we?"))
    report = await board.run_until_idle()
    before = board.one(Tally)
    assert (before.result, before.failed) == (None, 1)
    failing.clear()
    failing.append(False)
    await board.retry(*[dead.activation for dead in report.left.dead_letters])
    assert (await board.run_until_idle()).ok
    assert board.artifacts(Vote).total == 3
    assert board.one(Tally) == before
    assert sum(isinstance(e, Activated) and e.agent == "c" for e in board.events()) == 2
