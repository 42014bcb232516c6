"""What a vote is, what its outcome is, and the rules between them."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Rule = Literal["plurality", "majority", "two_thirds", "unanimity"]


class Vote(BaseModel):
    """One voter's opinion on one subject; the voter is whoever publishes it.

    Attributes:
        subject: the id of the artifact that is voted on.
        option: what is voted for; an option that is not on the ballot makes the vote invalid.
        confidence: how sure the voter is, from 0 to 1.
        abstain: take part without preferring anything; `option` then means nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: int
    option: str = ""
    confidence: float = Field(default=1.0, ge=0.0, le=1.0)
    reasoning: str = ""
    abstain: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.abstain and not self.option:
            raise ValueError("a vote names an option or abstains")
        return self


class Tally(BaseModel):
    """The outcome of a vote. Every voter is in exactly one of cast, abstained, failed and missing, or voted invalidly.

    Attributes:
        result: the option that won by the rule; None = no decision, and `reason` says why.
        counts: votes by option, in ballot order, options without votes included.
        confidences: sum of the confidence of these votes, by option.
        invited: how many voters there are.
        cast: valid votes that name an option.
        invalid: votes off the ballot, second votes, and votes of others than the voters.
        failed: voters whose activation ended without completing.
        missing: voters that had not voted when it was decided.
        agreement: share of the cast votes that the leading option has.
        unanimous: all cast votes agree, and there is at least one.
        confidence: mean confidence of those who voted for the result; 0 without a result.
    """

    model_config = ConfigDict(frozen=True)

    subject: int
    result: str | None
    counts: dict[str, int]
    confidences: dict[str, float]
    invited: int
    cast: int
    abstained: int
    invalid: int
    failed: int
    missing: int = 0
    agreement: float
    unanimous: bool
    confidence: float
    reason: str


def outcome(counts: Mapping[str, int], rule: Rule, quorum: int) -> tuple[str | None, str]:
    """The option that wins by the rule, or None, and why. Compared in whole numbers; ties are never broken by order."""
    cast, most = sum(counts.values()), max(counts.values())
    if cast < quorum:
        return None, f"no quorum: {cast} of {quorum} needed votes were cast"
    leaders = [option for option, count in counts.items() if count == most]
    if len(leaders) > 1:
        return None, f"tie: {', '.join(leaders)} have {most} of {cast} votes each"
    needed = {
        "plurality": most > 0,
        "majority": 2 * most > cast,
        "two_thirds": 3 * most >= 2 * cast,
        "unanimity": most == cast,
    }
    share = f"{leaders[0]} has {most} of {cast} votes"
    return (leaders[0], f"{rule}: {share}") if needed[rule] else (None, f"no {rule}: {share}")


def is_settled(counts: Mapping[str, int], left: int, rule: Rule, quorum: int) -> bool:
    """Whether `left` more votes, however cast or not cast, cannot change the result.

    It is enough to try all of them for one option: nothing is worse for a leader, and nothing better for the others.
    """
    now, _ = outcome(counts, rule, quorum)
    return all(outcome({**counts, option: counts[option] + left}, rule, quorum)[0] == now for option in counts)
