"""What an exception of litellm means in our few kinds.

litellm's own classes mislead: a refused connection, a missing key and an answer that is no JSON all come as its
`InternalServerError` with a status of 500 that nobody sent. So the causes are looked at first, and then the status.
"""

import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from stigmergy.agents.models.errors import (
    BadKey,
    BadRequest,
    ContextTooLong,
    ModelError,
    ModelMissing,
    ModelTimeout,
    ModelUnreachable,
    ProviderFailed,
    RateLimited,
)
from stigmergy.blackboard.redaction import redacted

_TIMEOUTS = {"TimeoutError", "TimeoutException", "APITimeoutError", "Timeout"}
_CONNECTIONS = {"ConnectionError", "ConnectError", "NetworkError", "RemoteProtocolError", "ClientConnectionError"}
_NEVER_ARRIVED = {"ConnectionRefusedError", "gaierror", "ClientConnectorError"}
_KEYS = {"NoCredentialsError", "AuthenticationError", "PermissionDeniedError"}
_OUT_OF_MONEY = ("insufficient_quota", "exceeded your current quota", "credit balance is too low")


def translated(error: Exception, model: str, *, now: float) -> ModelError:
    """The error of ours that says what went wrong.

    Args:
        now: seconds since the epoch, for a `Retry-After` that is a date.
    """
    causes = list(_causes(error))
    names = {base.__name__ for cause in causes for base in type(cause).__mro__}
    text = _short(error)
    if "ContextWindowExceededError" in names:
        return ContextTooLong(f"{model}: the request is longer than the model can read ({text})")
    if names & _TIMEOUTS:
        return ModelTimeout(f"{model}: no answer in time ({text})")
    if names & _CONNECTIONS:
        root = " ".join(redacted(str(causes[-1])).split())[:200]
        arrived = not names & _NEVER_ARRIVED
        what = "the connection broke" if arrived else "nobody answers there"
        return ModelUnreachable(f"{model}: {what} ({root})", charged=arrived)
    if "ImportError" in names:
        return ModelMissing(f"{model}: something to reach it is not installed ({text})")
    status = next((s for s in (getattr(cause, "status_code", None) for cause in causes) if isinstance(s, int)), 0)
    wait = _retry_after(causes, now)
    if status in (401, 403) or names & _KEYS:
        return BadKey(f"{model}: the key is missing, wrong, or may not use this model ({text})")
    if status == 402 or any(words in str(cause) for cause in causes for words in _OUT_OF_MONEY):
        return BadKey(f"{model}: the account behind the key has nothing left ({text})")
    if status == 429:
        return RateLimited(f"{model}: the provider asks for patience ({text})", retry_after=wait)
    if status == 404:
        return ModelMissing(f"{model}: the provider does not know it ({text})")
    if status == 413:
        return ContextTooLong(f"{model}: the request is too large for the provider ({text})")
    if status == 408:
        return ModelTimeout(f"{model}: the provider gave up waiting ({text})", retry_after=wait)
    if 400 <= status < 500:
        return BadRequest(f"{model}: the provider refuses the request ({text})")
    unreadable = not answered(error)  # an answer came, and it is none
    return ProviderFailed(f"{model}: the provider failed ({text})", retry_after=wait, charged=unreadable)


def answered(error: Exception) -> bool:
    """Whether the failure is an answer of the provider's, not something that went wrong before or on the way."""
    return any(cause.__class__.__name__ == "HTTPStatusError" for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _short(error: Exception) -> str:
    line = " ".join(redacted(str(error)).split())
    bare = re.sub(r"^((litellm\.)?[\w ]*(Error|Exception|Timeout)( -|:) )+", "", line)
    return bare[:300] or type(error).__name__


def _retry_after(causes: list[BaseException], now: float) -> float | None:
    for cause in causes:
        for headers in (
            getattr(cause, "litellm_response_headers", None),
            getattr(getattr(cause, "response", None), "headers", None),
        ):
            if isinstance(headers, Mapping) and headers.get("retry-after"):
                return _seconds(headers, now)
    return None


def _seconds(headers: Mapping[str, Any], now: float) -> float | None:
    said = str(headers["retry-after"])
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - now)
    except ValueError:
        return None
