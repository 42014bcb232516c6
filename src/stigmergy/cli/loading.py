"""Finding the roster that FILE[:NAME] means, without letting the file run a board while it is loaded."""

import ast
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from stigmergy.agents.roster import Roster
from stigmergy.agents.threads import Inside, inside_body
from stigmergy.blackboard.core.where import did_you_mean
from stigmergy.blackboard.definitions import Limits
from stigmergy.blackboard.errors import DefinitionError, UseContext
from stigmergy.cli.words import pair


def load(target: str, settings: Iterable[str] = ()) -> Roster:
    """The roster or board of a file.

    Args:
        target: `FILE` or `FILE:NAME`; NAME is a roster, a board, something with a `.roster`, or a function that returns
            one. Without it: the only one there is, or the one called `board`, or `roster`.
        settings: `name=value`, arguments of that function; `name=@file` takes the text of a file.

    Raises:
        DefinitionError: the file cannot be loaded, or does not say which.
    """
    path, name = _split(target)
    module = _module(path)
    found = _named(module, path, name) if name else _only(module, path)
    given = list(settings)
    if isinstance(found, Roster):
        if given:
            raise DefinitionError(f"{target} is no function, so --set has nothing to fill.")
        return found
    inner = getattr(found, "roster", None)
    if isinstance(inner, Roster) and not given:
        return inner
    if callable(found) and not isinstance(found, type):
        made = _called(cast("Callable[..., object]", found), target, given)
        result = made if isinstance(made, Roster) else getattr(made, "roster", None)
        if isinstance(result, Roster):
            return result
        raise DefinitionError(f"{target} returned {type(made).__name__}. Return a Roster or a Blackboard.")
    raise DefinitionError(
        f"{target} is {type(found).__name__}. Name a Roster, a Blackboard or a function returning one."
    )


def parse_limits(settings: Iterable[str], base: Limits | None) -> Limits | None:
    """Limits with `name=value` settings over those that were defined.

    Raises:
        DefinitionError: there is no such limit, or not of such a value.
    """
    given = dict(pair(s, "--limit") for s in settings)
    if not given:
        return base
    known = [f.name for f in fields(Limits)]
    for name in given:
        if name not in known:
            raise DefinitionError(f"--limit {name}: there is no such limit.{did_you_mean(name, known)}")
    values: dict[str, object] = {f.name: getattr(base, f.name) for f in fields(Limits)} if base is not None else {}
    for name, text in given.items():
        if text != "none" and not _is_number(text):
            raise DefinitionError(f"--limit {name}={text}: give a number, or none.")
        values[name] = None if text == "none" else Decimal(text)
        if text.startswith("-"):
            raise DefinitionError(f"--limit {name}={text}: give a number from 0, or none.")
    try:
        return TypeAdapter(Limits).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise DefinitionError(f"--limit {first['loc'][0]}={first['input']}: {first['msg'].lower()}.") from error


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _split(target: str) -> tuple[Path, str]:
    if Path(target).is_file():
        return Path(target), ""
    file, _, name = target.rpartition(":")
    path = Path(file or target)
    if not path.is_file():
        raise DefinitionError(f"{path} does not exist. Name a Python file: team.py, or team.py:roster.")
    return path, name if file else ""


def _module(path: Path) -> ModuleType:
    """Load a file by its path, with its folder first on `sys.path` and a name that is not `__main__`."""
    file = path.resolve()
    there = getattr(sys.modules.get(file.stem), "__file__", None)
    name = file.stem if file.stem not in sys.modules or there == str(file) else f"stigmergy_file_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise DefinitionError(f"{path} is no Python file. Name one that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    sys.modules[name] = module
    # A board refuses to run inside a body; while the file is loaded, the file counts as one.
    token = inside_body.set((Inside(path.name, None),))
    try:
        spec.loader.exec_module(module)
    except UseContext as error:
        lines = _statement(file, error)
        raise DefinitionError(
            f"{path.name} runs its board on import: put {lines} under `if __name__ == '__main__':`."
        ) from error
    except DefinitionError:
        raise
    except (Exception, SystemExit) as error:
        raise DefinitionError(f"{_place(file, error)} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        inside_body.reset(token)
    return module


def _line(file: Path, error: BaseException) -> int:
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return error.lineno
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    return frames[0].lineno or 1 if frames else 1


def _place(file: Path, error: BaseException) -> str:
    return f"{file.name}:{_line(file, error)}"


def _statement(file: Path, error: BaseException) -> str:
    line = _line(file, error)
    for node in ast.parse(file.read_bytes()).body:
        last = node.end_lineno or node.lineno
        if node.lineno <= line <= last:
            return f"lines {node.lineno}-{last}" if last > node.lineno else f"line {line}"
    return f"line {line}"


def _named(module: ModuleType, path: Path, name: str) -> object:
    if not hasattr(module, name):
        public = [n for n, v in vars(module).items() if not n.startswith("_") and _is_of(module, v)]
        raise DefinitionError(f"{path.name} has no {name!r}.{did_you_mean(name, public)}")
    return getattr(module, name)


def _is_of(module: ModuleType, value: object) -> bool:
    """Whether it may be meant: what the file imports from elsewhere is not, unless it is a roster or a board."""
    if isinstance(value, ModuleType):
        return False
    return isinstance(value, Roster) or getattr(value, "__module__", module.__name__) == module.__name__


def _only(module: ModuleType, path: Path) -> object:
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    found = {n: v for n, v in public.items() if isinstance(getattr(v, "roster", v), Roster)}
    if not found:
        found = {n: v for n, v in public.items() if _makes_one(v, module)}
    distinct = {id(value): name for name, value in found.items()}
    if len(distinct) == 1:
        return found[next(iter(distinct.values()))]
    for name in ("board", "roster"):
        if name in found:
            return found[name]
    if found:
        raise DefinitionError(
            f"{path.name} has several: {', '.join(found)}. Say which: {path.name}:{next(iter(found))}."
        )
    raise DefinitionError(f"{path.name} has no Roster and no Blackboard. Define one at the top of the file.")


def _makes_one(value: object, module: ModuleType) -> bool:
    if not inspect.isfunction(value) or value.__module__ != module.__name__:
        return False
    try:
        returned = get_type_hints(value).get("return")
    except (NameError, TypeError):
        return False
    return isinstance(returned, type) and (issubclass(returned, Roster) or hasattr(returned, "roster"))


def _called(function: Callable[..., object], target: str, settings: Iterable[str]) -> object:
    """Call a function with settings, each read as its parameter's annotation says."""
    parameters = inspect.signature(function).parameters
    try:
        hints = get_type_hints(function)
    except NameError:
        hints = {}
    arguments: dict[str, Any] = {}
    for setting in settings:
        name, text = pair(setting, "--set")
        if name not in parameters:
            raise DefinitionError(f"{target} has no parameter {name!r}.{did_you_mean(name, parameters)}")
        if text.startswith("@"):
            text = _text_of(text[1:])
        try:
            arguments[name] = TypeAdapter(hints.get(name, str)).validate_strings(text)
        except ValidationError as error:
            raise DefinitionError(f"--set {name}: {error.errors()[0]['msg'].lower()}.") from error
    needed = [n for n, p in parameters.items() if p.default is p.empty and n not in arguments
              and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]  # fmt: skip
    if needed:
        raise DefinitionError(f"{target} needs {', '.join(needed)}. Give --set {needed[0]}=…")
    return function(**arguments)


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"--set: {path} cannot be read: {error}") from error
