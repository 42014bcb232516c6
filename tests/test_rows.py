"""What is written by hand is what the serialiser writes, so that the format is one."""

from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

from stigmergy.blackboard.events import (
    KINDS,
    Activated,
    Claimed,
    Completed,
    Event,
    Matched,
    Priority,
    Published,
    Visibility,
)
from stigmergy.blackboard.stores.rows import decode, encode

texts = st.one_of(st.sampled_from(["", "main", 'a "b" \\ \x00\x1f\x7f\n', "é☃𝄞"]), st.text())
counts = st.one_of(st.sampled_from([0, 1]), st.integers(0, 2**62))
seconds = st.one_of(st.just(0.0), st.floats(0, allow_infinity=False), st.floats(1e-9, 1.0))
numbers = st.lists(counts, max_size=3)
priorities = st.sampled_from(get_args(Priority))
HOT = {
    Published: {
        "type": texts,
        "version": st.integers(1, 2),
        "schema": texts,
        "run": texts,
        "producer": texts,
        "key": st.none() | texts,
        "tags": st.lists(texts, max_size=2),
        "priority": priorities,
        "root": counts,
        "depth": counts,
        "ancestors": st.dictionaries(texts, counts, max_size=1),
        "work": st.none() | texts,
        "blocking": st.lists(texts),
        "phase": st.none() | texts,
        "held_by": texts,
        "held_until": st.none() | seconds,
        "unserved": st.booleans(),
        "system": st.booleans(),
        "self_skipped": st.lists(texts, max_size=1),
        "digest": texts,
        "parent_work": st.none() | texts,
        "replaces": counts,
        "visibility": st.none() | st.builds(Visibility, tenant=st.none() | texts),
    },
    Matched: {"subscription": texts, "slot": counts, "key": texts, "scope": texts},
    Activated: {
        "agent": texts,
        "subscription": texts,
        "inputs": numbers,
        "slots": numbers,
        "key": texts,
        "scope": texts,
        "run": texts,
        "priority": priorities,
        "depth": counts,
        "blockers": st.lists(texts, max_size=1),
        "redriven": counts,
        "blocker_runs": st.lists(texts, max_size=1),
    },
    Claimed: {"epoch": counts, "worker": texts, "attempt": counts, "alone": st.booleans()},
    Completed: {"outputs": counts, "seconds": seconds},
}


@st.composite
def events(draw: Any) -> Event:
    """An event of a delivery; each field has its default more often than not, as on a real board."""
    kind = draw(st.sampled_from(list(HOT)))
    names = draw(st.sets(st.sampled_from(list(HOT[kind]))))
    event: Event = kind(seq=7, at=1.5, cause=3, tx=5, **{name: draw(HOT[kind][name]) for name in sorted(names)})
    return event


@st.composite
def usual(draw: Any) -> Event:
    """Every field that is usually set is set."""
    kind = draw(st.sampled_from(list(HOT)))
    given = {
        Published: ("type", "schema", "run", "producer", "root", "depth", "priority", "unserved", "system"),
        Activated: ("agent", "subscription", "inputs", "slots", "key", "scope", "run", "priority", "depth"),
    }.get(kind, tuple(HOT[kind]))
    event: Event = kind(seq=7, at=1.5, cause=3, tx=5, **{name: draw(HOT[kind][name]) for name in given})
    return event


@pytest.mark.parametrize("kind", HOT, ids=lambda kind: kind.__name__)
def test_every_field_of_an_event_written_by_hand_is_tried(kind: type[Event]) -> None:
    columns = {"seq", "at", "cause", "tx", "payload"}
    assert {f.name for f in fields(kind)} - columns == set(HOT[kind])


@given(st.one_of(events(), usual()))
def test_a_body_is_byte_for_byte_what_the_serialiser_writes(event: Event) -> None:
    row = encode(event)
    assert row.body == TypeAdapter(KINDS[row.kind]).dump_json(event, exclude_defaults=True).decode()
    assert decode(row) == event


@pytest.mark.parametrize("event", [
    Published(type="T", schema="s", run="half \ud800", producer="p"),
    Activated(agent="a", subscription="a/0", inputs=[1], run="r", key="half \ud800"),
    Matched(subscription="s", key="half \ud800", scope="r"),
])  # fmt: skip
def test_half_a_surrogate_pair_is_refused(event: Event) -> None:
    with pytest.raises(PydanticSerializationError):
        encode(event)
