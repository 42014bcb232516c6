"""The three phases, answered by a language model: `python -m examples.phases --model openai/gpt-4.1`.

The workflow of `examples/auth.py`, in which nobody says what an agent does: only what it is for, what it waits for and
what it may publish. With `--base-url http://127.0.0.1:11434/v1` a server of your own is asked.
Without `--model` a script answers, at pretended prices, and nothing leaves this machine.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from stigmergy import (
    PHASES,
    AnalysisResult,
    Ask,
    Blackboard,
    Implementation,
    Limits,
    NestedWork,
    PhaseContextProvider,
    Retry,
    Roster,
    StigmergyError,
    ValidationResult,
    WorkDiscovery,
)
from stigmergy.models import LiteLLM, Price, Reply, Request, Scripted, Usage
from stigmergy.testing import asked, outputs

TASK = "Build an authentication system with OAuth and JWT"
TRIES = Retry(attempts=3, backoff=1)
ASK = Ask(max_tokens=4_000)
FREE = Price("0", "0")
"""What a server of one's own costs."""


def team(model: str = "", base_url: str = "", cost: str = "1.00") -> Roster:
    """The three agents; `stigmergy prompt examples/phases.py:team analyzer …` shows what they are asked.

    Args:
        model: as litellm writes it; "" = the script.
        base_url: of a server of one's own that speaks the OpenAI chat API; it costs nothing.
        cost: dollars that a run may take.
    """
    answering = LiteLLM(model, api_base=base_url or None, price=FREE if base_url else None) if model else SCRIPT
    roster = Roster(
        model=answering, context=PhaseContextProvider(PHASES), components=[NestedWork()],
        limits=Limits(cost=cost, activations=60),
    )  # fmt: skip
    (
        roster.agent("analyzer").phase("analysis").limits(retry=TRIES).model(ask=ASK)
        .description(
            "Understands work and plans it. Publish one AnalysisResult, and for each part that can be built by itself "
            'one WorkDiscovery of the phase "implementation".'
        )
        .consumes(WorkDiscovery, where={"phase": "analysis"})
        .publishes(AnalysisResult, fan_out=1)
        .publishes(WorkDiscovery, fan_out=(0, 5))
    )  # fmt: skip
    (
        roster.agent("implementer").phase("implementation").limits(retry=TRIES).model(ask=ASK)
        .description("Builds one part: says in a few sentences how, and which files and tests it takes.")
        .consumes(WorkDiscovery, where={"phase": "implementation"})
        .publishes(Implementation, fan_out=1)
    )  # fmt: skip
    (
        roster.agent("validator").phase("validation").limits(retry=TRIES).model(ask=ASK)
        .description(
            "Checks what was built, and looks further. A great improvement that nobody asked for, and that is not on "
            'the board yet, is a WorkDiscovery of the phase "analysis"; mostly there is none.'
        )
        .consumes(Implementation)
        .publishes(ValidationResult, fan_out=1)
        .publishes(WorkDiscovery, fan_out=(0, 1))
    )  # fmt: skip
    return roster


def task(text: str = TASK) -> WorkDiscovery:
    """The one piece of work that comes from outside."""
    return WorkDiscovery(description=text, phase="analysis", done_definition="There is a plan for every part of it")


# -- the script that answers when no model is named --------------------------------------------------------------------

PRICE = Price("2", "8")
CACHING = "Caching verified tokens could speed up all API routes"
PARTS = {
    TASK: ["OAuth login", "JWT sessions", "Role checks"],
    CACHING: ["Token cache for all routes"],
}


def _answer(request: Request) -> Reply:
    about = asked(request, WorkDiscovery, Implementation)
    text = outputs(*_published(about.inputs[0]))
    told = sum(len(message.text) for message in request.messages)
    usage = Usage(input=told // 4, output=len(text) // 4)
    return Reply(text=text, usage=usage, cost=PRICE.cost(usage))


def _published(work: BaseModel) -> list[BaseModel]:
    match work:
        case WorkDiscovery(phase="analysis", description=wanted):
            tasks = [
                WorkDiscovery(
                    description=f"Implement: {part}", phase="implementation", discovered_by="analyzer",
                    done_definition="It is written, and its tests pass",
                )
                for part in PARTS[wanted]
            ]  # fmt: skip
            return [AnalysisResult(plan=f"Build in parallel: {', '.join(PARTS[wanted])}", approved=True), *tasks]
        case WorkDiscovery(description=wanted):
            part = wanted.removeprefix("Implement: ")
            name = part.lower().replace(" ", "_")
            return [Implementation(summary=part, files_created=[f"{name}.py"], tests_written=[f"test_{name}.py"])]
        case Implementation(summary="JWT sessions"):
            found = WorkDiscovery(
                description=CACHING, phase="analysis", priority="high", discovered_by="validator",
                done_definition="There is a plan for a cache, or a reason against it",
            )  # fmt: skip
            return [ValidationResult(passed=True), found]
    return [ValidationResult(passed=True)]


SCRIPT = Scripted(_answer, name="script")


# -- the program -------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m examples.phases", description=(__doc__ or "").partition("\n")[0])
    made.add_argument("task", nargs="?", default=TASK, help="what is to be done; needs a model")
    made.add_argument("--model", default="", help="as litellm writes it: openai/gpt-4.1, anthropic/claude-sonnet-4-5")
    made.add_argument("--base-url", default="", help="of your own server: it speaks the OpenAI chat API and is free")
    made.add_argument("--cost", default="1.00", help="dollars that the run may take (default 1.00)")
    made.add_argument("--store", type=Path, help="board file (.db); the same command goes on where it was stopped")
    return made


async def work(roster: Roster, text: str, store: Path | None) -> tuple[bool, str]:
    """Run the task to its end, or go on with it: whether all went well, and what to tell people."""
    async with Blackboard(store, roster=roster) as board:
        await board.publish(task(text), key="task")
        report = await board.run_until_idle()
        failed = [f"{d.agent}@{d.id}: {d.error.message}" for d in board.dead_letters() if d.error]
        last = board.artifacts(ValidationResult)[-1:]
        why = ["", "Where the last validation came from:", str(board.why(last[0].id))] if last else []
        return report.ok, "\n".join([str(report), *failed, *why])


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if something is left undone, or 2 after one line about what was wrong."""
    options = parser().parse_args(arguments)
    if not options.model and options.task != TASK:
        print("without a model only the task of the script can be done; name one with --model", file=sys.stderr)
        return 2
    try:
        roster = team(options.model, options.base_url, options.cost)
        ok, text = asyncio.run(work(roster, options.task, options.store))
    except StigmergyError as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
