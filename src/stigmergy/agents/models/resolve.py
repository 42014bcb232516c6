"""What `model=` may be."""

from collections.abc import Sequence
from typing import cast

from stigmergy.agents.models.errors import BadModel
from stigmergy.agents.models.litellm import LiteLLM
from stigmergy.agents.models.model import Model


def as_models(value: object) -> tuple[Model, ...]:
    """The models of a list, each as `as_model` gives it, or the only one.

    Raises:
        BadModel: one is none, or the list is empty.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (as_model(value),)
    if not value:
        raise BadModel('model=[] is no model. Give a name as in "openai/gpt-4.1", an instance, or a list of them.')
    return tuple(map(as_model, value))


def as_model(value: object) -> Model:
    """The model itself, or the one that litellm knows by this name, as in "openai/gpt-4.1".

    Raises:
        BadModel: it is neither.
    """
    if isinstance(value, str):
        if not value or value != value.strip() or any(c.isspace() for c in value):
            raise BadModel(f'model={value!r} is no name of a model. Write it as in "openai/gpt-4.1".')
        return LiteLLM(value)
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in ("estimate", "complete")):
        raise BadModel(f'model={value!r} is no model. Give a name as in "openai/gpt-4.1", or an instance.')
    return cast("Model", value)
