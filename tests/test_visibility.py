"""Who sees what, and that every doubt ends in not seeing."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmergy.blackboard.core.visibility import after, all_of, labelled, private, tenant, visible
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Visibility


class Somebody:
    """Anything with a name will do as an agent."""

    name = "ada"


def sees(
    visibility: Visibility | None,
    *,
    agent: str = "ada",
    labels: frozenset[str] = frozenset(),
    of: str | None = None,
    now: float = 100.0,
) -> bool:
    return visible(visibility, AgentSpec(name=agent, labels=labels, tenant=of), now=now, published=100.0)


def test_without_visibility_everybody_sees() -> None:
    assert sees(None)
    assert sees(Visibility())


def test_private_is_for_the_named_agents_only_whether_given_as_agent_or_name() -> None:
    both = private(Somebody(), "bob")
    assert sees(both, agent="ada")
    assert sees(both, agent="bob")
    assert not sees(both, agent="eve")


def test_labelled_asks_for_all_labels() -> None:
    needed = labelled("ops", "eu")
    assert sees(needed, labels=frozenset({"ops", "eu", "night"}))
    assert not sees(needed, labels=frozenset({"ops"}))
    assert not sees(needed)


def test_a_tenants_artifact_is_hidden_from_other_tenants_and_from_readers_without_one() -> None:
    assert sees(tenant("acme"), of="acme")
    assert not sees(tenant("acme"), of="other")
    assert not sees(tenant("acme"), of=None)


def test_after_hides_until_the_time_has_come_and_not_longer() -> None:
    later = after(timedelta(minutes=1))
    assert not sees(later, now=159.9)
    assert sees(later, now=160.0)


def test_after_then_narrows_who_sees_it_from_then_on() -> None:
    later = after(10, private("ada"))
    assert not sees(later, agent="ada", now=105)
    assert sees(later, agent="ada", now=110)
    assert not sees(later, agent="bob", now=110)


def test_a_clock_that_gives_no_number_hides() -> None:
    assert not sees(after(10), now=float("nan"))


def test_restrictions_add_up() -> None:
    strict = all_of(private("ada", "bob"), private("bob", "eve"), labelled("ops"), labelled("eu"), tenant("acme"))
    assert strict == Visibility(agents=["bob"], labels=["eu", "ops"], tenant="acme")
    assert all_of(after(5), after(9)).after == 9


@pytest.mark.parametrize("pair", [(private("ada"), private("bob")), (tenant("a"), tenant("b"))])
def test_what_nobody_could_ever_see_is_refused(pair: tuple[Visibility, Visibility]) -> None:
    with pytest.raises(DefinitionError, match="Nobody could ever see"):
        all_of(*pair)


def test_an_empty_restriction_is_refused_because_it_would_read_as_everybody() -> None:
    for make in (private, labelled):
        with pytest.raises(DefinitionError, match="at least one"):
            make()
    with pytest.raises(DefinitionError, match="tenant"):
        tenant("")


@pytest.mark.parametrize(
    "make",
    [
        lambda: private(["ada"]),  # type: ignore[arg-type]
        lambda: private(None),  # type: ignore[arg-type]
        lambda: private("ada", ""),
        lambda: labelled(5),  # type: ignore[arg-type]
        lambda: tenant(None),  # type: ignore[arg-type]
        lambda: after("1"),  # type: ignore[arg-type]
        lambda: after(1, "ada"),  # type: ignore[arg-type]
    ],
)
def test_who_is_no_name_is_refused(make: Callable[[], Visibility]) -> None:
    with pytest.raises(DefinitionError, match=r"^[^\n]+$"):
        make()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_delay_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(DefinitionError, match=r"after\(\)"):
        after(seconds)


names = st.sampled_from("abc")
visibilities = st.builds(
    Visibility,
    agents=st.none() | st.lists(names, max_size=2),
    labels=st.none() | st.lists(names, max_size=2),
    tenant=st.none() | names,
    after=st.none() | st.floats(0, 10),
)


@given(visibilities, visibilities, names, st.frozensets(names), st.none() | names, st.floats(100, 120))
def test_a_combination_is_never_seen_by_whom_one_part_is_hidden_from(
    one: Visibility, other: Visibility, agent: str, labels: frozenset[str], of: str | None, now: float
) -> None:
    parts = all(sees(v, agent=agent, labels=labels, of=of, now=now) for v in (one, other))
    try:
        both = all_of(one, other)
    except DefinitionError:
        assert not parts
        return
    assert sees(both, agent=agent, labels=labels, of=of, now=now) == parts
