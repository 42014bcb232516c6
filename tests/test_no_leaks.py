"""Random boards of agents, labels, tenants and visibilities: nobody gets, by any way, what it may not see."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from stigmergy import Artifact, Blackboard, Briefing, Context, ContextRequest, Retry
from stigmergy.agents.models.scripted import Scripted
from stigmergy.blackboard.events import Visibility
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.loop import in_a_loop
from stigmergy.testing import VirtualClock
from tests.boards import Boards, C

NAMES = ("anna", "bert", "carl", "dora")
LABELS = ("medical", "senior")
TENANTS = ("north", "south")


class Secret(BaseModel):
    text: str


class Other(BaseModel):
    text: str


class Go(BaseModel):
    text: str = "go"


visibilities = st.none() | st.builds(
    Visibility,
    agents=st.none() | st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
    labels=st.none() | st.lists(st.sampled_from(LABELS), min_size=1, unique=True),
    tenant=st.none() | st.sampled_from(TENANTS),
    after=st.none() | st.sampled_from([30.0, 5_000.0]),
)
people = st.fixed_dictionaries(
    {name: st.tuples(st.frozensets(st.sampled_from(LABELS)), st.none() | st.sampled_from(TENANTS)) for name in NAMES}
)
Person = tuple[frozenset[str], str | None]
People = dict[str, Person]
Facts = dict[str, tuple[Visibility | None, float]]


def may_see(v: Visibility | None, name: str, person: Person, age: float) -> bool:
    """Said once more, in the words of the documentation."""
    labels, tenant = person
    return v is None or (
        (v.agents is None or name in v.agents)
        and (v.labels is None or set(v.labels) <= labels)
        and (v.tenant is None or v.tenant == tenant)
        and (v.after is None or age >= v.after)
    )


class Greedy:
    """A provider that asks for everything in every way, and hands out what it got, and artifacts it was slipped."""

    def __init__(self, seen: dict[str, set[str]]) -> None:
        self.seen = seen
        self.slipped: list[Artifact[Any]] = []

    async def provide(self, request: ContextRequest, /) -> Briefing:
        found = [
            *request.recent(1_000), *request.ancestors(1_000),
            *request.artifacts(Secret, where=lambda s: self.note(request.agent_name, s), limit=1_000),
            *request.artifacts(Other, limit=1_000),
        ]  # fmt: skip
        for artifact in found:
            self.note(request.agent_name, artifact.payload)
        return Briefing((), (*self.slipped, *found))

    def note(self, name: str, payload: object) -> bool:
        self.seen[name].add(str(payload))
        return True


def define(board: Blackboard, everybody: People, seen: dict[str, set[str]]) -> None:
    """Agents that note all that they get hold of: in filters, keys, bodies, contexts, prompts; some of them fail."""

    def a_person(name: str, person: Person) -> None:
        labels, of = person

        def note(*payloads: object) -> bool:
            seen[name].update(map(str, payloads))
            return True

        def key(payload: Any) -> str:
            note(payload)
            return "k"

        async def body(ctx: Context) -> C | None:
            note(*(a.payload for a in ctx.artifacts), *(a.payload for a in ctx.past))
            if any("fails" in str(a.payload) for a in ctx.artifacts):
                raise ValueError("no")
            return C()

        whole = board.agent(name).labels(*labels)
        if of is not None:
            whole = whole.tenant(of)
        whole = whole.consumes(Secret, where=note).consumes(Go).consumes(Secret, Other, by=key, scope="board")
        whole.publishes(C).limits(retry=Retry(attempts=2)).body(body)

    for name, person in everybody.items():
        a_person(name, person)


async def published(
    board: Blackboard, shown: Iterable[Visibility | None]
) -> dict[str, tuple[Visibility | None, float]]:
    facts: Facts = {}
    for i, v in enumerate(shown):
        text = f"canary-{i}-" + ("fails" if i % 3 == 2 else "works")
        artifact = await board.publish((Other if i % 2 else Secret)(text=text), visibility=v)
        facts[text] = (v, artifact.at)
    return facts


def allowed(facts: Facts, name: str, person: Person, now: float) -> set[str]:
    return {text for text, (v, at) in facts.items() if may_see(v, name, person, now - at)}


def leaks(seen: set[str], may: set[str], facts: Iterable[str]) -> set[str]:
    return {text for text in facts if text not in may and any(text in payload for payload in seen)}


@settings(max_examples=60)
@given(people, st.lists(visibilities, min_size=1, max_size=8))
def test_nobody_gets_hold_of_what_it_may_not_see(everybody: People, shown: list[Visibility | None]) -> None:
    async def main() -> None:
        seen: dict[str, set[str]] = defaultdict(set)
        provider, store, clock = Greedy(seen), MemoryStore(), VirtualClock()
        board = Blackboard(store, context=provider, clock=clock)
        define(board, everybody, seen)
        facts = await published(board, shown)
        provider.slipped = [*board.artifacts(Secret, held=True), *board.artifacts(Other, held=True)]
        await board.publish(Go())
        for horizon in (0.0, 60.0):
            await board.run_until_idle(horizon=horizon)
            for name, person in everybody.items():
                may = allowed(facts, name, person, clock.now())
                assert not leaks(seen[name], may, facts), (name, horizon)
                public = [text for text, (v, _) in facts.items() if v is None]
                assert all(any(text in payload for payload in seen[name]) for text in public), "all is looked at"
        dead = board.dead_letters()
        assert all(leaks({str(a.payload) for a in d.inputs}, allowed(facts, d.agent, everybody[d.agent], clock.now()),
                         facts) == set() for d in dead)  # fmt: skip
        if dead:
            await board.retry(*(d.id for d in dead))
        await board.close()
        again = Blackboard(store, context=provider, clock=clock)  # what was missed is offered after a restart, too
        define(again, everybody, seen)
        await again.publish(Go())
        await again.run_until_idle(horizon=60.0)
        for name, person in everybody.items():
            assert not leaks(seen[name], allowed(facts, name, person, clock.now()), facts), name
        await again.close()

    in_a_loop(main)


@settings(max_examples=40)
@given(people, st.lists(visibilities, min_size=1, max_size=6))
def test_no_prompt_says_what_its_agent_may_not_see(everybody: People, shown: list[Visibility | None]) -> None:
    async def main() -> None:
        seen: dict[str, set[str]] = defaultdict(set)
        provider, clock = Greedy(seen), VirtualClock()
        board = Blackboard(context=provider, clock=clock)
        scripts = {name: Scripted(lambda request: [C()]) for name in everybody}
        for name, (labels, of) in everybody.items():
            whole = board.agent(name).labels(*labels).model(scripts[name])
            if of is not None:
                whole = whole.tenant(of)
            whole.consumes(Secret).consumes(Go).publishes(C)
        facts = await published(board, shown)
        provider.slipped = [*board.artifacts(Secret, held=True), *board.artifacts(Other, held=True)]
        go = await board.publish(Go())
        await board.run_until_idle(horizon=0.0)
        for name, person in everybody.items():
            said = {message.text for request in scripts[name].asked for message in request.messages}
            assert said, "everybody is asked about Go"
            said.add(str(board.prompt(name, go.id)))
            assert not leaks(said, allowed(facts, name, person, clock.now()), facts), name
        await board.close()

    in_a_loop(main)


@pytest.mark.anyio
async def test_what_agents_may_not_see_is_found_by_this_test(new_board: Boards) -> None:
    """The measure itself: an agent that reads the board behind its context's back is caught."""
    seen: dict[str, set[str]] = defaultdict(set)
    board = new_board(clock=VirtualClock())

    async def spy(go: Go) -> None:
        seen["anna"].update(str(a.payload) for a in board.artifacts(Secret))

    board.agent("anna").consumes(Go).body(spy)
    facts = await published(board, [Visibility(agents=["bert"])])
    await board.publish(Go())
    await board.run_until_idle()
    assert leaks(seen["anna"], allowed(facts, "anna", (frozenset(), None), 0.0), facts) == {"canary-0-works"}
