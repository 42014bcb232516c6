"""Research with tools: a question becomes sub-questions, findings and a report. Run it: `python -m examples.research`.

The researchers read the pages in `examples/corpus`, with tools that are plain functions. What a finding names as its
source is a sentence of a page: that is checked in code, not asked for in a prompt.
With `--model openai/gpt-4.1` a model does it (`--base-url` for a server of your own); otherwise a script does, at
pretended prices. `--cost 0.02` shows what happens when the money ends: the last of it is kept for the report.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, TypeAdapter

from stigmergy import Ask, Blackboard, Budget, Limits, Retry, Roster, StigmergyError
from stigmergy.models import Estimate, LiteLLM, Price, Reply, Request, Scripted, ToolCall, Usage
from stigmergy.testing import asked, outputs

CORPUS = Path(__file__).parent / "corpus"
TRIES = Retry(attempts=3, backoff=1)
ASK = Ask(max_tokens=1_500)
FREE = Price("0", "0")
"""What a server of one's own costs."""


class Question(BaseModel):
    """What somebody wants to know."""

    text: str


class SubQuestion(BaseModel):
    """One part of a question, which can be answered by itself."""

    text: str


def _noted(name: str) -> str:
    """Refuse what nobody can have noted: the model is told, and nothing is published."""
    page, _, number = name.partition(":")
    if page not in _pages() or not number.isdecimal() or not 0 < int(number) <= len(_sentences(page)):
        raise ValueError(f"there is no note {name!r}. Cite what the tool `note` gave.")
    return name


Note = Annotated[str, AfterValidator(_noted)]


class Finding(BaseModel):
    """The answer to a sub-question, with the notes that it rests on, such as "ants:3"."""

    question: str
    answer: str
    notes: list[Note]


class Article(BaseModel):
    """The answer to the whole question, for people; it names its notes in brackets, such as [ants:3]."""

    title: str
    text: str


# -- the tools ---------------------------------------------------------------------------------------------------------


class Hit(BaseModel):
    """A sentence that was found, and its page."""

    page: str
    sentence: str


def search(words: str, limit: int = 3) -> list[Hit]:
    """Find the sentences of the library that have most of these words."""
    wanted = _stems(words)
    found = [(len(wanted & _stems(s)), Hit(page=page, sentence=s)) for page in _pages() for s in _sentences(page)]
    best = sorted((f for f in found if f[0]), key=lambda f: (-f[0], f[1].page))
    return [hit for _, hit in best[:limit]]


def read_page(page: str) -> str:
    """Read a whole page of the library."""
    if page not in _pages():
        raise LookupError(f"there is no page {page!r}, but {', '.join(_pages())}")
    return (CORPUS / f"{page}.md").read_text(encoding="utf-8")


def note(page: str, sentence: str) -> str:
    """Note a sentence of a page, word for word, and get the name under which a finding can cite it."""
    sentences = _sentences(page) if page in _pages() else []
    if sentence not in sentences:
        raise ValueError(f"page {page!r} does not say that. Note a whole sentence of it, word for word.")
    return f"{page}:{sentences.index(sentence) + 1}"


def sentence_of(name: str) -> str:
    """What was noted under this name."""
    page, _, number = name.partition(":")
    return _sentences(page)[int(number) - 1]


def _pages() -> list[str]:
    return sorted(path.stem for path in CORPUS.glob("*.md"))


def _sentences(page: str) -> list[str]:
    lines = (CORPUS / f"{page}.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _stems(text: str) -> set[str]:
    """Its words, without the commonest and without what English hangs on to them."""
    words = re.findall(r"[a-z]{4,}", text.lower())
    return {re.sub(r"(ing|ed|es|s)$", "", word) for word in words} - {"what", "when", "with", "that", "doe", "have"}


# -- the agents --------------------------------------------------------------------------------------------------------


def team(model: str = "", base_url: str = "", cost: str = "1.00") -> Roster:
    """The three agents; `stigmergy prompt examples/research.py:team researcher …` shows what they are asked.

    Args:
        model: as litellm writes it; "" = the script.
        base_url: of a server of one's own that speaks the OpenAI chat API; it costs nothing.
        cost: dollars that a run may take; a fifth of them is kept for the writer.
    """
    answering = LiteLLM(model, api_base=base_url or None, price=FREE if base_url else None) if model else SCRIPT
    limits = Limits(cost=cost, activations=40)
    budget = Budget(cost=cost, per="run", reserve_for="writer", reserve=str(Decimal(cost) / 5))
    roster = Roster(model=answering, components=[budget], limits=limits, concurrency=4)
    (
        roster.agent("planner").limits(retry=TRIES).model(ask=ASK)
        .description("Divides a question into sub-questions that can be answered one by one from a small library.")
        .consumes(Question)
        .publishes(SubQuestion, fan_out=(1, 5))
    )  # fmt: skip
    (
        roster.agent("researcher").limits(retry=TRIES).model(ask=ASK)
        .description(
            "Answers a sub-question from the library and from nothing else: search, read the page, note the sentences "
            "that the answer rests on, and cite them. If the library does not say it, the finding says so."
        )
        .tools(search, read_page, note)
        .consumes(SubQuestion)
        .publishes(Finding, fan_out=1)
    )  # fmt: skip
    (
        roster.agent("writer").limits(retry=TRIES).model(ask=ASK)
        .description("Writes the article that answers the question, from the findings alone, with their notes.")
        .consumes(Finding, batch=20, within="idle")  # all there are when nobody can find more
        .publishes(Article, fan_out=1)
    )  # fmt: skip
    return roster


# -- the script that answers when no model is named --------------------------------------------------------------------

PRICE = Price("2", "8")
QUESTION = "How do insects build and decide together without a plan, and what did machines learn from it?"
PARTS = [
    "How do ants choose the shorter way?",
    "How does the work itself direct termites?",
    "Is the dance of bees stigmergy?",
    "Why does evaporation matter to algorithms?",
    "How did experts meet on a blackboard?",
]


def _answer(request: Request) -> Reply:
    about = asked(request, Question, SubQuestion, Finding)
    said = _said(about.inputs, about.told)
    calls = (said,) if isinstance(said, ToolCall) else ()
    text = "" if isinstance(said, ToolCall) else outputs(*said)
    read = sum(len(message.text) for message in request.messages)
    usage = Usage(input=read // 4, output=len(text) // 4 + 20)
    return Reply(text=text, tool_calls=calls, usage=usage, cost=PRICE.cost(usage))


def _said(inputs: Sequence[BaseModel], told: Sequence[str]) -> ToolCall | Sequence[BaseModel]:
    match inputs[0]:
        case Question():
            return [SubQuestion(text=part) for part in PARTS]
        case SubQuestion(text=question):
            return _researched(question, told)
    findings = sorted((each for each in inputs if isinstance(each, Finding)), key=lambda f: PARTS.index(f.question))
    lines = [f"{each.answer} [{', '.join(each.notes)}]" for each in findings]
    return [Article(title="Work that directs the worker", text="\n".join(lines))]


def _researched(question: str, told: Sequence[str]) -> ToolCall | Sequence[BaseModel]:
    """Search, then read the page of the best hit, then note its sentence, then answer with it."""
    if not told:
        return _call("search", words=question)
    hit = TypeAdapter(list[Hit]).validate_json(told[0])[0]
    match len(told):
        case 1:
            return _call("read_page", page=hit.page)
        case 2:
            return _call("note", page=hit.page, sentence=hit.sentence)
    return [Finding(question=question, answer=hit.sentence, notes=[told[2]])]


def _call(name: str, **arguments: str) -> ToolCall:
    return ToolCall(id=name, name=name, arguments=json.dumps(arguments))


SCRIPT = Scripted(_answer, name="script", estimate=Estimate(tokens=1_000, cost=Decimal("0.003")))


# -- the program -------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m examples.research", description=(__doc__ or "").partition("\n")[0])
    made.add_argument("question", nargs="?", default=QUESTION, help="needs a model; the library is small")
    made.add_argument("--model", default="", help="as litellm writes it: openai/gpt-4.1, anthropic/claude-sonnet-4-5")
    made.add_argument("--base-url", default="", help="of your own server: it speaks the OpenAI chat API and is free")
    made.add_argument("--cost", default="1.00", help="dollars that the run may take (default 1.00)")
    made.add_argument("--store", type=Path, help="board file (.db); the same command goes on where it was stopped")
    return made


async def research(roster: Roster, question: str, store: Path | None) -> tuple[bool, str]:
    """Answer a question, or go on with it: whether all went well, and what to tell people."""
    async with Blackboard(store, roster=roster) as board:
        await board.publish(Question(text=question), key="question")
        report = await board.run_until_idle()
        failed = [f"{d.agent}@{d.id}: {d.error.message}" for d in board.dead_letters() if d.error]
        parts = [str(report), *failed]
        notes = sorted({name for finding in board.artifacts(Finding).payloads for name in finding.notes})
        for article in board.artifacts(Article).payloads:
            cited = [f"[{name}] {sentence_of(name)}" for name in notes if name in article.text]
            parts += [f"{article.title}\n\n{article.text}", "\n".join(cited)]
        return report.ok, "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if something is left undone, or 2 after one line about what was wrong."""
    options = parser().parse_args(arguments)
    if not options.model and options.question != QUESTION:
        print("without a model only the question of the script is answered; name one with --model", file=sys.stderr)
        return 2
    try:
        roster = team(options.model, options.base_url, options.cost)
        ok, text = asyncio.run(research(roster, options.question, options.store))
    except StigmergyError as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
