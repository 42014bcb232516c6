"""What is typed as name=value."""

import json
from collections.abc import Iterable

from pydantic import JsonValue

from stigmergy.blackboard.errors import DefinitionError


def pair(word: str, option: str, name: str = "name") -> tuple[str, str]:
    """The two sides of `name=value`.

    Args:
        option: where it was typed, and `name` what its left side is: errors say so.

    Raises:
        DefinitionError: there is no `=`, or nothing before it.
    """
    left, equals, right = word.partition("=")
    if not equals or not left.strip():
        raise DefinitionError(f"{option} {word}: write it as {name}=value.")
    return left.strip(), right


def fields(words: Iterable[str], option: str) -> dict[str, JsonValue]:
    """Fields of a payload, as they are typed.

    Raises:
        DefinitionError: one is not written as `field=value`.
    """
    return {name: value(text) for name, text in (pair(word, option, "field") for word in words)}


def value(text: str) -> JsonValue:
    """JSON, or else the text itself."""
    try:
        found: JsonValue = json.loads(text)
    except ValueError:
        return text
    return found
