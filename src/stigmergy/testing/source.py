"""Values as Python source: literals and models, laid out as formatters do, and the imports that they need."""

import builtins
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import from_json

from stigmergy.agents.agent import Agent
from stigmergy.agents.models import errors as model_errors
from stigmergy.blackboard import errors
from stigmergy.blackboard.payloads.types import type_of

WIDTH = 88
"""Columns; what is longer is split with trailing commas, which formatters of wider lines leave as it is."""


@dataclass(frozen=True, slots=True)
class Brackets:
    """A call or a display: something that is split at its commas if it is too long."""

    before: str
    items: tuple["Code", ...]
    after: str


Code = str | Brackets


def named(name: str, code: Code) -> Code:
    """Code with something before it: `n=`, `"n": `."""
    return name + code if isinstance(code, str) else replace(code, before=name + code.before)


def call(function: str, *args: Code, **named_args: Code) -> Brackets:
    """A call."""
    return Brackets(f"{function}(", (*args, *(named(f"{k}=", v) for k, v in named_args.items())), ")")


def flat(code: Code) -> str:
    """All on one line."""
    if isinstance(code, str):
        return code
    return code.before + ", ".join(map(flat, code.items)) + code.after


def laid_out(code: Code, indent: int = 0, *, then: int = 0) -> str:
    """On one line if it fits there, with so many columns after it; else an item on each."""
    line = flat(code)
    if isinstance(code, str) or not code.items or indent + len(line) + then <= WIDTH:
        return line
    space = " " * (indent + 4)
    items = "".join(f"{space}{laid_out(item, indent + 4, then=1)},\n" for item in code.items)
    return f"{code.before}\n{items}{' ' * indent}{code.after}"


def text(value: str) -> str:
    """A string literal, in the quotes that need fewer escapes."""
    quote = "'" if value.count('"') > value.count("'") else '"'
    return quote + "".join(f"\\{c}" if c == quote else c if c in "'\"" else repr(c)[1:-1] for c in value) + quote


class Unwritable(Exception):
    """There is no plain source for this value."""


def literal(value: object) -> Code:
    """JSON values as Python writes them.

    Raises:
        Unwritable: it is something else.
    """
    if type(value) is str:
        return text(value)
    if value is None or type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return repr(value)
    if type(value) is list:
        return listed(map(literal, value))
    if type(value) is dict and all(type(key) is str for key in value):
        return by_key({k: literal(v) for k, v in value.items()})
    raise Unwritable


@dataclass(slots=True)
class Source:
    """What a file needs besides its code.

    Attributes:
        module, expression: what gives the roster; classes that cannot be imported are found through it.
        modules: how modules are called in the file, if not as here.
        imports: module -> names from it; no names: the module itself.
    """

    module: str
    expression: str
    modules: Mapping[str, str]
    imports: dict[str, set[str]] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    """Names that are defined in the file -> their source."""

    def imported(self, module: str, name: str) -> str:
        """A name from a module."""
        self.imports.setdefault(self.modules.get(module, module), set()).add(name.partition(".")[0])
        return name

    def testing(self, name: str) -> str:
        """A name from the testing kit."""
        return self.imported("stigmergy.testing", name)

    def roster(self) -> str:
        """The roster."""
        self.imported(self.module, self.expression.partition("(")[0])
        return self.expression

    def cls(self, cls: type) -> str:
        """A class: imported, or an artifact type found through the roster.

        Raises:
            Unwritable: it is neither.
        """
        module, top = cls.__module__, cls.__qualname__.partition(".")[0]
        elsewhere = {n for m, names in self.imports.items() if m != self.modules.get(module, module) for n in names}
        if top not in elsewhere and importable(cls):
            return self.imported(module, cls.__qualname__)
        if not issubclass(cls, BaseModel):
            raise Unwritable
        name, code = cls.__name__, f'{self.roster()}.types.get("{type_of(cls).name}").model'
        while name in elsewhere or self.found.get(name, code) != code:
            name += "_"
        self.found[name] = code
        return name

    def value(self, value: object) -> Code:
        """The source of a value.

        Raises:
            Unwritable: there is none.
        """
        if isinstance(value, Enum):
            return f"{self.cls(type(value))}.{value.name}"
        if isinstance(value, BaseModel):
            return self._model(value)
        if type(value) is list:
            return listed(map(self.value, value))
        if type(value) is dict and all(type(key) is str for key in value):
            return by_key({k: self.value(v) for k, v in value.items()})
        return literal(value)

    def _model(self, value: BaseModel) -> Brackets:
        """A model made by its constructor."""
        fields = type(value).model_fields
        plain = all(f.alias is f.validation_alias is f.serialization_alias is None for f in fields.values())
        if not plain or value.model_extra:
            raise Unwritable
        values = {name: getattr(value, name) for name in fields}
        try:
            if type(value)(**values) != value:
                raise Unwritable
        except (ValidationError, TypeError) as error:
            raise Unwritable from error
        return call(self.cls(type(value)), **{name: self.value(v) for name, v in values.items()})

    def payload(self, value: BaseModel) -> Code:
        """The source of a payload: by its constructor if that is plain, or of the JSON that the log has."""
        try:
            return self._model(value)
        except Unwritable:
            data = type_of(type(value)).encode(value)[1]
        cls, json_value = self.cls(type(value)), from_json(data)
        if _reads(type(value), json_value, data):
            return call(f"{cls}.model_validate", literal(json_value))
        return call(f"{cls}.model_validate_json", text(data.decode()))

    def error(self, name: str, agent: Agent) -> tuple[str, bool]:
        """An exception class by its name, and whether it is the right one: `Exception` if nobody knows it.

        It is looked for in Python, among those of models, where the body and the roster are, and in the library.
        """
        body = getattr(agent.means.function, "__module__", "")
        for module in (builtins, model_errors, *map(sys.modules.get, (body, self.module)), errors):
            cls = getattr(module, name, None)
            if module is not None and isinstance(cls, type) and issubclass(cls, Exception):
                return name if module is builtins else self.imported(module.__name__, name), True
        return "Exception", False


def _reads(model: type[BaseModel], value: JsonValue, data: bytes) -> bool:
    """Whether the class makes the same payload of this JSON value in Python."""
    try:
        return type_of(model).encode(model.model_validate(value))[1] == data
    except Exception:  # noqa: BLE001  user code: validators may want JSON
        return False


def importable(what: object) -> str | None:
    """The name by which its module has a class or function; None if it cannot be imported."""
    name = str(getattr(what, "__qualname__", ""))
    found: object = sys.modules.get(str(getattr(what, "__module__", "")))
    for part in name.split("."):
        found = getattr(found, part, None)
    return name if found is what and name else None


def sections(imports: Mapping[str, Iterable[str]], own: Iterable[str]) -> str:
    """Import statements as import sorters want them: the standard library, then what is installed, then `own`."""
    first = set(own)
    groups: list[list[str]] = [[], [], []]
    plain = sorted(m for m, names in imports.items() if not set(names))
    for module in plain:
        groups[_section(module, first)].append(f"import {module}\n")
    for module in sorted(imports.keys() - set(plain)):
        names = tuple(sorted(imports[module], key=_kind))
        line = f"from {module} import {', '.join(names)}"
        if len(line) > WIDTH:
            line = laid_out(Brackets(f"from {module} import (", names, ")"))
        groups[_section(module, first)].append(line + "\n")
    return "\n".join("".join(group) for group in groups if group)


def _section(module: str, own: set[str]) -> int:
    top = module.partition(".")[0]
    return 2 if module in own else 0 if top in sys.stdlib_module_names else 1


def _kind(name: str) -> tuple[int, str]:
    """Constants, classes, and the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)


def place(module: str) -> Path | None:
    """The file of a module."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).resolve() if file else None


def listed(items: Iterable[Code]) -> Brackets:
    """A list."""
    return Brackets("[", tuple(items), "]")


def by_key(items: Mapping[str, Code]) -> Brackets:
    """A dictionary."""
    return Brackets("{", tuple(named(f"{text(key)}: ", code) for key, code in items.items()), "}")
