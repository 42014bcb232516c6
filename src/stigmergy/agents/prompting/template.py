"""A prompt that stands in a file of its own, with names for what changes."""

import re
from dataclasses import fields
from pathlib import Path
from string import Template
from typing import Final, cast, get_args

from stigmergy.agents.models.model import Message, Role
from stigmergy.agents.prompting.prompt import Pieces, PromptParts, pieces
from stigmergy.blackboard.core.where import did_you_mean
from stigmergy.blackboard.errors import DefinitionError

NAMES: Final = tuple(field.name for field in fields(Pieces))
"""What a template may ask for, each as `$name`."""
_NEEDED: Final = ("contract", "inputs")
_ROLES: Final = tuple(role for role in get_args(Role) if role != "tool")
_HEAD = re.compile(r"--- (\S+)")


class PromptTemplate:
    """A prompt made of a text file: `Ask(prompt=PromptTemplate("analyst.md"))`.

    A line `--- system`, `--- user` or `--- assistant` begins a message, as `stigmergy prompt` prints it; without any,
    the file is the user's word. In it `$agent`, `$description`, `$phase`, `$instructions`, `$contract`, `$inputs`,
    `$past` and `$feedback` stand for the parts of the prompt (see `Pieces`), and `$$` for a dollar. What artifacts say
    is put in last and fenced, so that it can neither begin a message nor ask for a part. There are no conditions and
    no loops: a part that there is not leaves one empty line at most, and whoever wants more writes a function.

    Args:
        path: of the file, in UTF-8; it is read once.

    Raises:
        DefinitionError: the file cannot be read, or something in it does not work, named by its line; it lacks
            `$contract`, without which a model cannot know what to answer, or `$inputs`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise DefinitionError(f"PromptTemplate({str(path)!r}): it cannot be read ({reason}).") from error
        self._messages: list[tuple[Role, Template]] = []
        self._parse(text)

    def __repr__(self) -> str:
        return f"PromptTemplate({str(self._path)!r})"

    def __call__(self, parts: PromptParts) -> tuple[Message, ...]:
        """The first messages of a conversation."""
        made = pieces(parts)
        values = {name: getattr(made, name) for name in NAMES}
        return tuple(
            Message(role=role, text=re.sub(r"\n{3,}", "\n\n", template.substitute(values)).strip("\n"))
            for role, template in self._messages
        )

    def _parse(self, text: str) -> None:
        found: dict[str, None] = {}
        role: Role | None = None
        lines: list[str] = []
        for number, line in enumerate(text.splitlines(), 1):
            if head := _HEAD.fullmatch(line.rstrip()):
                self._end(role, lines)
                role, lines = self._role(head[1], number), []
                continue
            found |= dict.fromkeys(self._names(line, number))
            lines.append(line)
        self._end(role or "user", lines)
        missing = next((name for name in _NEEDED if name not in found), None)
        if missing is not None:
            raise DefinitionError(f"{self._path}: it does not say ${missing}, which a model cannot do without.")

    def _end(self, role: Role | None, lines: list[str]) -> None:
        """A message is complete."""
        text = "\n".join(lines)
        if role is not None:
            self._messages.append((role, Template(text)))
        elif text.strip():
            first = next(i for i, line in enumerate(lines, 1) if line.strip())
            raise DefinitionError(
                f"{self._path}:{first}: it is in no message. Begin with a line --- system or --- user."
            )

    def _role(self, name: str, number: int) -> Role:
        if name not in _ROLES:
            raise DefinitionError(f"{self._path}:{number}: there is no --- {name}.{did_you_mean(name, _ROLES)}")
        return cast("Role", name)

    def _names(self, line: str, number: int) -> list[str]:
        """What a line asks for."""
        found: list[str] = []
        for match in Template.pattern.finditer(line):
            name = match["named"] or match["braced"]
            if match["invalid"] is not None:
                raise DefinitionError(f"{self._path}:{number}: a $ stands before no name. For a dollar write $$.")
            if name is not None and name not in NAMES:
                raise DefinitionError(f"{self._path}:{number}: there is no ${name}.{did_you_mean(name, NAMES)}")
            found += [name] if name is not None else []
        return found
