"""Who may see an artifact: private, labelled, tenant, later; and the one test that everything asks."""

from collections.abc import Iterable
from typing import Protocol

from stigmergy.blackboard.definitions import AgentSpec, is_number
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Published, Visibility

NOBODY = Visibility(agents=[""])
"""For nobody: no agent is called that."""


class Named(Protocol):
    """Anything with a name, as agents have."""

    @property
    def name(self) -> str: ...


def name_of(agent: str | Named) -> str:
    """The name of an agent that is given as such or by name.

    Raises:
        DefinitionError: something else is given.
    """
    name: object = agent if isinstance(agent, str) else getattr(agent, "name", None)
    if not isinstance(name, str) or not name:
        raise DefinitionError(f"{agent!r} is no agent. Give an agent, or its name.")
    return name


def private(*agents: str | Named) -> Visibility:
    """Only these agents take it and see it.

    Args:
        agents: agents, or their names; at least one.
    """
    return Visibility(agents=_given([*map(name_of, agents)], "private", "agent"))


def labelled(*labels: str) -> Visibility:
    """Only agents that carry all of these labels; at least one label."""
    return Visibility(labels=_given(list(labels), "labelled", "label"))


def tenant(name: str) -> Visibility:
    """Only agents of this tenant."""
    return Visibility(tenant=_given([name], "tenant", "tenant name")[0])


def after(seconds: Seconds, then: Visibility | None = None) -> Visibility:
    """Nobody before that time has passed since it was published; it is offered then.

    Args:
        seconds: seconds or a `timedelta`.
        then: who may see it from then on; everybody if left out.
    """
    later = Visibility(after=in_seconds(seconds, "after()"))
    return later if then is None else all_of(later, checked_visibility(then, "after(): then="))


def all_of(*visibilities: Visibility) -> Visibility:
    """Only who may see it by every one of these, and not before the latest time.

    Raises:
        DefinitionError: they name different tenants, or have no agent in common, so nobody ever could.
    """
    found = inherited(visibilities, max((v.after for v in visibilities if v.after is not None), default=None))
    if found == NOBODY:
        raise DefinitionError("Nobody could ever see this: the agents or tenants exclude each other. Leave one out.")
    return found or Visibility()


def inherited(visibilities: Iterable[Visibility | None], after: float | None = None) -> Visibility | None:
    """Who may see what tells of all of these: who may see each of them, which may be nobody.

    Delays are not inherited: what was taken is past them.

    Args:
        after: a delay of its own.
    """
    given = [v for v in visibilities if v is not None]
    agents = [set(v.agents) for v in given if v.agents is not None]
    tenants = {v.tenant for v in given if v.tenant is not None}
    labels = {label for v in given for label in v.labels or ()}
    shared = set.intersection(*agents) if agents else None
    if len(tenants) > 1 or (shared is not None and not shared):
        return NOBODY
    found = Visibility(
        None if shared is None else sorted(shared), sorted(labels) or None, next(iter(tenants), None), after
    )
    return None if found == Visibility() else found


def of_inputs(inputs: Iterable[Published], agent: str) -> list[Visibility | None]:
    """The visibilities of what an agent was given; what it has for review it is alone with."""
    return [v for p in inputs for v in (p.visibility, Visibility([agent]) if p.held_by == agent else None)]


def checked_visibility(given: object, who: str, at: str = "") -> Visibility:
    """What was given as a visibility, if it is one: a text in the place of a list would let in whoever is part of it.

    Args:
        who, at: who says it and where, for errors: `agent "ship": visibility=`.

    Raises:
        DefinitionError: it is none.
    """
    if isinstance(given, Visibility):
        lists = [names for names in (given.agents, given.labels) if names is not None]
        texts = [name for names in lists if isinstance(names, list) for name in names]
        named = all(isinstance(names, list) for names in lists) and all(isinstance(name, str) for name in texts)
        timed = given.after is None or is_number(given.after)
        if named and timed and isinstance(given.tenant, str | None):
            return given
    raise DefinitionError(f"{who}{given!r} is none of private(…), labelled(…), tenant(…), after(…).{at}")


def visible(visibility: Visibility | None, agent: AgentSpec, *, now: float, published: float) -> bool:
    """Whether this agent may see it now.

    Args:
        visibility: of the artifact; None is everybody's.
        now, published: log times in seconds.
    """
    if visibility is None:
        return True
    if visibility.agents is not None and agent.name not in visibility.agents:
        return False
    if visibility.labels is not None and not agent.labels.issuperset(visibility.labels):
        return False
    if visibility.tenant is not None and agent.tenant != visibility.tenant:
        return False
    return visibility.after is None or now >= published + visibility.after


def _given(names: list[str], kind: str, what: str) -> list[str]:
    """The names, sorted: an empty restriction would silently be everybody or nobody."""
    if not names or not all(isinstance(name, str) and name for name in names):
        raise DefinitionError(f"{kind}() needs at least one {what}; leave visibility= out for everybody.")
    return sorted(set(names))
