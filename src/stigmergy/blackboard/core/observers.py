"""Components on the log: who observes what, their states, and what happens when one raises."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, get_args
from weakref import WeakKeyDictionary

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.component import ActivationRequest, Component, Seen
from stigmergy.blackboard.core.fingerprints import made_as, version_of
from stigmergy.blackboard.errors import BadComponent, PayloadErased
from stigmergy.blackboard.events import Erased, ErrorInfo, Event, Faulted, Published
from stigmergy.blackboard.payloads.types import type_of

AnyComponent = Component[Any]
_UNREADABLE: Any = object()
"""In place of a state."""


def overrides(component: AnyComponent, method: str) -> bool:
    """Whether a component has its own version of a method."""
    return getattr(type(component), method) is not getattr(Component, method)


def state_type(component: type[AnyComponent]) -> Any:
    """The declared type of a component's state: the argument of `Component[...]`; None if there is none."""
    for cls in component.__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_args(base) and issubclass(getattr(base, "__origin__", object), Component):
                return get_args(base)[0]
    return type(None)


_AS_JSON: WeakKeyDictionary[type[Any], TypeAdapter[Any]] = WeakKeyDictionary()


def _as_json(cls: type[AnyComponent]) -> TypeAdapter[Any]:
    """Reads and writes the states of components of a class; making it takes longer than using it."""
    adapter = _AS_JSON.get(cls)
    if adapter is None:
        adapter = _AS_JSON[cls] = TypeAdapter(state_type(cls))
    return adapter


class Observers:
    """The components of a board and their states; a fold of the log like the state itself."""

    def __init__(self, components: Sequence[AnyComponent]) -> None:
        self.components = {c.name: c for c in components}
        if len(self.components) != len(components):
            raise BadComponent("two components have one name. Give one of them a `name` of its own.")
        for c in components:
            if state_type(type(c)) is not type(None) and not overrides(c, "start"):
                raise BadComponent(f"component {c.name!r} has state but no start(). Return the first state there.")
        self.states: dict[str, Any] = {c.name: c.start() for c in components}
        self.versions = {c.name: version_of(c) for c in components}
        self._made = {c.name: made_as(c) for c in components}
        self.faulted: set[str] = set()
        self.unrecorded: dict[str, ErrorInfo] = {}
        """Who raised when a log was folded, with no `Faulted` on it: a component that is new, or has changed."""
        self.changed: set[str] = set()
        self.blind: dict[str, PayloadErased] = {}
        """Who asks for a payload that is gone, and so can follow the log no further; see `go_on`."""
        self._were_blind: set[str] = set()
        self.began: dict[str, PayloadErased] = {}
        """Who knows nothing of what was erased before they came, and what it was that they asked for first."""
        self._by_kind: dict[type[Event], list[AnyComponent]] = {}
        self._by_type: dict[str, list[AnyComponent]] = {}
        self._all: list[AnyComponent] = []
        for c in components:
            self._index(c)
        self.admitting = [c for c in components if overrides(c, "admit")]
        self.reviewing = [c for c in components if overrides(c, "review")]
        self.alarming = [c for c in components if overrides(c, "alarm")]
        self.reacting = {c.name for c in components if overrides(c, "react")}
        self.any = bool(components)

    def _index(self, c: AnyComponent) -> None:
        if c.observes is None:
            if overrides(c, "step") or overrides(c, "react"):
                self._all.append(c)
            return
        for what in c.observes:
            if issubclass(what, Event):
                self._by_kind.setdefault(what, []).append(c)
            elif issubclass(what, BaseModel):
                self._by_type.setdefault(type_of(what).name, []).append(c)
            else:
                raise BadComponent(f"component {c.name!r} observes {what!r}, which is no event and no artifact type.")

    def observing(self, event: Event) -> list[AnyComponent]:
        """The components that want this event, in list order within: all events, its kind, its artifact type."""
        found = self._all
        by_kind = self._by_kind.get(event.__class__)
        if by_kind:
            found = [*found, *by_kind]
        if self._by_type and isinstance(event, Published):
            by_type = self._by_type.get(event.type)
            if by_type:
                found = [*found, *(c for c in by_type if c not in found)]
        return found

    def watches(self, type_name: str) -> bool:
        """Whether a component asks for artifacts of this type."""
        return type_name in self._by_type

    def step(
        self, event: Event, artifact: Callable[[], Artifact[Any]] | None, activation: ActivationRequest | None
    ) -> tuple[Seen | None, Iterable[AnyComponent], list[tuple[str, ErrorInfo]]]:
        """Fold one event into every component that observes it.

        Returns:
            what they saw, those that may react to it, and those that raised (the caller records the fault).
        """
        observing = self.observing(event)
        if not observing:
            return None, (), []
        try:
            seen = Seen(event, artifact() if artifact is not None else None, activation)
        except PayloadErased as error:
            for c in observing:
                self.blind.setdefault(c.name, error)
            return None, (), []
        producer = event.producer if isinstance(event, Published) else ""
        faults: list[tuple[str, ErrorInfo]] = []
        may_react: list[AnyComponent] = []
        for c in observing:
            name = c.name
            if name in self.faulted or name in self.blind:
                continue
            before = self.states[name]
            try:
                after = c.step(before, seen)
            except Exception as error:  # noqa: BLE001  user code: the component is taken out of service, on record
                faults.append((name, ErrorInfo.of(error)))
                self.faulted.add(name)
                continue
            if after is not before:
                self.states[name] = after
                self.changed.add(name)
            if name in self.reacting and producer != name:
                may_react.append(c)
        return seen, may_react, faults

    def fault(self, name: str) -> None:
        """Take a component out of service, if it is here."""
        if name in self.components:
            self.faulted.add(name)

    def recall(self, fault: Faulted) -> None:
        """Heed a fault that is on the log, if it is of the version that is here (or it does not say of which)."""
        if fault.fingerprint in ("", self.versions.get(fault.component)):
            self.fault(fault.component)
            self.unrecorded.pop(fault.component, None)

    def books(self) -> dict[str, tuple[str, str]]:
        """The states as `dump` gives them, all of them: they are to stand for what is erased.

        Raises:
            BadComponent: one is no data.
        """
        dumped = self.dump()
        for name in self.components:
            if name not in dumped:
                raise BadComponent(
                    f"the state of component {name!r} cannot be written as JSON, so that it would be lost with what is "
                    "erased. Declare what it is: class Mine(Component[State]), with a State that pydantic knows."
                )
        return dumped

    def go_on(self, books: Erased) -> None:
        """Those that could not be shown a payload go on from the state that was put on record when it was erased.

        How they are made may have changed since: what is there is what they had. Who is not on record begins with
        nothing, until a later record has it.
        """
        self._were_blind.update(self.blind)
        for name in self._were_blind:  # also who goes on already: the later the record, the more it knows
            state = self._state(name, books.states.get(name, ("", ""))[1])
            if state is not _UNREADABLE:
                self.began.pop(name, None)
            elif name in self.blind:
                state, self.began[name] = self.components[name].start(), self.blind[name]
            else:
                continue
            self.states[name] = state
            self.blind.pop(name, None)

    def dump(self) -> dict[str, tuple[str, str]]:
        """The states as JSON texts, with what the component that wrote each was made as, if they are data."""
        dumped: dict[str, tuple[str, str]] = {}
        for name, c in self.components.items():
            with suppress(PydanticSerializationError):  # then the log is folded instead
                text = _as_json(type(c)).dump_json(self.states[name], warnings=False).decode()
                dumped[name] = (self._made[name], text)
        return dumped

    def load(self, states: dict[str, tuple[str, str]], faulted: Iterable[str]) -> bool:
        """Take states that `dump` wrote; False if one is missing or was made otherwise (then the log is folded)."""
        loaded: dict[str, Any] = {}
        for name in self.components:
            version, text = states.get(name, ("", ""))
            if version != self._made[name]:
                return False
            loaded[name] = self._state(name, text)
            if loaded[name] is _UNREADABLE:
                return False
        self.states = loaded
        self.faulted = set(faulted) & set(self.components)
        return True

    def _state(self, name: str, text: str) -> Any:
        try:
            return _as_json(type(self.components[name])).validate_json(text)
        except ValidationError:
            return _UNREADABLE
