"""How the work branched: which artifact grew from which, as far as a bound allows; a fold of the log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.events import Event
from stigmergy.blackboard.text import guides, title

TWIGS = 200
ROOTS = 5
_TITLED = 65_536


@dataclass(slots=True)
class Twig:
    """An artifact with what it grew from; `parent` 0 = from outside. `taken`: somebody consumed it."""

    id: int
    type: str
    title: str
    producer: str
    phase: str | None
    parent: int
    system: bool
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of the tree: an artifact, and the place of what it grew from in the list; -1 = it came from outside."""

    id: int
    type: str
    title: str
    producer: str
    phase: str | None
    parent: int


@dataclass(slots=True)
class Growth:
    """The first artifacts in log order that descend from the first outside ones.

    Attributes:
        limit: how many artifacts are remembered.
        roots: how many of them may come from outside.
        sources: activations, and the ends of failed ones, with the artifact that set them off.
    """

    limit: int = TWIGS
    roots: int = ROOTS
    seeds: int = 0
    artifacts: int = 0
    system: int = 0
    twigs: dict[int, Twig] = field(default_factory=dict)
    sources: dict[int, int] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Fold one event."""
        if isinstance(event, ev.Published):
            self.published(event)
        elif isinstance(event, ev.Activated):
            self.activated(event)
        elif isinstance(event, ev.Ended):
            self.ended(event)

    def published(self, e: ev.Published) -> None:
        """An artifact: remembered if it is a root, or grew from one that is remembered."""
        self.artifacts += 1
        if e.producer == "outside":
            self.seeds += 1
        elif e.system:
            self.system += 1
        twigs = self.twigs
        if len(twigs) >= self.limit:
            return
        parent = e.cause if e.cause in twigs else self.sources.get(e.cause, 0)
        if parent == 0 and (e.cause or self.seeds > self.roots):
            return
        if e.system and 2 * len(twigs) >= self.limit:
            return
        about = title(e.payload.decode()) if len(e.payload) <= _TITLED else ""
        twigs[e.seq] = Twig(e.seq, e.type, about, e.producer, e.phase, parent, e.system)

    def activated(self, e: ev.Activated) -> None:
        """An activation: what it publishes grows from the artifact that completed its inputs."""
        twig = self.twigs.get(e.cause)
        if twig is not None and len(self.sources) < 2 * self.limit:
            twig.taken = True
            self.sources[e.seq] = e.cause

    def ended(self, e: ev.Ended) -> None:
        """What components publish about a failure grows from what failed."""
        source = self.sources.get(e.cause)
        if source is not None and len(self.sources) < 2 * self.limit:
            self.sources[e.seq] = source

    def erased(self, e: ev.Erased) -> None:
        """What is erased has no title any more."""
        kept = frozenset(e.keep)
        for twig in self.twigs.values():
            if twig.id < e.before and twig.id not in kept:
                twig.title = ""

    def branches(self, limit: int) -> "Tree":
        """The first branches, depth first; what components published is among them only if somebody took it.

        Args:
            limit: how many lines.
        """
        children: dict[int, list[Twig]] = {}
        for twig in self.twigs.values():
            if not twig.system or twig.taken:
                children.setdefault(twig.parent, []).append(twig)
        found: list[Branch] = []
        hidden = self.artifacts - self.system
        todo = [(twig, -1) for twig in reversed(children.get(0, []))]
        while todo and len(found) < limit:
            twig, parent = todo.pop()
            found.append(Branch(twig.id, twig.type, twig.title, twig.producer, twig.phase, parent))
            hidden -= not twig.system
            todo += [(child, len(found) - 1) for child in reversed(children.get(twig.id, []))]
        if todo:
            return Tree(tuple(found), hidden, todo[-1][1])
        return Tree(tuple(found), hidden)  # beyond what is remembered they may be anywhere


@dataclass(frozen=True, slots=True)
class Tree:
    """How the work branched, parents before children; `hidden` more artifacts would begin under place `under`."""

    branches: tuple[Branch, ...] = ()
    hidden: int = 0
    under: int = -1

    def rows(self, phases: Mapping[str, str | None], more: str) -> list[tuple[str, str]]:
        """What is shown, and who published it.

        Args:
            phases: the phase of each agent: work that an agent found for another phase says for which.
            more: what to do to see all.
        """
        parents = [b.parent for b in self.branches]
        shown: Iterable[tuple[str, str]] = [
            (f"{b.type}@{b.id} {b.title}".rstrip(), _whence(b, phases)) for b in self.branches
        ]
        if self.hidden and self.branches:
            parents.append(self.under)
            shown = [*shown, (f"… {self.hidden:,} more", more)]
        return [(guide + text, by) for guide, (text, by) in zip(guides(parents), shown, strict=True)]


def _whence(b: Branch, phases: Mapping[str, str | None]) -> str:
    if b.producer == "outside":
        return "from outside"
    return f"{b.producer} -> {b.phase}" if b.phase and b.phase != phases.get(b.producer) else b.producer
