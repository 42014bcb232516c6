"""Known ways to get the core wrong, each as a change of one function in this process; nothing on disk is touched.

A mutant is a sentence about what is wrong and a way to make it so. The suites must notice every one of them.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.agenda import Agenda
from stigmergy.blackboard.core.decider import Decider
from stigmergy.blackboard.core.decision import Decision
from stigmergy.blackboard.core.fold import Folded
from stigmergy.blackboard.core.matching import Index
from stigmergy.blackboard.core.observers import Observers
from stigmergy.blackboard.core.places import Places
from stigmergy.blackboard.core.running import Running
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.shell.attempts import Attempts
from stigmergy.blackboard.shell.bodies import Bodies
from stigmergy.blackboard.shell.desk import LocalDesk
from stigmergy.blackboard.shell.owner import Owner
from stigmergy.blackboard.shell.past import RecentPast
from stigmergy.blackboard.shell.writer import Writer
from stigmergy.board import Blackboard
from stigmergy.opening import OpenBoard

Apply = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """Something wrong: `name` says what, `apply` makes it so."""

    name: str
    apply: Apply


def rewrite(owner: type, method: str, old: str, new: str) -> Apply:
    """Replace a text that occurs once in the source of a method."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        source = textwrap.dedent(inspect.getsource(owner.__dict__[method]))
        assert source.count(old) == 1, f"{owner.__name__}.{method} has changed; write this mutant anew"
        names: dict[str, Any] = {}
        code = compile(source.replace(old, new), f"<mutant of {owner.__name__}.{method}>", "exec")
        exec(code, sys.modules[owner.__module__].__dict__, names)
        patch.setattr(owner, method, names[method])

    return apply


def drop_surplus(patch: pytest.MonkeyPatch) -> None:
    """When a group fires, what else waits in it is forgotten."""
    original = State._activated

    def activated(self: State, e: ev.Activated) -> None:
        original(self, e)
        if e.slots and not e.redriven:
            for place in list(self.waiting.get(e.subscription, {}).values()):
                if (place.scope, place.key) == (e.scope, e.key):
                    self._unplace(e.subscription, place.id)
                    self._drop(place.id)

    patch.setattr(State, "_activated", activated)


def react_again_after_a_fold(patch: pytest.MonkeyPatch) -> None:
    """What components see while a log is folded, they react to once more when the board is opened."""
    original = Decider.open
    rewrite(
        Folded, "apply", "_, _, faults = observers.step(",
        "_, _, faults = observers.remembered(",
    )(patch)  # fmt: skip

    def remembered(self: Observers, *args: Any) -> Any:
        seen, may_react, faults = self.step(*args)
        self.__dict__.setdefault("again", []).extend((c, seen) for c in may_react)
        return seen, may_react, faults

    def open_(self: Decider, *args: Any) -> Any:
        for component, seen in self.observers.__dict__.pop("again", []):
            self._reactions.append((component, seen, self._origin(component.name, seen.event, None)))
        return original(self, *args)

    patch.setattr(Observers, "remembered", remembered, raising=False)
    patch.setattr(Decider, "open", open_)


CORE = (
    # -- what broke when the design was first tried -----------------------------------------------------------------
    Mutant("D2 the state advances and then a component's exception gets out", rewrite(
        Decision, "_react", "states[name], seen))\n        except Exception as",
        "states[name], seen))\n        except KeyError as")),
    Mutant("D3 a crash counts against everybody who ran", rewrite(
        Running, "_fail", 'kind == "crashed" and a.alone', 'kind == "crashed"')),
    Mutant("D8 what is held is never offered again", rewrite(
        Running, "_ask_again", "held = self._held.get(name, {})", "held = {}")),
    Mutant("D10 ids are dealt again after a crash", rewrite(
        Decider, "open", "gap = 0 if clean else window", "gap = 0")),
    Mutant("D19 components react again to what they see in a fold", react_again_after_a_fold),
    Mutant("D19 components react to what they published themselves", rewrite(
        Observers, "step", "if name in self.reacting and producer != name:", "if name in self.reacting:")),
    # -- claims and workers ---------------------------------------------------------------------------------------
    Mutant("a late worker is not noticed", rewrite(
        Running, "_held_by_worker", "and a.fence == fence", "")),
    Mutant("the agenda ignores concurrency", rewrite(
        Agenda, "_free", "self._busy[agent] < self._limit[agent]", "True")),
    Mutant("the agenda ignores priority and age", rewrite(
        Agenda, "add", "(a.at - WEIGHT[a.priority], a.id, limited)", "(-a.at, -a.id, limited)")),
    Mutant("suspects run beside others", rewrite(
        Decision, "_queue_ready", "elif a.suspect:", "elif False:")),
    Mutant("closed runs go on", rewrite(
        Running, "_next", ".closed:", ".closed and False:")),
    Mutant("an orderly stop uses up an attempt", rewrite(
        State, "_failed", 'elif e.kind != "interrupted":', "else:")),
    Mutant("a guard that broke lets everybody pass", rewrite(
        Running, "_admission", 'return cp.Deny("the component failed, so nothing is admitted")', "return cp.ADMIT")),
    Mutant("a mended component stays out of service", rewrite(
        Observers, "recall", "if fault.fingerprint in (\"\", self.versions.get(fault.component)):", "if True:")),
    # -- offers and places ----------------------------------------------------------------------------------------
    Mutant("the surplus of a join is dropped", drop_surplus),
    Mutant("nothing expires", rewrite(
        Decider, "_ring", 'elif timer.kind == "group":', 'elif timer.kind == "never":')),
    Mutant("a join fires in the wrong order", rewrite(
        Places, "_fire_if_full", "inputs += ids[: slot.count]", "inputs = ids[: slot.count] + inputs")),
    Mutant("complete groups that fire together are in the wrong order", rewrite(
        Places, "_fire", "inputs += ids[n * slot.count : (n + 1) * slot.count]",
        "inputs = ids[n * slot.count : (n + 1) * slot.count] + inputs")),
    Mutant("the newest fill the places first", rewrite(
        State, "_place", "slots[place.slot].append(place.id)", "slots[place.slot].insert(0, place.id)")),
    Mutant("an agent triggers itself", rewrite(
        Index, "match", "artifact.producer == agent.name and not agent.self_trigger", "False")),
    Mutant("visibility is ignored", rewrite(
        Index, "_try", "artifact.visibility is not None and not visible(", "False and not visible(")),
    Mutant("an idempotency key is ignored", rewrite(
        RecentPast, "key", "return (event.seq, event.digest) if event is not None else None", "return None")),
    Mutant("a reviewer is offered the artifact again when it is released", rewrite(
        Decider, "_was_offered", "held.by == place.agent.name", "False")),
    Mutant("a reviewer that comes late is not offered what is held for it", rewrite(
        Decider, "_late", "to_offer += [", "_ = [")),
    Mutant("what was offered while an agent was away is lost", rewrite(
        Decider, "_enroll", "for artifact, subscriptions in offered:", "for artifact, subscriptions in ():")),
    # -- work, time, memory ---------------------------------------------------------------------------------------
    Mutant("who waits for failed work waits for ever", rewrite(
        Places, "_end", "if item is not None and item.failed:", "if False:")),
    Mutant("a work item is done when the first of its consumers is", rewrite(
        State, "_settle_works", "if work.open == 0 and not work.failed:", "if not work.failed:")),
    Mutant("time goes back", rewrite(
        Decision, "_begin", "now if now > state.at else state.at", "now")),
    Mutant("a finished artifact is kept for ever", rewrite(
        State, "_forget_unneeded", "alive.refs <= 0", "alive.refs < 0")),
    Mutant("an artifact is forgotten while somebody waits with it", rewrite(
        State, "_matched", "alive.refs += 1", "pass")),
    Mutant("a dump forgets who waits for which work", rewrite(
        State, "load", "s.blocked_on.setdefault(work, []).append(a.id)", "pass")),
)  # fmt: skip
"""What the simulation must notice."""

SHELL = (
    Mutant("D1 a body starts before its claim is durable", rewrite(
        Attempts, "_may_begin", "if durable >= fence:", "if True:")),
    Mutant("D1 an effect starts before it is announced on disk", rewrite(
        LocalDesk, "calling", "await owner.durable(event.seq)", "pass")),
    Mutant("D11 speculation has no bound", rewrite(
        Attempts, "_claim", " or writer.behind > self.window", "")),
    Mutant("speculation begins before the log shows that somebody is there", rewrite(
        Attempts, "_may_begin", "durable < self._shown or", "")),
)  # fmt: skip
"""What the boards on a slow disk must notice."""

INTERLEAVINGS = (
    Mutant("D1 an effect starts before it is announced on disk", rewrite(
        LocalDesk, "calling", "await owner.durable(event.seq)", "pass")),
    Mutant("a publish is acknowledged before it is durable", rewrite(
        Owner, "publish", "await self.durable(last)", "pass")),
    Mutant("watchers see what is not durable", rewrite(
        Blackboard, "watch", "owner.reader.events(after, owner.writer.durable)", "owner.reader.events(after)")),
    Mutant("rest is announced while a retry starts", rewrite(
        Owner, "_until_quiet", "if self._at_rest() or self._stopping:", "if True:")),
    Mutant("a run ends though somebody published in its last moment", rewrite(
        Owner, "run", "if not self.bodies.count and len(self.decider.state.activations) == rest:", "if rest >= 0:")),
    Mutant("an attempt that is stopped before it begins loses its place", rewrite(
        Bodies, "cancel", "if fence in self.given_up:", "if False:")),
    Mutant("a body that is stopped loses its place", rewrite(
        Bodies, "ended", "elif fence in self.given_up:", "elif False:")),
    Mutant("who is cancelled while closing leaves the board half open", rewrite(
        OpenBoard, "close", "await through(closing)", "await closing")),
    Mutant("a watch ends before the last event", rewrite(
        Blackboard, "watch", "self._left", "self._closed")),
    Mutant("nobody wakes those who wait when the loop ends under the writer", rewrite(
        Writer, "_go_on", "self._start()", "pass")),
)  # fmt: skip
"""What random schedules must notice."""
