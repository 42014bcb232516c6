"""Which class of this program an artifact type name means."""

import sys
from collections.abc import Iterator
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError

from stigmergy.blackboard.errors import InvalidPayload, TypeClash, UnknownType
from stigmergy.blackboard.opaque import Opaque
from stigmergy.blackboard.payloads.roundtrip import clash
from stigmergy.blackboard.payloads.types import ArtifactType, no_json, type_of


class TypeTable:
    """The artifact types of one board, by name."""

    def __init__(self) -> None:
        self._types: dict[str, ArtifactType] = {}
        self._users: dict[str, str] = {}

    def add(self, model: type[BaseModel], user: str = "") -> ArtifactType:
        """Take a class in; one with the same name is replaced if it has the same fields or a lower version, or if it
        was defined again since, as in a notebook, and no definition uses the old one.

        Args:
            user: which definition uses the class, for errors: `agent "grade"`.

        Raises:
            BadType: see `type_of`.
            TypeClash: another class has the name, with other fields and no lower version.
        """
        new = type_of(model)
        old = self._types.get(new.name)
        if old is not None and _clash(old, new) and (new.name in self._users or not _again(old.model, model)):
            raise self._refusal(old, new, user)
        self._types[new.name] = new
        if user:
            self._users.setdefault(new.name, user)
        return new

    def update(self, definitions: "TypeTable") -> None:
        """Take in the types of what is defined now; see `add`."""
        for new in definitions._types.values():
            old = self._types.get(new.name)
            if old is not None and _clash(old, new) and not _again(old.model, new.model):
                raise self._refusal(old, new, definitions._users.get(new.name, ""))
            self._types[new.name] = new
        self._users = dict(definitions._users)

    def _refusal(self, old: ArtifactType, new: ArtifactType, newer: str) -> TypeClash:
        older = self._users.get(new.name)
        if _again(new.model, old.model):
            what = f"run the definition of {newer} again" if newer else "make the payload anew"
            way_out = f"The second is from before that class was defined again: {what}"
        elif older and _again(old.model, new.model):
            way_out = f"The first is from before that class was defined again: run the definition of {older} again"
        else:
            way_out = f"The first is used by {older}. " if older else ""
            way_out += "Give one of them another name with @artifact_type(name=)"
        return TypeClash(
            f"two classes are called {new.name} and their fields differ ({clash(old.model, new.model)}). "
            f"{way_out}, or raise @artifact_type(version=)."
        )

    def get(self, name: str) -> ArtifactType | None:
        """The type of that name, if there is one."""
        return self._types.get(name)

    def __iter__(self) -> Iterator[type[BaseModel]]:
        return (kind.model for kind in self._types.values())

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._types)

    def decode(self, name: str, version: int, data: bytes) -> BaseModel:
        """The payload in these bytes; `Opaque` if no class of this program has that name.

        Raises:
            InvalidPayload, StoreDamaged: see `ArtifactType.decode_version`.
        """
        found = self._types.get(name)
        if found is None:
            try:
                return Opaque.model_validate_json(data)
            except ValidationError as error:
                raise no_json(name) from error
        return found.decode(data) if version == found.version else found.decode_version(version, data)

    def parse(self, name: str, version: int, payload: object, *, where: str) -> BaseModel:
        """The payload that a line of a seed file holds as JSON; `where` names the line in errors.

        Raises:
            UnknownType: no class of this program has that name.
            InvalidPayload: names the field and what is wrong with it.
        """
        found = self._types.get(name)
        if found is None:
            close = get_close_matches(name, self._types, 1)
            known = f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(self.names()) or 'none'}."
            raise UnknownType(f"{where}: there is no artifact type {name!r}. {known}")
        try:
            return found.parse(version, payload)
        except InvalidPayload as error:
            raise InvalidPayload(f"{where}: {error}") from error


def _clash(old: ArtifactType, new: ArtifactType) -> bool:
    return old.schema != new.schema and old.version >= new.version


def _again(old: type[BaseModel], new: type[BaseModel]) -> bool:
    """Whether the new class stands in the place of the old: its name in its module now means the new one."""
    found: object = sys.modules.get(new.__module__)
    for part in new.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is new and (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)
