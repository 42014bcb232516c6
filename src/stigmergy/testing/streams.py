"""Streams as tests use them: written by hand, read in bounded memory, and put into another legal order."""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from stigmergy.blackboard.errors import SeedError
from stigmergy.blackboard.events import Priority
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.question import HumanAnswer
from stigmergy.seeds import Seed

Line = str | Mapping[str, object] | BaseModel
"""A line as text, as the object it is, or as a payload that is to be published from outside."""
Stream = str | PathLike[str] | Iterable[Line]
"""A file, or lines."""

WINDOW = 1_000
"""How many steps a shuffle looks at together; a longer stream is shuffled as it comes, in bounded memory."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is published together: one line from outside, or what one recorded activation published at one time.

    Attributes:
        at: seconds since the stream began.
        producer: "" = from outside.
    """

    at: float
    producer: str
    seeds: tuple[Seed, ...]

    @property
    def cause(self) -> int | None:
        """The recorded activation."""
        return self.seeds[0].cause

    @property
    def inputs(self) -> tuple[int, ...]:
        """What it consumed, as it was called then."""
        return self.seeds[0].inputs


def line(
    payload: BaseModel, /, *, at: float | None = None, key: str | None = None, tags: Sequence[str] = (),
    priority: Priority | None = None, producer: str = "", id: int | None = None, cause: int | None = None,
    inputs: Sequence[int] = (),
) -> str:  # fmt: skip
    """A line of a stream.

    Args:
        at: seconds since the stream began; as the line before unless given.
        producer: the agent that published it when it was recorded; "" = it is published from outside.
        id, cause, inputs: its own position, its activation's, and those of the lines that the activation consumed.

    Raises:
        NotRoundTrippable: the payload does not come back from JSON as it was.
    """
    kind = type_of(type(payload))
    data = kind.encode(payload)[1].decode()
    given = {
        "version": None if kind.version == 1 else kind.version, "key": key, "tags": list(tags) or None,
        "priority": priority, "at": at, "id": id, "producer": producer or None, "cause": cause,
        "inputs": list(inputs) or None,
    }  # fmt: skip
    fields = {"type": kind.name} | {name: value for name, value in given.items() if value is not None}
    return json.dumps(fields, ensure_ascii=False)[:-1] + f', "payload": {data}}}'


def text_of(item: Line) -> str:
    """The text of a line."""
    if isinstance(item, BaseModel):
        return line(item)
    return item.rstrip("\r\n") if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


@contextmanager
def as_file(stream: Stream, types: TypeTable) -> Iterator[tuple[Path, str]]:
    """The stream as a file that can be read twice, and how errors call it; payloads make their types known.

    Raises:
        SeedError: a text is more than one line.
    """
    if isinstance(stream, str | PathLike):
        yield Path(stream), str(stream)
        return
    with TemporaryDirectory(prefix="stigmergy-") as folder:
        path = Path(folder) / "stream.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number, item in enumerate(stream, 1):
                if isinstance(item, BaseModel):
                    types.add(type(item))
                text = text_of(item)
                if "\n" in text:
                    raise SeedError(f"stream:{number}: this is several lines. Give each as an item of its own.")
                file.write(text + "\n")
        yield path, "stream"


def steps(seeds: Iterable[Seed]) -> Iterator[Step]:
    """The lines of a stream as they belong together, in their order."""
    together: list[Seed] = []
    for seed in seeds:
        if together and not _one_step(together[-1], seed):
            yield _step(together)
            together = []
        together.append(seed)
    if together:
        yield _step(together)


def _one_step(a: Seed, b: Seed) -> bool:
    known = bool(b.producer) and b.cause is not None
    return known and (a.producer, a.cause, a.at) == (b.producer, b.cause, b.at)


def _step(seeds: Sequence[Seed]) -> Step:
    return Step(seeds[0].at, seeds[0].producer, tuple(seeds))


@dataclass(frozen=True, slots=True)
class _Held:
    """A step that waits for its turn; `needs` is what steps before it make."""

    step: Step
    makes: frozenset[object]
    needs: frozenset[object]


def shuffled(source: Iterable[Step], seed: int) -> Iterator[Step]:
    """The steps in another order that could have been: nothing comes before what it follows from.

    What an activation published stays after what it consumed and in its order, an answer after its question, and work
    after the work that it names. The steps change places and the times stay, so that they never go back. The same seed
    gives the same order.
    """
    random = Random(seed)  # noqa: S311  not for secrets
    rest = iter(source)
    held: list[_Held] = []
    times: deque[float] = deque()
    coming: set[object] = set()
    latest: dict[int, int] = {}
    """Activation -> the last that is to come of what it published."""
    while True:
        for step in islice(rest, WINDOW - len(held)):
            makes, needs = _made_and_needed(step)
            if step.cause and step.seeds[0].id is not None:
                needs.add(latest.get(step.cause))
                latest[step.cause] = step.seeds[0].id
            held.append(_Held(step, makes, frozenset(needs & coming)))
            times.append(step.at)
            coming |= makes
        if not held:
            return
        start = random.randrange(len(held))
        places = ((start + i) % len(held) for i in range(len(held)))  # the oldest is always ready
        place = next(i for i in places if not held[i].needs & coming)
        taken = held.pop(place)
        coming -= taken.makes
        if taken.step.cause and latest.get(taken.step.cause) in taken.makes:
            del latest[taken.step.cause]
        yield replace(taken.step, at=times.popleft())


def _made_and_needed(step: Step) -> tuple[frozenset[object], set[object]]:
    """Recorded positions and work ids, by which steps name each other."""
    makes: set[object] = {seed.id for seed in step.seeds if seed.id is not None}
    needs: set[object] = {id for seed in step.seeds for id in seed.inputs}
    for seed in step.seeds:
        payload: Any = seed.payload
        if isinstance(payload, HumanAnswer):
            needs.add(payload.question)
        kind = type_of(type(payload))
        if kind.has_work:
            makes.add(("work", payload.work_id))
        if kind.has_parent:
            needs.add(("work", payload.parent_work_id))
        if kind.has_blocking:
            needs |= {("work", work) for work in payload.blocking_work_ids or ()}
    makes.discard(("work", None))
    return frozenset(makes), needs - makes
