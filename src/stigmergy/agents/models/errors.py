"""What may go wrong between an agent and its model: few kinds, each known to be worth another try or not."""

from typing import ClassVar

from stigmergy.blackboard.errors import DefinitionError, StigmergyError


class BadModel(DefinitionError):
    """Something was given as a model that is neither the name of one nor answers requests."""


class ModelError(StigmergyError):
    """A model did not answer.

    Attributes:
        retryable: whether the same request may do better later.
        retry_after: seconds that the provider asked us to wait, if it did.
        charged: whether the provider may charge for it: the request had arrived, and nobody knows how far it came.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after: float | None = None, charged: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.charged = charged


class ModelUnreachable(ModelError):
    """Nobody answered at that address, or the connection broke."""

    retryable = True


class ModelTimeout(ModelError):
    """The answer took too long."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, charged: bool = True) -> None:
        super().__init__(message, retry_after=retry_after, charged=charged)


class RateLimited(ModelError):
    """The provider asks for patience."""

    retryable = True


class ProviderFailed(ModelError):
    """The provider has a fault of its own (a 5xx, an answer that is none)."""

    retryable = True


class BadKey(ModelError):
    """The key is missing, wrong, or not allowed to use this model."""


class BadRequest(ModelError):
    """The provider refuses the request as it is."""


class ContextTooLong(BadRequest):
    """The request is longer than the model can read."""


class ModelMissing(ModelError):
    """There is no such model, or what is needed to reach it is not installed."""


class UnknownPrice(ModelError):
    """Nobody knows what the request would cost, and nothing says that this is all right."""


class BadReply(ModelError):
    """What the model wrote cannot be used, and asking again within the limits did not help."""

    retryable = True  # another conversation may come to a better end


class ScriptEnded(ModelError):
    """A scripted model was asked more often than it has replies."""


class NotRecorded(ModelError):
    """A cassette has no reply to this request.

    Attributes:
        difference: from the recorded request that is nearest to it, line by line; "" if nothing is recorded.
    """

    difference: str = ""


class BadCassette(ModelError):
    """A line of a cassette is not what was recorded there."""
