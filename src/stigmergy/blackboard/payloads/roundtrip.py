"""What it takes for a payload to come back from JSON as it was: lossless schemas, and how to find what is lost."""

import json
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import CoreConfig, to_json
from pydantic_core.core_schema import SerializerFunctionWrapHandler, wrap_serializer_function_ser_schema

LOSSLESS = CoreConfig(
    ser_json_bytes="base64",
    val_json_bytes="base64",
    ser_json_inf_nan="strings",
    ser_json_timedelta="iso8601",
)
_CONFIGURED = frozenset({"model", "dataclass", "typed-dict"})
_UNORDERED = frozenset({"set", "frozenset"})
_DATA = frozenset({"default", "metadata", "expected"})
_NAMED = frozenset({"fields", "choices"})


def lossless_json(value: object) -> bytes:
    """The JSON of models and plain data as payloads have it: bytes as base64, infinity and NaN as texts."""
    return to_json(value, by_alias=True, bytes_mode="base64", inf_nan_mode="strings")


def lossless(schema: Any) -> Any:
    """A copy of a core schema whose JSON loses nothing and is the same in every process; data in it stays as it is."""
    if isinstance(schema, dict):
        copy = {key: _lossless_part(key, value) for key, value in schema.items()}
        if copy.get("type") in _CONFIGURED:
            config = {k: v for k, v in (schema.get("config") or {}).items() if k != "ser_json_temporal"}
            copy["config"] = {**config, **LOSSLESS}
        if copy.get("type") in _UNORDERED and "serialization" not in copy:
            copy["serialization"] = wrap_serializer_function_ser_schema(_in_order, when_used="json")
        return copy
    if type(schema) in (list, tuple):
        return type(schema)(lossless(item) for item in schema)
    return schema


def _lossless_part(key: str, value: Any) -> Any:
    if key in _DATA:
        return value
    if key in _NAMED and isinstance(value, dict):  # the keys are names that users chose, like "type"
        return {name: lossless(inner) for name, inner in value.items()}
    return lossless(value)


def _in_order(value: object, write: SerializerFunctionWrapHandler) -> object:
    """Sets are written sorted: their own order changes from process to process, and equal payloads need equal JSON."""
    items = write(value)
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if isinstance(items, list) else items


class _JsonSchema(GenerateJsonSchema):
    """A default that JSON cannot hold is left out, and nobody needs to hear of it."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Nothing is said."""


def digest(model: type[BaseModel]) -> str:
    """Which fields a model has, as 16 hex digits; the same for a class that is defined again."""
    try:
        shape: object = _shape(model.model_json_schema(schema_generator=_JsonSchema))
    except PydanticInvalidForJsonSchema:
        shape = {field: str(info.annotation) for field, info in model.model_fields.items()}
    text = json.dumps(shape, sort_keys=True, separators=(",", ":"), default=repr)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _shape(schema: Any) -> Any:
    """A JSON schema without its prose: an edited docstring makes no other type."""
    if isinstance(schema, list):
        return [_shape(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    shape = {}
    for key, value in schema.items():
        if key in ("properties", "$defs", "patternProperties"):
            shape[key] = {name: _shape(inner) for name, inner in value.items()}
        elif key in ("default", "const", "enum"):
            shape[key] = value
        elif key not in ("title", "description", "examples"):
            shape[key] = _shape(value)
    return shape


def parts(value: object) -> list[tuple[str | int, object]]:
    """The fields or items of a value that a serialiser can be asked for one by one."""
    if isinstance(value, BaseModel):
        return list(value)
    if isinstance(value, dict):
        return [(key, inner) for key, inner in value.items() if isinstance(key, (str, int))]
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name, None)) for f in fields(value)]
    return []


def difference(a: Any, b: Any, path: str) -> tuple[str, str] | None:
    """The first place where two values differ, and what became of it, in words; NaN is the same as NaN."""
    try:
        if a is b or a == b or (a != a and b != b and type(a) is type(b)):
            return None
    except Exception:  # noqa: BLE001, S110  an `==` that raises (arrays have one) says no more than an unequal one
        pass
    before, after = type(a).__name__, type(b).__name__
    if type(a) is not type(b):
        return path, f"{before} came back as {after}"
    if isinstance(a, BaseModel):
        for left, right in (
            (a.__dict__, b.__dict__),
            (a.__pydantic_extra__ or {}, b.__pydantic_extra__ or {}),
            (a.__pydantic_private__ or {}, b.__pydantic_private__ or {}),
        ):
            found = difference(left, right, path)
            if found is not None:
                return found
        return None
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return path, f"{len(a):,} items came back as {len(b):,}"
        a, b = dict(enumerate(a)), dict(enumerate(b))
    elif is_dataclass(a):
        a, b = dict(parts(a)), dict(parts(b))
    elif not isinstance(a, dict):
        return path, f"{before} came back as another value"
    for key in a:
        if key not in b:
            odd = "" if isinstance(key, str) else f", {type(key).__name__}, which is no text,"
            return path, f"the key {key!r}{odd} did not come back"
        found = difference(a[key], b[key], f"{path}.{key}")
        if found is not None:
            return found
    new = next((key for key in b if key not in a), None)
    return None if new is None else (path, f"{new!r} came back and was not there before")


def clash(old: type[BaseModel], new: type[BaseModel]) -> str:
    """The first field in which two classes differ, as `value: float / value: int`."""
    for field in [*old.model_fields, *new.model_fields]:
        sides = []
        for model in (old, new):
            info = model.model_fields.get(field)
            sides.append("no " + field if info is None else f"{field}: {_annotation(info.annotation)}")
        if sides[0] != sides[1]:
            return " / ".join(sides)
    return "defaults or constraints"


def _annotation(annotation: object) -> str:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "")
