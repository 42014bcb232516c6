"""What a payload is when nobody here knows its class, or when it is gone."""

from typing import Any

from pydantic import ConfigDict, JsonValue, RootModel

from stigmergy.blackboard.errors import PayloadErased


def erased(ref: str) -> PayloadErased:
    """What is said of an artifact, `Type@12`, whose payload is asked for and gone."""
    return PayloadErased(
        f"the payload of {ref} was erased. What came of it is told by why, events and the report; what it said, only "
        "by a copy of the board from before."
    )


class Opaque(RootModel[JsonValue]):
    """The payload of a type that this program has no class for: its JSON, unread."""

    model_config = ConfigDict(frozen=True)


class Gone(RootModel[None]):
    """The payload of an artifact whose payload was erased: null, and no field that could be asked for."""

    model_config = ConfigDict(frozen=True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            return super().__getattr__(name)  # type: ignore[misc]
        raise PayloadErased(f"{name!r} is asked of a payload that was erased. What is left of it is told by why().")
