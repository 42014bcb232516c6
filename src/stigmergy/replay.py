"""Replay: does a recorded run come out the same with the agents and components of today?"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

from pydantic import TypeAdapter

from stigmergy.agents.roster import Roster
from stigmergy.blackboard.definitions import Limits
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.reading.view import View, read
from stigmergy.blackboard.replaying.divergence import Divergence
from stigmergy.blackboard.replaying.playback import Playback
from stigmergy.blackboard.text import number


@dataclass(frozen=True, slots=True)
class Difference:
    """What a replay found.

    Attributes:
        name: the board that was replayed.
        decisions, events: how many came out the same, up to the first that does not.
        first: the first that comes out otherwise; None if all are equal.
        changed: definitions that differ from those recorded, in words; a change that decides nothing is no difference.
    """

    name: str
    decisions: int
    events: int
    first: Divergence | None
    changed: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything was decided the same way."""
        return self.first is None

    def __str__(self) -> str:
        equal = f"{number(self.decisions, 'decision')} ({number(self.events, 'event')})"
        if self.first is None:
            lines = [f"{self.name}: equal, {equal}"]
        else:
            lines = [f"{self.name}: differs at {self.first.seq}, after {equal} that are equal"]
            lines += [f"  {line}" for line in self.first.lines()]
        return "\n".join([*lines, *(f"  changed   {text}" for text in self.changed)])

    def __repr__(self) -> str:
        if self.first is None:
            return f"<Difference none: {number(self.decisions, 'decision')}>"
        return f"<Difference at {self.first.seq}: {self.first.cause}>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def to_json(self) -> str:
        """The difference as a JSON object, with `ok`."""
        return _SHOWN.dump_json({"ok": self.ok, **_DIFFERENCE.dump_python(self, mode="json")}, indent=2).decode()


_DIFFERENCE = TypeAdapter(Difference)
_SHOWN = TypeAdapter(dict[str, object])


def replay(run: View | str | Path, roster: Roster, *, until: int | None = None) -> Difference:
    """Decide a recorded run again with other definitions, and find the first event that comes out otherwise.

    No body runs and nothing is written: artifacts from outside, what bodies returned, how attempts failed, effects,
    the order of claims and the time are taken from the record; who takes what, joins, retries, deadlines, limits and
    all that components do are decided anew. Memory does not grow with the log.

    Args:
        run: a board, a view of one, or a file.
        roster: the agents and components of today, and their limits.
        until: the last position to replay, rounded up to the end of its decision; None = all.

    Raises:
        StoreError: the file is not there, or no board.
        PayloadErased: something of it was erased.
        TypeClash: the roster and the board have two different classes of one name.
    """
    if not isinstance(run, View):
        with read(run) as file:
            return replay(file, roster, until=until)
    view = run if until is None else run.at(until)
    source = view._source()
    types = TypeTable()
    types.update(roster.types)
    for name in source.types.names():
        known = source.types.get(name)
        if known is not None and types.get(name) is None:
            types.add(known.model)
    specs = [agent.spec for agent in roster.agents]
    playback = Playback(source.reader, specs, roster.components, roster.limits or Limits(), types)
    first = playback.play(view.last)
    return Difference(source.name, playback.decisions, playback.events, first, tuple(playback.changed))
