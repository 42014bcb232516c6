"""Language models: what `model=` takes, what they are asked and answer, and what may go wrong.

Nothing here imports litellm or OpenTelemetry before it is used.
"""

from typing import TYPE_CHECKING, Any

from stigmergy.agents.models.cached import Cached
from stigmergy.agents.models.errors import (
    BadCassette,
    BadKey,
    BadModel,
    BadReply,
    BadRequest,
    ContextTooLong,
    ModelError,
    ModelMissing,
    ModelTimeout,
    ModelUnreachable,
    NotRecorded,
    ProviderFailed,
    RateLimited,
    ScriptEnded,
    UnknownPrice,
)
from stigmergy.agents.models.fallback import FallbackModel
from stigmergy.agents.models.litellm import LiteLLM
from stigmergy.agents.models.model import (
    Estimate,
    Message,
    Model,
    OnToken,
    OutputSchema,
    Reply,
    Request,
    ToolCall,
    ToolSpec,
    Usage,
)
from stigmergy.agents.models.paced import Paced
from stigmergy.agents.models.price import Price
from stigmergy.agents.models.recorded import Recorded
from stigmergy.agents.models.scripted import Scripted
from stigmergy.agents.prompting.tokens import Token

if TYPE_CHECKING:
    from stigmergy.agents.models.tracing import Traced

__all__ = [
    "BadCassette", "BadKey", "BadModel", "BadReply", "BadRequest", "Cached", "ContextTooLong", "Estimate",
    "FallbackModel", "LiteLLM", "Message", "Model", "ModelError", "ModelMissing", "ModelTimeout", "ModelUnreachable",
    "NotRecorded", "OnToken", "OutputSchema", "Paced", "Price", "ProviderFailed", "RateLimited", "Recorded", "Reply",
    "Request", "ScriptEnded", "Scripted", "Token", "ToolCall", "ToolSpec", "Traced", "UnknownPrice", "Usage",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "Traced":  # needs an extra; who does not trace need not have it
        from stigmergy.agents.models.tracing import Traced

        return Traced
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
