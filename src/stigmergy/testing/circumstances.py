"""What the body of a recorded activation was given, as source: its inputs, its context, the results of its effects."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from stigmergy.agents.agent import Agent
from stigmergy.agents.context import digest_of_call
from stigmergy.agents.models.model import Reply
from stigmergy.agents.prompting.answer import last_refusal
from stigmergy.agents.prompting.prompt import Ask
from stigmergy.agents.prompting.tools import ToolSource
from stigmergy.agents.roster import Roster
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing
from stigmergy.blackboard.opaque import Opaque
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.reading.view import View
from stigmergy.testing.by_hand import context, implied_slots, prompt
from stigmergy.testing.recording import Recording, briefing
from stigmergy.testing.source import Code, Source, by_key, call, listed, literal, text

_TALK = re.compile(r"model(-\d+)?")
_REPLY = re.compile(_TALK.pattern + r"/\d+")


class Circumstances:
    """What one attempt was given.

    Attributes:
        modelled: a model answers for the agent.
        contextual: the body, its model or its middleware has a context.
        left_out: how many artifacts of the context have types that are not known here; `context` counts them.
        asked_otherwise: its model would be asked something else today; `prompt` finds out.
    """

    def __init__(self, seen: Recording, agent: Agent, source: Source) -> None:
        self._seen = seen
        self._agent = agent
        self._source = source
        parameters = agent.means.call.parameters
        self.modelled = agent.means.function is None
        self.contextual = self.modelled or any(p.kind == "context" for p in parameters) or bool(agent.means.middleware)
        self.left_out = 0
        self.asked_otherwise = False
        self._envelopes = self.contextual or any(p.envelope for p in parameters)
        self._told = Briefing()
        self._refused_at, self._feedback = last_refusal(seen.failures, seen.feedback)

    def context(self, view: View, roster: Roster, types: TypeTable) -> dict[str, Code]:
        """The arguments of `context`."""
        seen, a = self._seen, self._seen.activation
        given: dict[str, Code] = {"inputs": listed([self._given(i) for i in seen.inputs])}
        if a.slots and list(a.slots) != implied_slots(self._agent, seen.inputs):
            given["slots"] = literal(list(a.slots))
        if not self.contextual:
            return given
        told = briefing(view, seen, self._agent, roster, types)
        past = [p for p in told.artifacts if not isinstance(p.payload, Opaque)]
        self.left_out = len(told.artifacts) - len(past)
        self._told = replace(told, artifacts=tuple(past))
        if past:
            given["past"] = listed([self._given(p) for p in past])
        if told.instructions:
            given["instructions"] = listed([self._source.payload(i) for i in told.instructions])
        if told.tools is not None and self.modelled:
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
        return self._feedback if self.modelled else self._seen.feedback

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

    def prompt(self) -> list[str]:
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
            self.asked_otherwise = digest_of_call((asked,), {}) != first.digest
        return str(request).split("\n")

    def models(self) -> str:
        """The models that stand for several that are not the agent's own."""
        best_of = (self._agent.means.ask or Ask()).best_of
        talks = max((int((m[1] or "-1")[1:]) for key in self._seen.effects if (m := _TALK.match(key))), default=1)
        if not self.modelled or self._agent.means.model is not None or talks <= best_of:
            return ""
        return f", model=[{self._source.imported('stigmergy.models', 'Scripted')}([])] * {talks // best_of}"

    def _recorded(self) -> dict[str, Code]:
        """The effects, by key; of a model's replies those since its outputs were last refused, counted from 1."""
        effects = self._seen.effects
        if not self.modelled:
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
        return call(self._source.testing("artifact"), payload, **options, at=literal(a.at))

    def _effect(self, calling: ev.Calling, called: ev.Called) -> Code:
        """What an effect gave: a result, an exception, or nothing for sleeps and charges."""
        if called.outcome == "failed":
            result: Code = self._error(called)
        elif not called.payload:
            return "None"
        else:
            result = literal(from_json(called.payload))
        return call(self._source.testing("Effect"), result, digest=text(calling.digest))

    def _error(self, called: ev.Called) -> Code:
        """The exception of an effect that failed."""
        error = called.error or ev.ErrorInfo("Exception", "")
        name, right = self._source.error(error.type, self._agent)
        return call(name, text(error.message if right else f"{error.type}: {error.message}"))

    @property
    def last_model(self) -> str:
        """The name of the model that was asked last; "" if none was."""
        names = [calling.name for key, (calling, _) in self._seen.effects.items() if _REPLY.fullmatch(key)]
        return names[-1] if names else ""
