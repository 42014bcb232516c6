"""Artifact types: a stable name for a model class, and the only way between its payloads and JSON bytes.

The JSON of an artifact is not quite what `model_dump_json` gives: bytes are base64, infinities and NaN are strings
and times are ISO 8601, whatever the model's own configuration says, because nothing else comes back as it was. So
every class gets a serialiser and a validator of its own here, and stored bytes must be read by them.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import SchemaSerializer, SchemaValidator, from_json, to_json, to_jsonable_python

from stigmergy.blackboard.errors import BadType, InvalidPayload, NotRoundTrippable, PayloadTooLarge, StoreDamaged
from stigmergy.blackboard.opaque import Opaque
from stigmergy.blackboard.payloads.roundtrip import LOSSLESS, difference, digest, lossless, lossless_json, parts

Upcast = Callable[[Any], Mapping[str, object]]
"""Turns the JSON object of version n into that of version n + 1."""
C = TypeVar("C", bound=type[BaseModel])

_OPTIONS = "__artifact_type__"
_CACHED = "__artifact_codec__"
_PATH = 120
"""Characters of a path into a payload that an error shows."""
_DEPTH = 40
"""How deep the place of an error is looked for; it takes time with the square of it."""


@dataclass(slots=True, eq=False)
class ArtifactType:
    """What the board knows of a model class.

    Attributes:
        schema: digest of the JSON schema, titles and descriptions left out.
        has_work, has_parent, has_blocking, has_priority, has_phase, has_tags: whether the model has the field
            `work_id`, `parent_work_id`, `blocking_work_ids`, `priority`, `phase`, `tags`.
        has_any: whether it has one of these.
        upcasts: version n -> function from the JSON object of version n to that of version n + 1.
    """

    name: str
    version: int
    model: type[BaseModel]
    schema: str
    has_work: bool
    has_parent: bool
    has_blocking: bool
    has_priority: bool
    has_phase: bool
    has_tags: bool
    has_any: bool
    upcasts: Mapping[int, Upcast]
    _dump: Callable[..., bytes]
    _load: Callable[..., BaseModel]

    def encode(self, payload: BaseModel, most: int | None = None) -> tuple[BaseModel, bytes]:
        """The payload as it will be read back, and its compact JSON.

        Args:
            most: bytes that it may have. What has more is not read back, which takes many times as long.

        Raises:
            NotRoundTrippable: what is read back is not what was given; names the field.
            PayloadTooLarge: it is larger than that.
        """
        try:
            data = self._dump(payload, by_alias=True, round_trip=True, warnings=False)
            check_size(self.name, data, most)
            copy = self._load(data)
            if (
                copy.__dict__ == payload.__dict__
                and copy.__pydantic_extra__ == payload.__pydantic_extra__
                and copy.__pydantic_private__ == payload.__pydantic_private__
            ):  # what `==` of a model asks too, in twice the time
                return copy, data
        except PayloadTooLarge:
            raise
        except Exception as error:
            raise self._refusal(payload, error) from error
        found = difference(payload, copy, "")
        if found is None:
            return copy, data
        path, change = found
        raise NotRoundTrippable(
            f"{self.name}{_brief(path)} does not come back from JSON as it was: {change}. "
            "Give the field a type that JSON can hold, or a serializer and a validator that undo each other."
        )

    def decode(self, data: bytes) -> BaseModel:
        """The payload in these bytes, which are of this version.

        Raises:
            InvalidPayload: they were written with other fields; names the first that does not fit.
            StoreDamaged: they are no JSON.
        """
        try:
            return self._load(data)
        except ValidationError as error:
            if error.errors()[0]["type"] == "json_invalid":
                raise no_json(self.name) from error
            raise InvalidPayload(
                f"{': '.join(self._reason(error))} It was stored when {self.name} had other fields, or edited where "
                f"its class was not known. Raise @artifact_type(version=) and give an upcast from version "
                f"{self.version}, or retry it with an edit that fits."
            ) from error

    def decode_version(self, version: int, data: bytes) -> BaseModel:
        """The payload in these bytes, which are of that version, brought up to this one step by step.

        Raises:
            InvalidPayload: the version is newer than this program's, an upcast is missing or raised, or the
                result is not valid.
        """
        if version == self.version:
            return self.decode(data)
        if version > self.version:
            raise InvalidPayload(
                f"{self.name} version {version} is newer than this program's version {self.version}. "
                "Run the program that wrote it, or a later one."
            )
        value = from_json(data)
        for step in range(version, self.version):
            upcast = self.upcasts.get(step)
            if upcast is None:
                raise InvalidPayload(
                    f"{self.name} version {version} cannot be read: there is no upcast from version {step}. "
                    f"Add @artifact_type(upcast={{{step}: ...}})."
                )
            try:
                value = from_json(lossless_json(upcast(value)))
            except Exception as error:
                raise InvalidPayload(
                    f"{self.name} version {version} cannot be read: the upcast from version {step} raised "
                    f"{type(error).__name__}: {error}. Mend it."
                ) from error
        try:
            return self._load(to_json(value))
        except ValidationError as error:
            raise InvalidPayload(
                f"{self.name} version {version} cannot be read: the upcast to version {self.version} gives no valid "
                f"{': '.join(self._reason(error))} Mend it."
            ) from error

    def parse(self, version: int, value: object) -> BaseModel:
        """The payload that a person or another program wrote as JSON.

        Raises:
            InvalidPayload: names the type, the first wrong field and what is wrong with it.
        """
        data = to_json(value, inf_nan_mode="strings")
        if version != self.version:
            return self.decode_version(version, data)
        try:
            return self._load(data)
        except ValidationError as error:
            raise InvalidPayload(": ".join(self._reason(error))) from error

    def _reason(self, error: ValidationError) -> tuple[str, str]:
        """The first error: `Type.field`, and what is wrong with it."""
        errors = error.errors(include_url=False)
        first = errors[0]
        where = self.name + "".join(f".{part}" for part in first["loc"])
        kind, text = first["type"], first["msg"]
        if kind in ("literal_error", "enum"):
            expected = str(first["ctx"]["expected"]).replace(" or ", ", ").replace("'", "")
            text = f"{first['input']!r:.60} is not one of {expected}"
        elif kind == "missing":
            text = "it is required"
        elif kind == "extra_forbidden":
            close = (
                get_close_matches(str(first["loc"][0]), self.model.model_fields, 1) if len(first["loc"]) == 1 else []
            )
            text = "there is no such field" + (f"; did you mean {close[0]!r}" if close else "")
        more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
        return where, f"{text}{more}."

    def _refusal(self, payload: BaseModel, error: Exception) -> NotRoundTrippable:
        if isinstance(error, ValidationError):
            where, reason = self._reason(error)
            way_out = "Let its aliases and validators take what the model itself writes."
            return NotRoundTrippable(f"{where} does not come back from JSON: {reason} {way_out}")
        where = self.name + _brief("".join(f".{part}" for part in self._unwritable(payload)))
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return NotRoundTrippable(f"{where} cannot be written as JSON and read back: {reason}.")

    def _unwritable(self, payload: BaseModel) -> list[str | int]:
        """Where in the payload the value is that cannot be written: the serialiser is asked for ever smaller parts."""
        path: list[str | int] = []
        value: object = payload
        above = {id(payload)}
        while len(path) < _DEPTH:
            for part, inner in parts(value):
                wanted: object = {part}
                for outer in reversed(path):
                    wanted = {outer: wanted}
                try:
                    self._dump(payload, include=wanted, by_alias=True, round_trip=True, warnings=False)
                except Exception:  # noqa: BLE001  the caller reports the first of these with its place
                    path.append(part)
                    value = inner
                    break
            else:
                return path
            if id(value) in above:
                return path  # it contains itself
            above.add(id(value))
        return path


def artifact_type(
    *, name: str | None = None, version: int = 1, upcast: Mapping[int, Upcast] | None = None
) -> Callable[[C], C]:
    """Name and version a model, so that renaming the class or changing its fields keeps old boards readable.

    Args:
        name: how the type is called on the board; the class name unless given. Subclasses do not inherit it.
        version: raise it when the fields change.
        upcast: version n -> function that makes the JSON object of version n + 1 out of that of version n.

    Raises:
        BadType: the name or a version cannot be used.
    """
    if type(version) is not int or version < 1:
        raise BadType(f"@artifact_type: version={version!r}; it is a whole number from 1.")
    if not isinstance(upcast, Mapping | None) or not all(callable(step) for step in (upcast or {}).values()):
        raise BadType(f"@artifact_type: upcast={upcast!r}; it is {{1: a function from version 1 to version 2, …}}.")
    steps = dict(upcast or {})
    wrong = [step for step in steps if type(step) is not int or not 1 <= step < version]
    if wrong:
        raise BadType(f"@artifact_type: there is no upcast from version {wrong[0]!r}, as this is version {version}.")
    if name is not None and (
        not isinstance(name, str) or not name or not name.isprintable() or any(c in " @:" for c in name)
    ):
        raise BadType(f"@artifact_type: {name!r} is no name for a type. Use letters, digits, '.', '_' or '-'.")

    def mark(cls: C) -> C:
        setattr(cls, _OPTIONS, (name or cls.__name__, version, steps))
        if _CACHED in cls.__dict__:
            delattr(cls, _CACHED)
        return cls

    return mark


def type_of(model: type[BaseModel]) -> ArtifactType:
    """What the board knows of this class.

    Raises:
        BadType: it is no pydantic model, is `BaseModel` itself, or has annotations that cannot be resolved.
    """
    cached = model.__dict__.get(_CACHED) if isinstance(model, type) else None
    if cached is not None:
        found: ArtifactType = cached
        return found
    if not isinstance(model, type) or not issubclass(model, BaseModel) or model in (BaseModel, Opaque):
        if model is Opaque:
            raise BadType("an Opaque payload has lost its type. Import its class, and read it with that.")
        if isinstance(model, BaseModel):
            raise BadType(f"an instance of {type(model).__name__} is no artifact type. Give the class.")
        called = model.__name__ if isinstance(model, type) else repr(model)
        raise BadType(f"{called} is no artifact type. Use a subclass of pydantic.BaseModel.")
    found = _make(model)
    setattr(model, _CACHED, found)
    return found


def _make(model: type[BaseModel]) -> ArtifactType:
    name, version, upcasts = model.__dict__.get(_OPTIONS) or (model.__name__, 1, {})
    if not name or not name.isprintable() or "@" in name or name != name.strip():
        raise BadType(
            f"{name!r} cannot name an artifact type: a name is not empty, can be printed and has no @. "
            "Give another one with @artifact_type(name=)."
        )
    try:
        if not model.__pydantic_complete__:
            model.model_rebuild()
        core = lossless(model.__pydantic_core_schema__)
        # Without `_use_prebuilt` nested models would be written by their own serialisers, which are not lossless.
        dump = SchemaSerializer(core, LOSSLESS, _use_prebuilt=False).to_json
        load = SchemaValidator(core, LOSSLESS, _use_prebuilt=False).validate_json
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise BadType(f"{name} cannot be used as an artifact type: {str(error).splitlines()[0]}") from error
    has = model.model_fields.keys()
    special = {"work_id", "parent_work_id", "blocking_work_ids", "priority", "phase", "tags"}
    return ArtifactType(
        name=name, version=version, model=model, schema=digest(model), upcasts=upcasts, _dump=dump, _load=load,
        has_work="work_id" in has, has_parent="parent_work_id" in has, has_blocking="blocking_work_ids" in has,
        has_priority="priority" in has, has_phase="phase" in has, has_tags="tags" in has,
        has_any=not special.isdisjoint(has),
    )  # fmt: skip


def check_size(type_name: str, data: bytes, limit: int | None) -> None:
    """Refuse a payload that is too large.

    Raises:
        PayloadTooLarge: it is.
    """
    if limit is not None and len(data) > limit:
        error = PayloadTooLarge(
            f"Limits(payload_bytes={limit:_}): {type_name} has {len(data):,} bytes as JSON. Store large data in a "
            "file and publish its path, or raise it."
        )
        error.limit = f"payload_bytes {len(data):,} of {limit:,}"
        raise error


def asks_for_work(payload: BaseModel) -> bool:
    """Whether a payload asks for work: it names a phase, and says when it is done. No code of its class runs."""
    values = payload.__dict__ | (payload.__pydantic_extra__ or {})
    return isinstance(values.get("phase"), str) and "done_definition" in values


def no_json(name: str) -> StoreDamaged:
    """What is to be said of a stored payload that cannot be read at all."""
    return StoreDamaged(f"the payload of a stored {name} is no JSON. Restore a copy of the board.")


def _brief(path: str) -> str:
    """A path into a payload, without the middle of one that nobody would read."""
    return path if len(path) <= _PATH else f"{path[: _PATH // 2]}…{path[-_PATH // 2 :]}"


def plain(value: object) -> object:
    """The JSON value as something hashable that equals another if and only if the JSON values are the same.

    Strings, whole numbers and None are themselves; True is not 1; 1.0 is 1; an enum is its value.
    """
    kind = type(value)
    if kind is str or kind is int or value is None:
        return value
    if kind is bool:
        return ("bool", value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return ("float", repr(float(value)))
        return int(value) if value.is_integer() and abs(value) < 2**53 else float(value)
    json_value = _jsonable(value)
    if not isinstance(json_value, (list, dict)):
        return plain(json_value)
    return ("json", json.dumps(json_value, sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def _jsonable(value: object) -> object:
    """The JSON value that is stored; pydantic alone would not write models as their codecs do, nor sets in order."""
    if isinstance(value, BaseModel):
        return from_json(type_of(type(value))._dump(value, by_alias=True, round_trip=True, warnings=False))
    if isinstance(value, dict):
        return {str(to_jsonable_python(key)): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(_jsonable, value), key=lambda item: json.dumps(item, sort_keys=True))
    return to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="strings")


def check_text(what: str, text: str) -> None:
    """Refuse a name that no file can hold, before anything is decided.

    Raises:
        InvalidPayload: it is no text, or has a NUL character or half a surrogate pair.
    """
    if not isinstance(text, str):
        raise InvalidPayload(f"{what} {text!r} is {type(text).__name__}. It is a text: give a str.")
    if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
        raise InvalidPayload(f"{what} {text!r} has a character that cannot be stored (NUL or a lone surrogate).")
