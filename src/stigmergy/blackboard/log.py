"""What the library says of itself: through the standard logger "stigmergy", silent unless the application listens.

The log of the board is the record; this is only for people who watch a process. Nothing here configures logging or
structlog for anybody else.
"""

import logging
from functools import cache
from typing import Any

from stigmergy.blackboard.events import Ended, Event, Faulted, Opened
from stigmergy.blackboard.redaction import redacted

LOGGER = logging.getLogger("stigmergy")
LOGGER.addHandler(logging.NullHandler())
LOUD: frozenset[type[Event]] = frozenset((Opened, Ended, Faulted))
"""Events that are worth a line."""


def say(level: int, message: str, **facts: object) -> None:
    """Log a line with its facts, without secrets, if anybody listens: in its text, and as fields of the record."""
    if LOGGER.isEnabledFor(level) and _heard():
        shown = {name: redacted(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        text = " ".join(f"{name}={_told(fact)}" for name, fact in shown.items())
        _structured().log(level, f"{message}: {text}", **shown)


def _told(fact: object) -> str:
    return fact if isinstance(fact, str) and fact.isprintable() and " " not in fact and fact else repr(fact)


def say_event(event: Event, board: str) -> None:
    """Log what people would want to know at once: crashes, dead letters, components out of service."""
    match event:
        case Opened(clean=False):
            say(logging.WARNING, "the board was not closed in good order", board=board, epoch=event.epoch)
        case Opened():
            say(logging.INFO, "opened", board=board, epoch=event.epoch)
        case Ended(outcome="dead_letter"):
            error = f"{event.error.type}: {event.error.message}" if event.error else event.reason
            say(logging.WARNING, "dead letter", board=board, activation=event.cause, error=error)
        case Faulted():
            error = event.error.message if event.error else ""
            say(logging.ERROR, "a component is out of service", board=board, component=event.component, error=error)


def _heard() -> bool:
    """Whether any handler but the silent one would get it."""
    logger: logging.Logger | None = LOGGER
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


@cache
def _structured() -> Any:
    # Importing structlog costs as much as everything else here together; most programs never need it.
    import structlog

    return structlog.wrap_logger(
        LOGGER,
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
