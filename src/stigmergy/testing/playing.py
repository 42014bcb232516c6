"""Playing a stream against a board: what came from outside comes again, in virtual time, and the agents answer."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from stigmergy.agents.agent import Agent
from stigmergy.blackboard.core.decision import OUTSIDE, PERSON, Draft, Origin
from stigmergy.blackboard.core.running import nearest
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.errors import DefinitionError, SeedError, StigmergyError
from stigmergy.blackboard.events import Activated, Published
from stigmergy.blackboard.question import HumanAnswer, HumanQuestion, answer_key
from stigmergy.blackboard.reading.report import Report
from stigmergy.blackboard.shell.job import Job, Worker
from stigmergy.blackboard.shell.owner import Owner
from stigmergy.board import Blackboard
from stigmergy.loop import in_a_loop
from stigmergy.seeds import Seed, read_seeds
from stigmergy.testing.comparison import Comparison
from stigmergy.testing.streams import Step, Stream, as_file, shuffled, steps

TOGETHER = 500
"""Lines of one time that are published before anything runs; more of them come in several portions."""
REMEMBERED = 1_000
"""Activations of live agents of which it is known how many recorded outputs were gone through."""


def play(
    board: Blackboard, stream: Stream, *, shuffle: int | None = None, mute: Iterable[Agent | str] | Agent | str = (),
    strict: bool = False,
) -> Report:  # fmt: skip
    """Publish a stream at its times on the board's virtual clock, and run the board until nothing is left to do.

    Lines without `producer` are published. Lines with one are recorded outputs: those of muted agents are published in
    their place, at their recorded times and as following from what happens here on the same inputs; the others are
    what the agents are to answer themselves, and are skipped, or compared. What a person answered is answered again if
    the same is asked here.

    Args:
        stream: a `.jsonl` or `.json` file, or lines as text, objects or payloads.
        shuffle: a seed: the lines in another order, in which causes still come before effects.
        mute: agents that do not run: what they published when it was recorded takes their place.
        strict: the other agents must answer what was recorded, in whatever order.

    Raises:
        SeedError: a line is wrong (then nothing was published) or is refused where it is played.
        NotFound: `mute` names no agent of the board.
        DefinitionError: the board's clock is the machine's.
        AssertionError: with `strict`, the outputs are not the recorded ones; names which, and where they come from.
    """
    names = (mute,) if isinstance(mute, Agent | str) else mute
    muted = frozenset(board.find(a if isinstance(a, str) else a.name).name for a in names)
    return in_a_loop(lambda: _play(board, stream, shuffle, muted, strict=strict))


async def _play(
    board: Blackboard, stream: Stream, shuffle: int | None, muted: frozenset[str], *, strict: bool
) -> Report:
    owner = await board._open()
    if not owner.clock.jump(owner.clock.now()):
        raise DefinitionError(
            "play() moves time, and this board has the machine's clock. Use Blackboard(clock=VirtualClock()), or the "
            "fixture open_board."
        )
    types = board._source().types
    with as_file(stream, types) as (path, name):
        in_order = steps(read_seeds(path, types, name=name).all())
        comparison = Comparison(board, name, muted) if strict else None
        feed = Feed(
            board, owner, name, shuffled(in_order, shuffle) if shuffle is not None else in_order, muted, comparison
        )
        attempts = owner.attempts
        worker = attempts.worker
        owner.feed, attempts.worker = feed, Understudies(worker, muted)
        try:
            report = await board.run_until_idle(horizon=None)
        finally:
            owner.feed, attempts.worker = (lambda asleep: False), worker
    if feed.failed is not None:
        raise feed.failed
    if comparison is not None:
        comparison.check()
    return report


class Understudies:
    """Runs bodies, but not those of muted agents: they end at once, and the stream says what they publish."""

    def __init__(self, worker: Worker, muted: frozenset[str]) -> None:
        self._worker = worker
        self._muted = muted

    def may_speculate(self, agent: AgentSpec) -> bool:
        """As without muting."""
        return self._worker.may_speculate(agent)

    async def perform(self, job: Job) -> Sequence[Draft]:
        """Run the body, unless its agent is muted."""
        return () if job.agent.name in self._muted else await self._worker.perform(job)


class Places:
    """Where the artifacts of a recording are on this board: two rows of numbers, since a stream may be long."""

    def __init__(self) -> None:
        self._recorded, self._played = array("q"), array("q")

    def put(self, recorded: int, played: int) -> None:
        """Remember one; lines come nearly in the order of their positions."""
        place = bisect_right(self._recorded, recorded)
        self._recorded.insert(place, recorded)
        self._played.insert(place, played)

    def of(self, recorded: Sequence[int]) -> list[int] | None:
        """The ids here; None unless all are known."""
        found = []
        for id in recorded:
            place = bisect_left(self._recorded, id)
            if place == len(self._recorded) or self._recorded[place] != id:
                return None
            found.append(self._played[place])
        return found


class Feed:
    """Gives a running board the next step of a stream whenever it has come to rest; deadlines before it come first.

    Attributes:
        failed: why the stream ended early.
    """

    def __init__(
        self, board: Blackboard, owner: Owner, name: str, source: Iterable[Step], muted: frozenset[str],
        comparison: Comparison | None,
    ) -> None:  # fmt: skip
        self._board = board
        self._owner = owner
        self._name = name
        self._steps = iter(source)
        self._muted = muted
        self._comparison = comparison
        self._start = owner.clock.now()
        self._next: Step | None = None
        self._places = Places()
        self._given: dict[tuple[int, str], int] = {}
        """Activation here and type -> how many of its outputs have their place."""
        self._asked: dict[int, tuple[str, str]] = {}
        """Recorded question -> who asked, and what."""
        self.failed: Exception | None = None

    def __call__(self, asleep: bool) -> bool:
        """Make what comes next happen; False when the stream is over."""
        if self.failed is not None:
            return False
        try:
            return self._go_on(asleep=asleep)
        except Exception as error:  # noqa: BLE001  raised again by play(): the board's own loop cannot pass it on
            self.failed = error
            return False

    def _go_on(self, *, asleep: bool) -> bool:
        step = self._peek()
        if step is None:
            return False
        owner, due = self._owner, self._start + step.at
        timer = owner.decider.timers.next()
        if due <= owner.clock.now():
            if step.producer == PERSON.producer:
                self._answer(step)
            elif step.producer:
                return self._recorded(step, asleep=asleep)
            else:
                self._from_outside()
        elif not asleep and self._at_idle():
            return True
        elif timer is not None and timer.due <= due:
            owner.clock.jump(timer.due)
            owner.record(owner.decider.wake(owner.clock.now()))
        else:
            owner.clock.jump(due)
        return True

    def _at_idle(self) -> bool:
        """Let go what waits until nothing else can run."""
        events = self._owner.decider.fire_at_idle(self._owner.clock.now())
        self._owner.record(events)
        return bool(events)

    def _peek(self) -> Step | None:
        """The next step that anything follows from; what live agents answered then only counts where others follow."""
        while self._next is None and (step := next(self._steps, None)) is not None:
            for seed in step.seeds:
                if isinstance(seed.payload, HumanQuestion) and seed.id is not None:
                    self._asked[seed.id] = (step.producer, seed.payload.what)
            live = step.producer and step.producer != PERSON.producer and step.producer not in self._muted
            if live and self._comparison is not None:
                self._comparison.expect(step)
            if not live or self._muted:
                self._next = step
        return self._next

    def _from_outside(self) -> None:
        """Publish what is due, each line in a decision of its own."""
        for _ in range(TOGETHER):
            step = self._peek()
            if step is None or step.producer or self._start + step.at > self._owner.clock.now():
                return
            self._next = None
            self._publish(step.seeds, OUTSIDE, self._board._run, [step.seeds[0].key])

    def _answer(self, step: Step) -> None:
        """Answer what a person answered; an edit is for a dead letter of then, and answers what nobody asks here."""
        self._next = None
        for seed in step.seeds:
            if not isinstance(seed.payload, HumanAnswer):
                continue
            who, what = self._asked.pop(seed.payload.question, ("", ""))
            for question in self._board.artifacts(HumanQuestion, where={"what": what}, producer=who):
                key = answer_key(question.id)
                if self._owner.past.key(question.run, key) is None:
                    said = replace(seed, payload=seed.payload.model_copy(update={"question": question.id}))
                    self._publish([said], PERSON, question.run, [key])
                    break

    def _recorded(self, step: Step, *, asleep: bool) -> bool:
        """Publish what a muted agent published; of a live agent's output, note which one of today takes its place."""
        activation = self._activation(step)
        if activation is None and not asleep and self._at_idle():
            return True
        self._next = None
        if step.producer not in self._muted:
            if activation is not None:
                self._take_places(step, activation)
            return True
        if activation is None:
            origin, run = Origin(step.producer), self._board._run
        else:
            origin, run = self._origin(activation), activation.run
        keys = [_key_here(seed, activation) for seed in step.seeds]
        self._publish(step.seeds, origin, run, keys)
        return True

    def _publish(self, seeds: Sequence[Seed], origin: Origin, run: str, keys: Sequence[str | None]) -> None:
        owner = self._owner
        try:
            drafts = [
                self._board._draft(s.payload, run=run, key=k, tags=s.tags, priority=s.priority, visibility=s.visibility)
                for s, k in zip(seeds, keys, strict=True)
            ]
            events = owner.decider.publish(drafts, owner.clock.now(), origin)
        except StigmergyError as error:
            raise SeedError(f"{self._name}:{seeds[0].line}: {error} The lines before it were published.") from error
        owner.record(events)
        if self._muted:
            new = (e.seq for e in events if isinstance(e, Published) and e.producer == origin.producer)
            for seed, id in zip(seeds, owner._ids(drafts, new), strict=True):
                if seed.id is not None:
                    self._places.put(seed.id, id)

    def _activation(self, step: Step) -> Activated | None:
        """What happened here on the same inputs."""
        inputs = self._places.of(step.inputs)
        for id in dict.fromkeys(inputs or ()):
            for event in self._owner.past.following(id):
                if isinstance(event, Activated) and event.agent == step.producer and event.inputs == inputs:
                    return event
        return None

    def _take_places(self, step: Step, activation: Activated) -> None:
        outputs = [e for e in self._owner.past.following(activation.seq) if isinstance(e, Published)]
        while len(self._given) > REMEMBERED:
            del self._given[next(iter(self._given))]
        for seed in step.seeds:
            seen = self._given.get((activation.seq, seed.type), 0)
            self._given[activation.seq, seed.type] = seen + 1
            same = next(islice((e for e in outputs if e.type == seed.type), seen, None), None)
            if same is not None and seed.id is not None:
                self._places.put(seed.id, same.seq)

    def _origin(self, activation: Activated) -> Origin:
        """What its outputs would inherit."""
        owner = self._owner
        inputs = [owner.past.published(id) for id in activation.inputs]
        ancestors = nearest([(e.seq, e.type, e.ancestors) for e in inputs], owner.decider.index.ancestors)
        return Origin(
            activation.agent, activation.seq, activation.run, min(e.root or e.seq for e in inputs),
            activation.depth + 1, ancestors,
        )  # fmt: skip


def _key_here(seed: Seed, activation: Activated | None) -> str | None:
    """The key of a recorded output; `ctx.publish` makes keys of the activation, which is another one here."""
    own = f"{seed.cause}/"
    if seed.key is None or not seed.key.startswith(own):
        return seed.key
    return f"{activation.seq}/{seed.key.removeprefix(own)}" if activation is not None else None
