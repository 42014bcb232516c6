"""One step of a proof; `proof` finds and prints them, `prov` writes them down for other tools."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Step:
    """An artifact or an activation on the way.

    Attributes:
        name: `Type@12` or `agent@33`.
        by: who published it, and how that went; for an activation, how it ended.
        parent: the place in the proof of what follows from this; -1 for what is being explained.
        above: it was explained further up already.
        producer: the agent or component that published it or that ran; "outside" from outside.
        activation: the activation that it came out of, or that it is; 0 = none.
        at: log time in seconds since the epoch.
    """

    id: int
    kind: Literal["artifact", "activation"]
    name: str
    title: str
    by: str
    parent: int
    above: bool = False
    producer: str = ""
    activation: int = 0
    at: float = 0.0
