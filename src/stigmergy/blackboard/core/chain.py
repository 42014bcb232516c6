"""What each component did about failures; a fold of the log."""

from dataclasses import dataclass, field

from stigmergy.blackboard import events as ev


@dataclass(slots=True)
class Link:
    """What one component did about failures.

    Attributes:
        name: of the component.
        held: how often it held an activation back.
        told: dead letters about which it published something: work, a question, an error.
        tried_again, taken_over: dead letters that it opened again, for the same agent or for another.
        given_up: dead letters that it discarded.
    """

    name: str
    held: int = 0
    told: int = 0
    tried_again: int = 0
    taken_over: int = 0
    given_up: int = 0


@dataclass(slots=True)
class Chain:
    """What did something about failures, by name; who holds an activation for a question is not counted.

    Attributes:
        tx, ended, opened: the newest decision in which something failed or was opened again: the ends of dead letters
            in it, and what is open again, by whose decision.
    """

    links: dict[str, Link] = field(default_factory=dict)
    tx: int = 0
    ended: list[int] = field(default_factory=list)
    opened: dict[int, str] = field(default_factory=dict)

    def held(self, e: ev.Held) -> None:
        """An activation is held back."""
        self._link(e.by).held += 1

    def published(self, e: ev.Published) -> None:
        """A component published something."""
        if e.tx == self.tx and e.cause in self.ended:
            self._link(e.producer).told += 1

    def redriven(self, e: ev.Redriven) -> None:
        """A dead letter is opened again."""
        self._at(e.tx)
        if e.by:
            self.opened[e.cause] = e.by

    def activated(self, e: ev.Activated, before: str | None) -> None:
        """By the activation that repeats it; `before` is the agent that failed, if that is known."""
        by = self.opened.pop(e.redriven, "") if e.tx == self.tx else ""
        if by:
            link = self._link(by)
            link.tried_again += before in (None, e.agent)
            link.taken_over += before not in (None, e.agent)
            self.opened[e.seq] = by

    def finished(self, e: ev.Ended) -> None:
        """It failed, or it was opened again to be given up."""
        if e.outcome == "dead_letter":
            self._at(e.tx)
            self.ended.append(e.seq)
        elif e.outcome == "skipped" and e.tx == self.tx and e.cause in self.opened:
            link = self._link(self.opened.pop(e.cause))
            link.tried_again -= 1
            link.given_up += 1

    def _at(self, tx: int) -> None:
        if tx != self.tx:
            self.tx, self.ended, self.opened = tx, [], {}

    def _link(self, name: str) -> Link:
        return self.links.setdefault(name, Link(name))
