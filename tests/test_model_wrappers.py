"""What stands before a model: another model, a cache, limits; and what may be given as a model."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmergy.agents.models.cached import Cached
from stigmergy.agents.models.errors import (
    BadKey,
    BadModel,
    BadRequest,
    ContextTooLong,
    ModelError,
    ModelTimeout,
    ModelUnreachable,
    ProviderFailed,
    RateLimited,
    UnknownPrice,
)
from stigmergy.agents.models.fallback import FallbackModel
from stigmergy.agents.models.litellm import LiteLLM
from stigmergy.agents.models.model import Estimate, Model, OnToken, OutputSchema, Reply, Request, ToolSpec, Usage
from stigmergy.agents.models.paced import Paced
from stigmergy.agents.models.recorded import Recorded
from stigmergy.agents.models.resolve import as_model
from stigmergy.agents.models.scripted import Scripted
from stigmergy.agents.models.tracing import Traced
from stigmergy.blackboard.clock import VirtualClock
from stigmergy.blackboard.errors import DefinitionError

pytestmark = pytest.mark.anyio

PAID = Reply(text="yes", usage=Usage(input=60, output=40), cost=Decimal("0.01"))


def asking(text: str = "a", **more: object) -> Request:
    return Request.model_validate({"model": "scripted", "messages": [{"role": "user", "text": text}], **more})


class Gated:
    """A model whose answers wait until they may come."""

    name = "gated"

    def __init__(self) -> None:
        self.asked = 0
        self.asking = anyio.Event()
        self.open = anyio.Event()

    def estimate(self, request: Request, /) -> Estimate:
        return Estimate(tokens=1)

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        self.asked += 1
        self.asking.set()
        await self.open.wait()
        return PAID


# Fallback


@pytest.mark.parametrize("error", [ModelUnreachable, ProviderFailed, RateLimited, BadKey])
async def test_the_next_model_answers_and_the_reply_says_so(error: type[ModelError]) -> None:
    first, second = Scripted([error("no")], name="first"), Scripted(["yes"], name="second")
    model = FallbackModel(first, second)
    assert model.name == "first or second"
    reply = await model.complete(asking())
    assert (reply.text, reply.model) == ("yes", "second")
    assert [r.model for r in (*first.asked, *second.asked)] == ["first", "second"]


@pytest.mark.parametrize("error", [BadRequest, ContextTooLong, UnknownPrice])
async def test_a_request_that_is_refused_as_it_is_goes_to_nobody_else(error: type[ModelError]) -> None:
    second = Scripted(["yes"])
    with pytest.raises(error):
        await FallbackModel(Scripted([error("no")]), second).complete(asking())
    assert second.asked == []


async def test_when_all_fail_the_error_names_all_and_is_worth_a_retry_if_one_of_them_is(tmp_path: Path) -> None:
    model = FallbackModel(Scripted([RateLimited("slow", retry_after=5)]), Scripted([BadKey("no key")]))
    with pytest.raises(RateLimited, match="all 2 models failed: slow; no key") as failed:
        await model.complete(asking())
    assert failed.value.retry_after == 5
    assert not failed.value.charged
    lost = FallbackModel(Scripted([ModelTimeout("slow")]), Recorded(None, tmp_path / "none.jsonl"))
    with pytest.raises(ModelTimeout) as timeout:
        await lost.complete(asking())
    assert timeout.value.charged
    with pytest.raises(BadKey, match=r"^no key$"):
        await FallbackModel(Scripted([BadKey("no key")])).complete(asking())


def test_the_estimate_is_the_dearest_one_and_unknown_if_one_is() -> None:
    cheap = Scripted([], estimate=Estimate(tokens=100, cost=Decimal(1)))
    dear = Scripted([], estimate=Estimate(tokens=10, cost=Decimal(2)))
    unknown = Scripted([], estimate=Estimate(tokens=10, cost=None))
    assert FallbackModel(cheap, dear).estimate(asking()) == Estimate(tokens=100, cost=Decimal(2))
    assert FallbackModel(cheap, unknown).estimate(asking()).cost is None
    with pytest.raises(BadModel):
        FallbackModel()


# Cached


@pytest.mark.req("S2.54")
async def test_the_same_request_is_bought_once_also_by_another_process(tmp_path: Path) -> None:
    model = Scripted([PAID], estimate=Estimate(tokens=9))
    cache = Cached(model, tmp_path / "cache")
    assert cache.estimate(asking()).tokens == 9
    assert await cache.complete(asking()) == PAID.model_copy(update={"model": "scripted"})
    pieces: list[str] = []
    for other in (cache, Cached(model, tmp_path / "cache")):
        reply = await other.complete(asking(), pieces.append)
        assert (reply.text, reply.reused, reply.cost, reply.usage) == ("yes", True, Decimal(0), Usage())
        assert other.estimate(asking()) == Estimate()
    assert len(model.asked) == 1
    assert pieces == ["yes", "yes"]


OTHERS: dict[str, object] = {
    "messages": [{"role": "user", "text": "b"}], "model": "other", "temperature": 0.1, "max_tokens": 9, "seed": 1,
    "options": {"top_p": 0.5}, "output": OutputSchema(name="X", json_schema={}),
    "tools": [ToolSpec(name="t", description="", parameters={})],
}  # fmt: skip


@pytest.mark.req("S2.54")
@pytest.mark.parametrize("field", OTHERS)
async def test_the_key_covers_every_part_of_a_request(tmp_path: Path, field: str) -> None:
    assert set(OTHERS) == set(Request.model_fields)
    cache = Cached(Scripted(["one", "two"]), tmp_path)
    await cache.complete(asking())
    assert (await cache.complete(asking("a", **{field: OTHERS[field]}))).text == "two"


async def test_equal_requests_at_the_same_time_are_bought_once(tmp_path: Path) -> None:
    model = Gated()
    cache = Cached(model, tmp_path)
    replies: list[Reply] = []

    async def ask() -> None:
        replies.append(await cache.complete(asking()))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(ask)
        await model.asking.wait()
        model.open.set()
    assert model.asked == 1
    assert sum(reply.cost or 0 for reply in replies) == Decimal("0.01")


async def test_failures_are_not_cached_and_a_damaged_or_deleted_file_counts_as_missing(tmp_path: Path) -> None:
    cache = Cached(Scripted([ProviderFailed("no"), "one", "two", "three"]), tmp_path)
    with pytest.raises(ProviderFailed):
        await cache.complete(asking())
    assert (await cache.complete(asking())).text == "one"
    (file,) = tmp_path.rglob("*.json")
    file.write_text(file.read_text()[:10])
    assert (await cache.complete(asking())).text == "two"
    file.unlink()
    assert (await cache.complete(asking())).text == "three"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [file.name]


# Paced


@pytest.mark.req("S3.67")
async def test_requests_a_minute_are_kept_after_the_first_burst() -> None:
    clock = VirtualClock()
    start, times = clock.now(), list[float]()
    model = Paced(Scripted(lambda request: "x"), requests=6, clock=clock)
    for _ in range(10):
        await model.complete(asking())
        times.append(clock.now() - start)
    assert times == pytest.approx([0, 0, 0, 0, 0, 0, 10, 20, 30, 40])


@pytest.mark.req("S3.67")
@given(
    sizes=st.lists(st.integers(min_value=1, max_value=400), min_size=1, max_size=30),
    pauses=st.lists(st.floats(min_value=0, max_value=90), min_size=30, max_size=30),
)
async def test_tokens_a_minute_are_never_more_than_two_allowances_in_any_minute(
    sizes: list[int], pauses: list[float]
) -> None:
    """A bucket that is full at the start gives one allowance at once and another within the minute."""
    clock = VirtualClock()
    estimates = {str(n): size for n, size in enumerate(sizes)}
    spent: list[tuple[float, int]] = []

    def answer(request: Request) -> Reply:
        size = estimates[request.messages[0].text]
        spent.append((clock.now(), size))
        return Reply(usage=Usage(input=size))

    class Counting(Scripted):
        def estimate(self, request: Request, /) -> Estimate:
            return Estimate(tokens=estimates[request.messages[0].text])

    model = Paced(Counting(answer), tokens=400, clock=clock)
    for n, pause in zip(range(len(sizes)), pauses, strict=False):
        await model.complete(asking(str(n)))
        clock.advance(pause)
    for begin, _ in spent:
        assert sum(size for at, size in spent if begin <= at < begin + 60) <= 800 + 1e-3


async def test_tokens_are_settled_by_what_the_reply_says() -> None:
    clock = VirtualClock()
    start = clock.now()
    expecting = Estimate(tokens=1000)
    model = Paced(Scripted(lambda request: PAID, estimate=expecting), tokens=1000, clock=clock)
    await model.complete(asking())  # expected 1000, used 100: 900 are left
    await model.complete(asking())
    assert clock.now() - start == pytest.approx(6)
    huge = Paced(Scripted(["x"], estimate=Estimate(tokens=10**9)), tokens=10, clock=clock)
    await huge.complete(asking())  # would never be possible otherwise


async def test_nobody_asks_before_the_time_that_the_provider_named() -> None:
    clock = VirtualClock()
    start = clock.now()
    model = Paced(Scripted([RateLimited("slow", retry_after=30), "yes", "yes"]), clock=clock)
    with pytest.raises(RateLimited):
        await model.complete(asking())
    assert clock.now() == start
    await model.complete(asking())
    assert clock.now() - start == pytest.approx(30)
    await model.complete(asking())
    assert clock.now() - start == pytest.approx(30)


async def test_who_waits_can_be_cancelled_and_was_never_asked_for() -> None:
    inner = Scripted(lambda request: "x")
    model = Paced(inner, requests=1)  # on the machine's clock: the second waits a minute
    await model.complete(asking())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(model.complete, asking())
        tasks.start_soon(model.complete, asking())
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert len(inner.asked) == 1


@pytest.mark.parametrize("limits", [{"requests": 0}, {"tokens": -1}, {"requests": "many"}, {"tokens": float("nan")}])
def test_limits_that_let_nothing_through_are_refused(limits: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match="more than zero a minute"):
        Paced(Scripted([]), **limits)  # type: ignore[arg-type]


# What `model=` may be


@pytest.mark.req("S3.84")
def test_a_name_is_a_model_of_litellm_and_a_model_is_itself() -> None:
    model = as_model("openai/gpt-4.1")
    assert isinstance(model, LiteLLM)
    assert model.name == "openai/gpt-4.1"
    scripted = Scripted([])
    assert as_model(scripted) is scripted


def test_what_stands_before_a_model_takes_a_name_and_refuses_what_is_none(tmp_path: Path) -> None:
    def all_of(model: Any) -> list[Callable[[], Model]]:
        return [
            lambda: Cached(model, tmp_path), lambda: Paced(model), lambda: FallbackModel(model), lambda: Traced(model),
            lambda: Recorded(model, tmp_path / "x.jsonl", mode="once"),
        ]  # fmt: skip

    for made in all_of("openai/gpt-4.1"):
        assert made().name == "openai/gpt-4.1"
    for made in all_of(3):
        with pytest.raises(BadModel, match="model=3 is no model"):
            made()


@pytest.mark.parametrize("value", ["", " openai/gpt", "a question", 3, None, Scripted, object()])
def test_anything_else_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(BadModel, match=r'"openai/gpt-4\.1"') as refused:
        as_model(value)
    assert "\n" not in str(refused.value)
