"""What components answer goes on the log, which is read again strictly: each field is of its type, or it is refused."""

from dataclasses import fields
from typing import Any, TypeVar, cast, get_args

from pydantic import TypeAdapter, ValidationError

from stigmergy.blackboard import component as cp
from stigmergy.blackboard.redaction import storable

Answer = TypeVar("Answer", bound=cp.Reaction | cp.Admission | cp.Verdict)

_ANSWERS: tuple[type[Any], ...] = (*get_args(cp.Reaction), *get_args(cp.Admission), *get_args(cp.Verdict))
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in _ANSWERS}


def checked(method: str, answer: Answer, wanted: object) -> Answer:
    """An answer that can be recorded.

    Args:
        method: what gave it.
        answer: what it gave, which may be anything.
        wanted: the union of what it may give.

    Raises:
        TypeError: it is none of these.
        ValueError: a field has a value that it cannot have.
    """
    kind = type(answer)
    if kind not in get_args(wanted):
        names = " or ".join(k.__name__ for k in get_args(wanted))
        raise TypeError(f"{method}() gave {answer!r}, which is no {names}")
    if answer is cp.ADMIT or answer is cp.ACCEPT:
        return answer
    values = {f.name: getattr(answer, f.name) for f in fields(answer)}
    values |= {
        name: storable(text)
        for name, text in values.items()
        if name in ("reason", "detail", "feedback") and type(text) is str
    }
    try:
        return cast("Answer", _ADAPTERS[kind].validate_python(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{method}() gave {kind.__name__}({where}={first['input']!r}): {first['msg']}") from error
