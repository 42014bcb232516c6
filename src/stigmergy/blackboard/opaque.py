"""What a payload is when nobody here knows its class."""

from pydantic import ConfigDict, JsonValue, RootModel


class Opaque(RootModel[JsonValue]):
    """The payload of a type that this program has no class for: its JSON, unread."""

    model_config = ConfigDict(frozen=True)
