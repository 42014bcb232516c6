"""What is said on the board when limits keep work from starting."""

from pydantic import BaseModel, ConfigDict


class LimitReached(BaseModel):
    """Open work of this artifact's run cannot go on: limits, or a component that guards what is spent, keep it.

    It is published when a run of the board ends as `budget`, once for each text. Nothing is lost: with raised limits
    the next run goes on.

    Attributes:
        why: which limits, and what is used of them.
    """

    model_config = ConfigDict(frozen=True)

    why: str
