"""From a run to a test: a pytest file that runs the body of one recorded activation again and compares."""

import os
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic_core import from_json

from stigmergy.agents.agent import Agent
from stigmergy.agents.context import digest_of_call
from stigmergy.agents.models import errors as model_errors
from stigmergy.agents.models.model import Reply
from stigmergy.agents.prompting.answer import last_refusal
from stigmergy.agents.prompting.prompt import Ask
from stigmergy.agents.prompting.tools import ToolSource, ToolsUnavailable
from stigmergy.agents.roster import Roster
from stigmergy.blackboard import errors
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing
from stigmergy.blackboard.errors import DefinitionError, NotFound
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.reading.view import View, read
from stigmergy.blackboard.text import number
from stigmergy.testing.by_hand import context, implied_slots, prompt
from stigmergy.testing.recording import Recording, briefing, recording
from stigmergy.testing.source import (
    Code,
    Source,
    by_key,
    call,
    known,
    laid_out,
    listed,
    literal,
    named,
    place,
    sections,
    text,
)  # fmt: skip

_TALK = re.compile(r"model(-\d+)?")
_REPLY = re.compile(_TALK.pattern + r"/\d+")
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
            self._testing(name)
        parameters = agent.means.call.parameters
        self._modelled = agent.means.function is None
        self._contextual = (
            self._modelled or any(p.kind == "context" for p in parameters) or bool(agent.means.middleware)
        )
        self._envelopes = self._contextual or any(p.envelope for p in parameters)
        self._left_out = 0
        self._told = Briefing()
        self._asked_otherwise = False
        self._refused_at, self._feedback = last_refusal(seen.failures, seen.feedback)

    def whole(self, view: View, roster: Roster, types: TypeTable) -> str:
        """The text."""
        steps = self._steps(view, roster, types)
        path, imports = self._path_lines(), self._source.imports
        own = {m for m in imports if (p := place(m) or place(self._module)) and self._is_own(m, p)}
        head = f'"""{self._title(view)}"""\n\n'
        if path:
            before = {m: n for m, n in imports.items() if m not in own} | {"sys": set(), "pathlib": {"Path"}}
            late = sections({m: n for m, n in imports.items() if m in own}, own)
            lines = [self._late(line) for line in late.splitlines()]
            top = sections(before, ()) + f"\n{path}\n" + "\n".join(lines) + "\n"
        else:
            top = sections(imports, own)
        classes = "".join(f"{name} = {code}\n" for name, code in self._source.found.items())
        return head + top + (f"\n{classes}" if classes else "") + f"\n\n{steps}"

    @staticmethod
    def _late(line: str) -> str:
        return f"{line}  # noqa: E402" if line.startswith("from ") else line

    def _is_own(self, module: str, path: Path) -> bool:
        return "site-packages" not in path.parts and not module.startswith("stigmergy.") and module not in (
            "pytest", "re", "stigmergy",
        )  # fmt: skip

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
        if self._left_out:
            lines.append(f"Its context had {self._left_out} more, of types that the roster does not have.")
        if self._asked_otherwise:
            lines.append("Its prompt is that of today; it was asked with another one then.")
        # Names stand in a string literal there, and may be anything.
        return "\n".join([*lines, ""]).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')

    # -- the function ---------------------------------------------------------------------------------------------

    def _steps(self, view: View, roster: Roster, types: TypeTable) -> str:
        seen = self._seen
        name = re.sub(r"\W+", "_", f"test_{seen.activation.agent}_{seen.activation.seq}", flags=re.ASCII)
        lines = [f"def {name}() -> None:"]
        made = call("context", **self._context(view, roster, types))
        lines.append("    " + laid_out(named("ctx = ", made), 4))
        if self._modelled and (prompted := self._prompt()):
            lines.append(f"    asked = {self._testing('prompt')}({self._agent_source()}, ctx)")
            lines.append("    " + laid_out(named('assert str(asked).split("\\n") == ', listed(map(text, prompted))), 4))
        run = f"perform({self._agent_source()}, ctx{self._several()})"
        if isinstance(seen.end, ev.Completed):
            lines.append(f"    outputs = {run}")
            outputs = listed([self._source.payload(a.payload) for a in seen.outputs])
            lines.append("    " + laid_out(named("assert outputs == ", outputs), 4))
        else:
            lines += [*self._raises(seen.end), f"        {run}"]
        if self._contextual and seen.alone:
            talks = {key.partition("/")[0] for key in seen.asked if self._modelled}
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

    def _testing(self, name: str) -> str:
        return self._source.imported("stigmergy.testing", name)

    def _raises(self, end: ev.Failed) -> list[str]:
        error = end.error
        kind, message = (error.type, error.message) if error is not None else ("Exception", "")
        function = self._agent.means.function
        body = sys.modules.get(getattr(function, "__module__", ""))
        near = [m for m in (model_errors, body, sys.modules.get(self._module), errors) if m is not None]
        name, right = self._source.error(kind, message, near)
        line = message.partition("\n")[0][:_SHOWN]
        if self._modelled:  # which model it was is nothing to the test
            asked = [calling.name for key, (calling, _) in self._seen.effects.items() if _REPLY.fullmatch(key)]
            line = line.removeprefix(f"{asked[-1]} " if asked else "")
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

    # -- what it is given -----------------------------------------------------------------------------------------

    def _context(self, view: View, roster: Roster, types: TypeTable) -> dict[str, Code]:
        seen, a = self._seen, self._seen.activation
        given: dict[str, Code] = {"inputs": listed([self._given(i) for i in seen.inputs])}
        if a.slots and list(a.slots) != implied_slots(self._agent, seen.inputs):
            given["slots"] = literal(list(a.slots))
        if not self._contextual:
            return given
        told = briefing(view, seen, self._agent, roster, types)
        past = [p for p in told.artifacts if known(p.payload)]
        self._left_out = len(told.artifacts) - len(past)
        self._told = replace(told, artifacts=tuple(past))
        if past:
            given["past"] = listed([self._given(p) for p in past])
        if told.instructions:
            given["instructions"] = listed([self._source.payload(i) for i in told.instructions])
        if told.tools is not None and self._modelled:
            given["tools"] = literal(list(told.tools))
        if self._served is not None:
            given["served"] = literal(self._served)
        recorded = self._recorded()
        recorded.update({key: literal(value) for key, value in seen.answers.items()})
        if recorded:
            given["recorded"] = by_key(recorded)
        plain = {
            "attempt": (seen.claim.attempt, 1), "feedback": (self._said_before(), ""),
            "run": (a.run, "main"), "activation": (a.seq, 0), "repeats": (seen.first, 0),
            "now": (seen.claim.at, 0.0),
        }  # fmt: skip
        given.update({name: literal(value) for name, (value, usual) in plain.items() if value != usual})
        return {**given, "strict": "True"}

    def _said_before(self) -> str:
        """What it was told of an attempt before."""
        return self._feedback if self._modelled else self._seen.feedback

    # -- what its model was asked ---------------------------------------------------------------------------------

    @property
    def _served(self) -> list[str] | None:
        """The tools that it called of servers; None = it has no servers."""
        if not any(isinstance(tool, ToolSource) for tool in self._agent.means.tools):
            return None
        own = {getattr(t, "__name__", "") for t in self._agent.means.tools if not isinstance(t, ToolSource)}
        called: dict[str, None] = {}
        for key, (_, done) in self._seen.effects.items():
            if _REPLY.fullmatch(key) and done.outcome == "done":
                calls = Reply.model_validate_json(done.payload).tool_calls
                called |= {c.name: None for i, c in enumerate(calls, 1) if f"{key}/tool/{i}" in self._seen.effects}
        return sorted(called.keys() - own)

    def _prompt(self) -> list[str]:
        """What the model would be asked first today, by lines; whether that is what it was asked is noted."""
        seen = self._seen
        ctx = context(
            inputs=seen.inputs, past=self._told.artifacts, instructions=self._told.instructions, tools=self._told.tools,
            served=self._served, attempt=seen.claim.attempt, feedback=self._feedback, run=seen.activation.run,
            activation=seen.activation.seq, now=seen.claim.at, slots=seen.activation.slots,
        )  # fmt: skip
        try:
            request = prompt(self._agent, ctx)
        except Exception:  # noqa: BLE001  users' code: what it raises is what the body raises, too
            return []
        first = next((c for key, (c, _) in seen.effects.items() if key.startswith("model/") and c.seq > self._refused_at
                      and _REPLY.fullmatch(key)), None)  # fmt: skip
        if first is not None and self._served is None:
            asked = request.model_copy(update={"model": first.name})
            self._asked_otherwise = digest_of_call((asked,), {}) != first.digest
        return str(request).split("\n")

    def _several(self) -> str:
        """The models that stand for several that are not the agent's own."""
        best_of = (self._agent.means.ask or Ask()).best_of
        talks = max((int((m[1] or "-1")[1:]) for key in self._seen.effects if (m := _TALK.match(key))), default=1)
        if not self._modelled or self._agent.means.model is not None or talks <= best_of:
            return ""
        return f", model=[{self._source.imported('stigmergy.models', 'Scripted')}([])] * {talks // best_of}"

    def _recorded(self) -> dict[str, Code]:
        """The effects, by key; of a model's replies those since its outputs were last refused, counted from 1."""
        effects = self._seen.effects
        if not self._modelled:
            return {key: self._effect(*e) for key, e in effects.items()}
        after = self._refused_at
        old = Counter(
            key.partition("/")[0] for key, e in effects.items() if _REPLY.fullmatch(key) and e[0].seq <= after
        )
        found: dict[str, Code] = {}
        for key, (calling, called) in effects.items():
            talk, _, rest = key.partition("/")
            number, *inside = rest.split("/")
            if _TALK.fullmatch(talk) and calling.seq > after:
                new = "/".join([talk, str(int(number) - old[talk]), *inside])
                found[new] = self._reply(called) if _REPLY.fullmatch(key) else self._effect(calling, called)
            elif not _TALK.fullmatch(talk):
                found[key] = self._effect(calling, called)
        return found

    def _reply(self, called: ev.Called) -> Code:
        """What a model answered; what it cost is not compared."""
        if called.outcome == "failed":
            return self._error(called)
        reply = Reply.model_validate_json(called.payload)
        said = {name: self._source.value(value) for name, value in (
            ("text", reply.text), ("tool_calls", list(reply.tool_calls)), ("finish", reply.finish),
        ) if value != Reply.model_fields[name].get_default() and value != []}  # fmt: skip
        return call(self._source.imported(Reply.__module__, "Reply"), **said)

    def _given(self, a: Artifact[Any]) -> Code:
        payload = self._source.payload(a.payload)
        if not self._envelopes:
            return payload
        options: dict[str, Code] = {"id": literal(a.id)}
        usual = {"producer": "outside", "cause": 0, "root": a.id, "run": "main", "key": None, "depth": 0}
        for name, value in usual.items():
            if getattr(a, name) != value:
                options[name] = literal(getattr(a, name))
        if a.tags:
            options["tags"] = literal(list(a.tags))
        if a.priority != "medium" or hasattr(a.payload, "priority"):
            options["priority"] = literal(a.priority)
        if a.visibility is not None:
            v = a.visibility
            self._source.imported("stigmergy.blackboard.events", "Visibility")
            fields = {f: getattr(v, f) for f in ("agents", "labels", "tenant", "after")}
            options["visibility"] = call("Visibility", **{f: literal(x) for f, x in fields.items() if x is not None})
        return call(self._testing("artifact"), payload, **options, at=literal(a.at))

    def _effect(self, calling: ev.Calling, called: ev.Called) -> Code:
        """What an effect gave: a result, an exception, or nothing for sleeps and charges."""
        if called.outcome == "failed":
            result: Code = self._error(called)
        elif not called.payload:
            return "None"
        else:
            result = literal(from_json(called.payload))
        return call(self._testing("Effect"), result, digest=text(calling.digest))

    def _error(self, called: ev.Called) -> Code:
        """The exception of an effect that failed."""
        error = called.error or ev.ErrorInfo("Exception", "")
        body = sys.modules.get(getattr(self._agent.means.function, "__module__", ""))
        near = [m for m in (model_errors, body, sys.modules.get(self._module)) if m is not None]
        name, right = self._source.error(error.type, error.message, near)
        return call(name, text(error.message if right else f"{error.type}: {error.message}"))
