"""What a run came to: a value with the reason it ended, counts, costs, and everything that is left."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from html import escape
from textwrap import wrap

from pydantic import TypeAdapter

from stigmergy.blackboard.core.chain import Link
from stigmergy.blackboard.core.enrolment import RosterChange
from stigmergy.blackboard.core.ledger import Column, Ledger
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.core.tree import Tree
from stigmergy.blackboard.definitions import Limits, Subscription
from stigmergy.blackboard.errors import RunFailed, StigmergyError
from stigmergy.blackboard.events import ErrorInfo, Reason
from stigmergy.blackboard.reading.inventory import left_on, put_aside
from stigmergy.blackboard.reading.leftovers import MESSAGE, Leftover, Leftovers, PutAside, Unfinished, next_command
from stigmergy.blackboard.text import html_table, money, number, seconds, short, table

_SHOWN_BRANCHES = 20
_SHOWN_OF_A_KIND = 5
_WIDTH = 100
"""Characters of what is left that stand on one line; the rest goes on the next."""
_LIMITS = frozenset(f.name for f in fields(Limits))
_FINE: frozenset[Reason] = frozenset(("idle", "goal", "waiting"))
_REASONS: dict[Reason, tuple[str, str]] = {
    "idle": ("idle after", "nothing left to do"),
    "goal": ("goal reached after", ""),
    "budget": ("budget spent after", ""),
    "cancelled": ("cancelled after", ""),
    "waiting": ("waiting after", "only deadlines or people can go on"),
    "deadlock": ("deadlock after", "work waits for each other"),
    "component_failed": ("stopped after", "a component failed"),
    "broken": ("broken after", "the store could not be written"),
    "timeout": ("timeout after", ""),
}


class Recorded(StigmergyError):
    """An exception as the log recorded it; `info` has its type, message and traceback."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(f"{info.type}: {info.message}" + (f"\n{info.traceback.rstrip()}" if info.traceback else ""))
        self.info = info


@dataclass(frozen=True, slots=True)
class AgentLine:
    """One agent's part. `failed` are dead letters, `retries` failed attempts that were repeated; times in seconds per
    attempt."""

    name: str
    phase: str | None
    done: int
    failed: int
    skipped: int
    retries: int
    mean: float
    p95: float
    cost: Decimal
    tokens: int


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What happened on a board up to now, and what is left.

    Attributes:
        reason, detail: why it stopped; `timeout` and `budget` leave work that a next run goes on with.
        store: the file, or "memory".
        seconds: how long something ran, over all runs of this board.
        seeds, artifacts: published from outside; published by anyone.
        activations: all, of which `done` completed, `dead` are dead letters, `open` have not ended.
        failed_attempts: attempts that raised, timed out, crashed or were rejected; `retries` were repeated.
        cost: dollars, failed calls included; `limits` are what was allowed.
        estimated: the part of the cost that was booked as expected for `unanswered` effects: whether they happened, and
            what they really cost, is not known.
        unpriced: effects that were paid for and whose price nobody knows: they are not in the cost.
        tree: how the work began to branch.
        roster_changes: what this board's agents and components are otherwise than when it was last run; only in the
            report of a run.
        chain: what components did about failures, one for each that did something.
    """

    reason: Reason
    detail: str
    store: str
    seconds: float
    seeds: int
    artifacts: int
    activations: int
    done: int
    dead: int
    cancelled: int
    skipped: int
    blocker_failed: int
    open: int
    retries: int
    failed_attempts: int
    cost: Decimal
    tokens: int
    agents: tuple[AgentLine, ...]
    left: Leftovers
    put_aside: tuple[PutAside, ...] = ()
    tree: Tree = field(default_factory=Tree)
    limits: Limits = field(default_factory=Limits)
    estimated: Decimal = Decimal(0)
    unanswered: int = 0
    unpriced: int = 0
    roster_changes: tuple[RosterChange, ...] = ()
    chain: tuple[Link, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it ended well: idle, at its goal or waiting, with no dead letter and no failed component."""
        failures = self.dead or self.blocker_failed or self.left.failed_components
        return self.reason in _FINE and not failures

    def raise_for_failures(self) -> None:
        """Raise unless `ok`.

        Raises:
            RunFailed: with the first dead letter's error as its cause.
        """
        if self.ok:
            return
        first = next((d for d in self.left.dead_letters if d.error is not None), None)
        broken = next((c.error for c in self.left.failed_components if c.error is not None), None)
        error = first.error if first is not None else broken
        what = (
            f" First: {first.line().rstrip('.')}." if first is not None else f" {self.detail}." if self.detail else ""
        )
        message = f"the run ended {self.reason} with {self._outcomes()}.{what} Read print(report) for all that is left."
        raise RunFailed(message) from (Recorded(error) if error is not None else None)

    def to_json(self) -> str:
        """The report as a JSON object; sums of money are strings."""
        text = _REPORT.dump_json(self, indent=2).decode()
        return text.replace("{", f'{{\n  "ok": {"true" if self.ok else "false"},', 1)

    # -- as text --------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        dead = f", {number(self.dead, 'dead letter')}" if self.dead else ""
        cost = f", {money(self.cost, places=2)}" if self.cost else ""
        activations = number(self.activations, "activation")
        return f"<Report {self.reason}: {activations}{dead}, {seconds(self.seconds)}{cost}>"

    def __str__(self) -> str:
        return self._text("FILE", self.store)

    def for_shell(self, target: str) -> str:
        """The report for somebody who ran `target` in a shell: commands name it, and a board in memory has none."""
        kept = self.store != "memory"
        text = self._text(target, self.store if kept else "")
        if self.left.count and not kept:
            text += "\n  nothing of this is kept: with --store run.db there is a command for each"
        return text

    def _text(self, target: str, store: str) -> str:
        parts = [
            [self.headline(), self._totals()], table(self._agents(), right=self._numbers()), self._branches(store),
            self._chain(), self._leftovers(target, store), self._put_aside(),
        ]  # fmt: skip
        if self.roster_changes:
            parts.append(["  since the last run", *(f"  {change}" for change in self.roster_changes)])
        return "\n\n".join("\n".join(part) for part in parts if part)

    def _repr_html_(self) -> str:
        agents, branches = self._agents(), self._branches(self.store)
        left = [[left.kind, left.line(), left.command(self.store)] for kind in self.left.by_kind() for left in kind]
        shown = left[: 4 * _SHOWN_OF_A_KIND]
        aside = [[p.outcome, p.line()] for p in self.put_aside[:_SHOWN_OF_A_KIND]]
        return "".join((
            f"<p><b>{escape(self.headline())}</b><br>{escape(self._totals().strip())}</p>",
            html_table(agents) if agents else "",
            f"<pre>{escape(chr(10).join(branches))}</pre>" if branches else "",
            f"<p>{number(self.left.count, 'thing')} left</p>{html_table(shown, head=False)}" if shown else "",
            f"<p>put aside</p>{html_table(aside, head=False)}" if aside else "",
        ))  # fmt: skip

    def headline(self) -> str:
        """The first line: why it stopped, and after how long."""
        words, otherwise = _REASONS[self.reason]
        detail = short(self.detail, MESSAGE) or otherwise
        if self.reason == "timeout":
            detail = f"{number(self.open, 'activation')} not finished"
        return f"{words} {seconds(self.seconds)}" + (f": {detail}" if detail else "")

    def _outcomes(self) -> str:
        counts = [
            (self.done, "done", "done"), (self.dead, "dead letter", "dead letters"),
            (self.skipped, "skipped", "skipped"), (self.cancelled, "cancelled", "cancelled"),
            (self.blocker_failed, "blocker failed", "blocker failed"), (self.open, "open", "open"),
        ]  # fmt: skip
        return ", ".join(number(n, one, many) for n, one, many in counts if n) or "nothing done"

    def _totals(self) -> str:
        parts = [f"{number(self.seeds, 'seed')}, {number(self.artifacts, 'artifact')}"]
        ended = f": {self._outcomes()}" if self.activations else ""
        parts.append(number(self.activations, "activation") + ended)
        if self.retries:
            parts.append(number(self.retries, "retry", "retries"))
        if self.cost or self.limits.cost is not None:
            of = f" of {money(Decimal(self.limits.cost))}" if self.limits.cost is not None else ""
            parts.append(money(self.cost) + of)
        if self.unanswered:
            parts.append(f"{money(self.estimated)} of it estimated: {number(self.unanswered, 'effect')} without answer")
        if self.unpriced:
            parts.append(f"{number(self.unpriced, 'call')} without a price")
        if self.tokens:
            parts.append(f"{self.tokens:,} tokens")
        return "  " + "   ".join(parts)

    def _agents(self) -> list[list[str]]:
        if not self.agents:
            return []
        head = ["agent", "phase", "done", "failed", "skipped", "mean", "p95", "cost"]
        rows = [
            [
                a.name, a.phase or "", _count(a.done), _count(a.failed), _count(a.skipped),
                seconds(a.mean) if a.done + a.failed + a.retries else "-",
                seconds(a.p95) if a.done + a.failed + a.retries else "-", money(a.cost) if a.cost else "-",
            ]
            for a in self.agents
        ]  # fmt: skip
        kept = [i for i in range(len(head)) if i == 0 or any(row[i] not in ("", "-") for row in rows)]
        return [[row[i] for i in kept] for row in (head, *rows)] if len(kept) > 1 else []

    def _numbers(self) -> list[int]:
        head = self._agents()[:1] or [[]]
        return [i for i, word in enumerate(head[0]) if word not in ("agent", "phase")]

    def _branches(self, store: str) -> list[str]:
        more = "board.artifacts()" if store == "memory" else next_command(store, "show") + " --tree" if store else ""
        return table(self.tree.rows({a.name: a.phase for a in self.agents}, more))

    def _leftovers(self, target: str, store: str) -> list[str]:
        if not self.left.count:
            return []
        rows = []
        listed = 0
        for kind in self.left.by_kind():
            listed += len(kind[:_SHOWN_OF_A_KIND])
            for left in kind[:_SHOWN_OF_A_KIND]:
                line, *more_lines = wrap(left.line(), _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
                rows.append((left.kind, line, self._next(left, target, store)))
                rows += [("", text, "") for text in more_lines]
        more = self.left.count - listed
        if more:
            rows.append(("", f"… {more:,} more", "report.left" if store == "memory" else ""))
        return [f"  {number(self.left.count, 'thing')} left", *table(rows)]

    def _next(self, left: Leftover, target: str, store: str) -> str:
        """What to do about it; what a limit stopped goes on only under a higher one."""
        command = left.command(store).replace(" FILE ", f" {shlex.quote(target)} ")
        if not isinstance(left, Unfinished) or left.gone or self.reason != "budget" or store in ("", "memory"):
            return command
        limit = self.detail.partition(" ")[0]
        return f"{command} --limit {limit}=…" if limit in _LIMITS else command

    def _chain(self) -> list[str]:
        rows = [(link.name, _did(link)) for link in self.chain]
        return ["  components", *table(rows)] if rows else []

    def _put_aside(self) -> list[str]:
        rows = [(p.outcome, p.line()) for p in self.put_aside]
        if len(rows) > _SHOWN_OF_A_KIND:
            rows = [*rows[:_SHOWN_OF_A_KIND], ("", f"… {len(rows) - _SHOWN_OF_A_KIND:,} more reasons")]
        return ["  put aside", *table(rows)] if rows else []


_REPORT = TypeAdapter(Report)


def report_of(
    ledger: Ledger,
    state: State,
    *,
    store: str,
    ref: Callable[[int], str],
    limits: Limits | None = None,
    subscriptions: Mapping[str, Subscription] | None = None,
    reason: Reason | None = None,
    detail: str = "",
    roster_changes: tuple[RosterChange, ...] = (),
) -> Report:
    """The report of what was folded so far; nothing in it changes afterwards.

    Args:
        store: the file, or "memory", for the commands it names.
        ref: the name of an artifact that is no longer in the state: `Type@12`.
        reason, detail: why it stopped, if that is not the last thing on the log.
    """
    if reason is None:
        reason, detail = _last_reason(ledger)
    return Report(
        reason, detail, store, ledger.seconds, ledger.seeds, ledger.artifacts, ledger.activations, ledger.done,
        ledger.dead, ledger.cancelled, ledger.skipped, ledger.blocker_failed, ledger.open, ledger.retries,
        ledger.failed_attempts, ledger.cost, ledger.tokens, tuple(_line(c) for c in ledger.agents.values()),
        left_on(state, ledger, ref, subscriptions), put_aside(ledger),
        ledger.growth.branches(_SHOWN_BRANCHES), limits or Limits(), ledger.estimated, ledger.unanswered,
        ledger.unpriced, roster_changes, tuple(replace(link) for link in ledger.chain.links.values()),
    )  # fmt: skip


def _last_reason(ledger: Ledger) -> tuple[Reason, str]:
    """Why the log ends where it does."""
    if ledger.busy_since is not None:
        return "waiting", "the log ends in mid-run"
    if ledger.reason is None or (ledger.reason == "idle" and ledger.open):
        return ("waiting", "not everything has run") if ledger.open else ("idle", "nothing has run")
    return ledger.reason, ledger.detail


def _line(c: Column) -> AgentLine:
    mean = c.spent / c.timed if c.timed else 0.0
    p95 = c.quantile(0.95) if c.timed > 1 else mean  # quantiles are counted in bins, wider than one value is exact
    return AgentLine(c.name, c.phase, c.done, c.dead, c.skipped, c.retries, mean, p95, c.cost, c.tokens)


def _did(link: Link) -> str:
    did = (
        ("held back", link.held), ("published about", link.told), ("tried again", link.tried_again),
        ("handed over", link.taken_over), ("gave up", link.given_up),
    )  # fmt: skip
    return ", ".join(f"{what} {n:,}" for what, n in did if n)


def _count(n: int) -> str:
    return f"{n:,}" if n else "-"
