"""From a run to a test: a pytest file that runs the body of one recorded activation again and compares."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from stigmergy.agents.agent import Agent
from stigmergy.agents.prompting.tools import ToolsUnavailable
from stigmergy.agents.roster import Roster
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.errors import DefinitionError, NotFound
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.reading.view import View, read
from stigmergy.blackboard.text import number
from stigmergy.testing.circumstances import Circumstances
from stigmergy.testing.recording import Recording, recording
from stigmergy.testing.source import (
    Code,
    Source,
    call,
    laid_out,
    listed,
    named,
    place,
    sections,
    text,
)  # fmt: skip

_SHOWN = 200
"""Characters of an error's message that a test compares."""


def make_test(
    run: View | str | Path, roster: Roster, activation: int | str, *, file: str | Path = "test_recorded.py",
    source: str | None = None,
) -> str:  # fmt: skip
    """The text of a pytest file that runs the body of one recorded activation again, and compares what comes of it.

    The test gives the body the recorded inputs, context, time and ids, and the results of its effects; no effect is
    executed. Where a model answered, its recorded replies do so again: the test shows what is made of them now, and
    that it would be asked the same at first. It needs the module that defines the roster, and no board.

    Args:
        run: a board, a view of one, or a file.
        roster: where the agent is.
        activation: `33`, `"agent@33"`, or an artifact that the activation published.
        file: where the text is to be written (it is not): what is imported must be found from there.
        source: the roster as `module:expression`; needed if it is no global of a module.

    Raises:
        NotFound: there is no such activation or agent, or no attempt ended in a way that the body decides.
        DefinitionError: the roster cannot be imported.
    """
    if not isinstance(run, View):
        with read(run) as view:
            return make_test(view, roster, activation, file=file, source=source)
    types = TypeTable()
    types.update(roster.types)
    for name in run._source().types.names():
        kind = run._source().types.get(name)
        if kind is not None and types.get(name) is None:
            types.add(kind.model)
    seen = recording(run, activation, types)
    agent = roster.find(seen.activation.agent)
    if isinstance(seen.end, ev.Failed) and seen.end.error and seen.end.error.type == ToolsUnavailable.__name__:
        raise NotFound(f"the last attempt of {seen.name} did not reach a server of tools; no test starts one.")
    module, expression = source.split(":", 1) if source is not None else _global(roster)
    return _Written(seen, agent, module, expression, Path(file)).whole(run, roster, types)


def _global(roster: Roster) -> tuple[str, str]:
    """The module that has the roster as a global, and the name."""
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            for name, value in list(vars(module).items()):
                if value is roster and name.isidentifier():
                    return module.__name__, name
    raise DefinitionError(
        "the roster is no global of a module, so a test cannot import it. Give make_test(source='module:expression')."
    )


class _Written:
    """The parts of one file."""

    def __init__(self, seen: Recording, agent: Agent, module: str, expression: str, file: Path) -> None:
        self._seen = seen
        self._agent = agent
        self._module = module
        self._path = place(module)
        called = module
        if self._path is not None and (module == "__main__" or module.startswith("stigmergy_file_")):
            called = self._path.stem
        self._called = called
        self._file = file.resolve()
        self._source = Source(module, expression, {module: called})
        for name in ("context", "perform"):
            self._source.testing(name)
        self._given = Circumstances(seen, agent, self._source)

    def whole(self, view: View, roster: Roster, types: TypeTable) -> str:
        """The text."""
        steps = self._steps(view, roster, types)
        path, imports = self._path_lines(), self._source.imports
        own = {m for m in imports if (p := place(m) or place(self._module)) and _is_own(m, p)}
        head = f'"""{self._title(view)}"""\n\n'
        if path:
            before = {m: n for m, n in imports.items() if m not in own} | {"sys": set(), "pathlib": {"Path"}}
            late = sections({m: n for m, n in imports.items() if m in own}, own)
            lines = [f"{line}  # noqa: E402" if line.startswith("from ") else line for line in late.splitlines()]
            top = sections(before, ()) + f"\n{path}\n" + "\n".join(lines) + "\n"
        else:
            top = sections(imports, own)
        classes = "".join(f"{name} = {code}\n" for name, code in self._source.found.items())
        return head + top + (f"\n{classes}" if classes else "") + f"\n\n{steps}"

    def _path_lines(self) -> str:
        """What makes the roster's module importable where pytest would not find it."""
        if self._path is None or "." in self._called or "site-packages" in self._path.parts:
            return ""
        root = self._file.parent
        while (root / "__init__.py").exists():
            root = root.parent
        if self._path.parent == root:
            return ""
        relative = os.path.relpath(self._path.parent, self._file.parent).replace(os.sep, "/")
        way = f"Path(__file__).parent / {text(relative)}" if relative != "." else "Path(__file__).parent"
        return f"sys.path.insert(0, str({way}))\n"

    def _title(self, view: View) -> str:
        seen, end = self._seen, self._seen.end
        inputs = ", ".join(a.ref for a in seen.inputs[:5]) + (", …" if len(seen.inputs) > 5 else "")
        if isinstance(end, ev.Completed):
            how = f"completed with {number(len(seen.outputs), 'output')}"
        else:
            how = f"failed with {end.error.type if end.error else 'an error'}"
        lines = [
            f"What {seen.name} did on {Path(view._source().name).name}, again.", "",
            "Written by `stigmergy make-test`.", f"It was given {inputs}.",
            f"Attempt {seen.claim.attempt} {how}.",
        ]  # fmt: skip
        if self._given.left_out:
            lines.append(f"Its context had {self._given.left_out} more, of types that the roster does not have.")
        if self._given.asked_otherwise:
            lines.append("Its prompt is that of today; it was asked with another one then.")
        # Names stand in a string literal there, and may be anything.
        return "\n".join([*lines, ""]).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')

    def _steps(self, view: View, roster: Roster, types: TypeTable) -> str:
        seen = self._seen
        name = re.sub(r"\W+", "_", f"test_{seen.activation.agent}_{seen.activation.seq}", flags=re.ASCII)
        lines = [f"def {name}() -> None:"]
        made = call("context", **self._given.context(view, roster, types))
        lines.append("    " + laid_out(named("ctx = ", made), 4))
        if self._given.modelled and (prompted := self._given.prompt()):
            lines.append(f"    asked = {self._source.testing('prompt')}({self._agent_source()}, ctx)")
            lines.append("    " + laid_out(named('assert str(asked).split("\\n") == ', listed(map(text, prompted))), 4))
        run = f"perform({self._agent_source()}, ctx{self._given.models()})"
        if isinstance(seen.end, ev.Completed):
            lines.append(f"    outputs = {run}")
            outputs = listed([self._source.payload(a.payload) for a in seen.outputs])
            lines.append("    " + laid_out(named("assert outputs == ", outputs), 4))
        else:
            lines += [*self._raises(seen.end), f"        {run}"]
        if self._given.contextual and seen.alone:
            talks = {key.partition("/")[0] for key in seen.asked if self._given.modelled}
            # Several conversations go on at once, so their order is nobody's promise.
            asked, said = (sorted(seen.asked), "sorted(ctx.called)") if len(talks) > 1 else (seen.asked, "ctx.called")
            called = listed([text(key) for key in asked])
            lines.append("    " + laid_out(named(f"assert {said} == ", called), 4))
            inside = listed([self._source.payload(a.payload) for a in seen.inside])
            lines.append("    " + laid_out(named("assert ctx.published == ", inside), 4))
        return "\n".join(lines) + "\n"

    def _agent_source(self) -> str:
        """The agent: imported, or found in the roster."""
        agent = self._agent
        module = sys.modules.get(self._module)
        for name, value in vars(module).items() if module is not None else ():
            if value is agent and name not in ("context", "perform", "artifact", "outputs", "ctx"):
                return self._source.imported(self._module, name)
        return f"{self._source.roster()}.find({text(agent.name)})"

    def _raises(self, end: ev.Failed) -> list[str]:
        error = end.error
        kind, message = (error.type, error.message) if error is not None else ("Exception", "")
        name, right = self._source.error(kind, self._agent)
        line = message.partition("\n")[0][:_SHOWN]
        if self._given.modelled:  # which model it was is nothing to the test
            line = line.removeprefix(f"{self._given.last_model} ")
        match: dict[str, Code] = {}
        if line and right and not re.search(r"0x[0-9a-fA-F]{6,}", line):
            escaped = re.escape(line)
            if escaped != line:
                self._source.imports["re"] = set()
            match["match"] = text(line) if escaped == line else call("re.escape", text(line))
        self._source.imports["pytest"] = set()
        head = laid_out(replace(call("with pytest.raises", name, **match), after="):"), 4)
        comment = "" if right else f"  # it was a {kind}; no class of that name is found"
        return [f"    {head}{comment}"]


def _is_own(module: str, path: Path) -> bool:
    """Whether import sorters take it for the user's own."""
    installed = module.startswith("stigmergy.") or module in ("pytest", "re", "stigmergy")
    return not installed and "site-packages" not in path.parts
