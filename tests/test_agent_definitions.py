"""Defining agents: from signatures and fluently, what is refused, and what a board later reads of them."""

import functools
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from stigmergy.agents.agent import Agent, FunctionAgent
from stigmergy.agents.call import Parameter
from stigmergy.agents.roster import Roster
from stigmergy.agents.signature import ContextMark
from stigmergy.agents.subscribe import ancestor
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.component import Component
from stigmergy.blackboard.core.fingerprints import fingerprint, shape
from stigmergy.blackboard.core.visibility import after, labelled, private
from stigmergy.blackboard.definitions import ONCE, Retry, Subscription
from stigmergy.blackboard.errors import (
    BadComponent,
    BadFilter,
    BadSignature,
    BadType,
    DefinitionError,
    DuplicateAgent,
    NoBody,
    NotFound,
    TypeClash,
    UnknownField,
)
from stigmergy.components import Consensus
from tests import quoted_signatures


class Order(BaseModel):
    order_id: str = "o"
    n: int = 0


class Payment(BaseModel):
    order_id: str = "o"


class Stock(BaseModel):
    order_id: str = "o"


class Shipment(BaseModel):
    order_id: str = "o"


class Note(BaseModel):
    text: str = ""


class Context(ContextMark):
    """Stands for the real one, which is found by the same base."""


@pytest.fixture
def roster() -> Roster:
    return Roster()


def envelopes(*payloads: BaseModel) -> list[Artifact[Any]]:
    return [
        Artifact(i, payload, type(payload).__name__, 1, "outside", 0, i, "r", (), "medium", None, 0.0)
        for i, payload in enumerate(payloads, 1)
    ]


def consumed(agent: Agent) -> list[list[tuple[str, int, bool]]]:
    return [[(slot.type_name, slot.count, slot.optional) for slot in s.slots] for s in agent.subscriptions]


def published(agent: Agent) -> list[str]:
    return [output.type_name for output in agent.outputs]


# -- signatures ----------------------------------------------------------------------------------------------------


def test_a_typed_function_is_an_agent(roster: Roster) -> None:
    @roster.agent
    async def packer(order: Order) -> Shipment:
        """Packs what was ordered.

        Carefully.
        """
        return Shipment(order_id=order.order_id)

    assert packer.name == "packer"
    assert packer.spec.description == "Packs what was ordered."
    assert consumed(packer) == [[("Order", 1, False)]]
    assert published(packer) == ["Shipment"]
    assert packer.subscriptions[0].id == "packer/0"
    assert packer.subscriptions[0].single
    assert packer.means.is_async
    assert packer.spec.place.startswith("test_agent_definitions.py:")
    assert packer.spec.retry == ONCE
    assert roster.agents == (packer,)


def test_calling_a_function_agent_calls_the_function(roster: Roster) -> None:
    @roster.agent(name="doubler")
    def double(order: Order) -> Order:
        return Order(n=2 * order.n)

    assert double(Order(n=2)).n == 4
    assert double.name == "doubler"
    assert double.__name__ == "double"
    assert not double.means.is_async


def test_a_union_is_two_subscriptions_and_several_parameters_are_a_join(roster: Roster) -> None:
    @roster.agent
    async def either(x: Order | Payment) -> None: ...

    @roster.agent(by="order_id", within=60)
    async def both(order: Order, payment: Payment) -> Shipment | Note | None: ...

    @roster.agent
    async def mixed(order: Order | Stock, payment: Payment) -> None: ...

    assert consumed(either) == [[("Order", 1, False)], [("Payment", 1, False)]]
    assert [s.id for s in either.subscriptions] == ["either/0", "either/1"]
    assert published(either) == []
    assert consumed(both) == [[("Order", 1, False), ("Payment", 1, False)]]
    assert both.subscriptions[0].by == "order_id"
    assert both.subscriptions[0].within == 60.0
    assert published(both) == ["Shipment", "Note"]
    assert [[slot[0] for slot in s] for s in consumed(mixed)] == [["Order", "Payment"], ["Stock", "Payment"]]


def test_an_optional_parameter_need_not_come(roster: Roster) -> None:
    @roster.agent(by="order_id", within=timedelta(minutes=1))
    async def ship(order: Order, stock: Stock | None) -> Shipment:
        raise NotImplementedError

    assert consumed(ship) == [[("Order", 1, False), ("Stock", 1, True)]]
    order = envelopes(Order(n=3))
    assert ship.means.call.arguments(order, (1, 0), None) == ([Order(n=3), None], {})


def test_a_list_is_a_batch(roster: Roster) -> None:
    @roster.agent(batch=3, within="idle")
    async def grade(orders: list[Order]) -> list[Note]:
        raise NotImplementedError

    @roster.agent
    async def usual(orders: Sequence[Artifact[Order]]) -> list[Note]:
        raise NotImplementedError

    assert grade.subscriptions[0].batch
    assert consumed(grade) == [[("Order", 3, False)]]
    assert grade.subscriptions[0].within == "idle"
    assert consumed(usual) == [[("Order", 32, False)]]
    inputs = envelopes(Order(n=1), Order(n=2))
    assert grade.means.call.arguments(inputs, (2,), None) == ([[Order(n=1), Order(n=2)]], {})
    assert usual.means.call.arguments(inputs, (2,), None) == ([inputs], {})


def test_the_context_is_found_by_its_type_wherever_it_stands(roster: Roster) -> None:
    @roster.agent
    async def first(ctx: Context, order: Order) -> None: ...

    @roster.agent
    async def named(order: Order, *, ctx: Context) -> None: ...

    context, inputs = Context(), envelopes(Order())
    assert first.means.call.arguments(inputs, (), context) == ([context, Order()], {})
    assert named.means.call.arguments(inputs, (), context) == ([Order()], {"ctx": context})


def test_an_envelope_is_given_instead_of_the_payload_when_asked_for(roster: Roster) -> None:
    @roster.agent
    async def look(order: Artifact[Order | Payment]) -> None: ...

    assert look.means.call.parameters == (Parameter("order", "envelope", 0, 0, True),)
    (order,) = envelopes(Order())
    assert look.means.call.arguments([order], (), None) == ([order], {})
    assert [slots[0][0] for slots in consumed(look)] == ["Order", "Payment"]


def test_one_type_twice_is_waited_for_twice(roster: Roster) -> None:
    @roster.agent
    async def compare(one: Order, payment: Payment, other: Order) -> None: ...

    assert consumed(compare) == [[("Order", 2, False), ("Payment", 1, False)]]
    inputs = envelopes(Order(n=1), Order(n=2), Payment())
    assert compare.means.call.arguments(inputs, (2, 1), None) == ([Order(n=1), Payment(), Order(n=2)], {})


def test_parameters_with_other_defaults_are_left_alone(roster: Roster) -> None:
    @roster.agent
    async def tune(order: Order, depth: int = 3, *, rate=0.1) -> None: ...  # type: ignore[no-untyped-def]

    assert tune.means.call.arguments(envelopes(Order()), (), None) == ([Order()], {})


def annotated(returns: object) -> Callable[..., Any]:
    async def body(order: Order) -> Any:
        raise NotImplementedError

    body.__annotations__["return"] = returns
    return body


@pytest.mark.parametrize(
    ("returns", "types"),
    [
        (None, []),
        (Shipment, ["Shipment"]),
        (Shipment | None, ["Shipment"]),
        (Shipment | Note, ["Shipment", "Note"]),
        (list[Shipment | Note], ["Shipment", "Note"]),
        (Sequence[Shipment] | None, ["Shipment"]),
        (tuple[Shipment, list[Note]], ["Shipment", "Note"]),
        (tuple[Note, ...], ["Note"]),
        ("list[Shipment] | Note", ["Shipment", "Note"]),
    ],
)
def test_the_return_annotation_says_what_is_published(roster: Roster, returns: object, types: list[str]) -> None:
    assert published(roster.agent(annotated(returns))) == types


@pytest.mark.parametrize(
    ("returns", "reason"),
    [
        (Any, "does not say what it publishes"),
        (BaseModel, "does not say what it publishes"),
        (list[Any], "does not say what it publishes"),
        (list[Artifact[Order]], "Return the payloads"),
        (int, "has int, which is no artifact type"),
        (dict[str, Order], "which is no artifact type"),
        (Iterator[Order], "which is no artifact type"),
    ],
)
def test_a_return_annotation_that_names_no_types_is_refused(roster: Roster, returns: object, reason: str) -> None:
    with pytest.raises(BadSignature, match=f'agent "body".*{reason}'):
        roster.agent(annotated(returns))
    assert roster.agents == ()


def test_a_missing_return_annotation_is_refused(roster: Roster) -> None:
    async def body(order: Order): ...  # type: ignore[no-untyped-def]

    with pytest.raises(BadSignature, match=r"Write -> A.*test_agent_definitions\.py:\d+$"):
        roster.agent(body)


async def takes_int(order: Order, n: int) -> None: ...
async def takes_any(order: Any) -> None: ...
async def takes_base(order: BaseModel) -> None: ...
async def takes_nothing() -> None: ...
async def takes_context_only(ctx: Context) -> None: ...
async def takes_many(*orders: Order) -> None: ...
async def takes_batch_and_more(orders: list[Order], payment: Payment) -> None: ...
async def takes_groups(pairs: list[tuple[Order, Payment]]) -> None: ...
async def takes_both_ways(order: Order | Artifact[Payment]) -> None: ...
async def takes_only_optional(order: Order | None) -> None: ...
async def takes_optional_twice(order: Order, other: Order | None) -> None: ...
async def takes_after_default(order: Order, n: int = 1, payment: Payment = Payment()) -> None: ...  # noqa: B008
async def takes_different(first: Order | Payment, other: Order) -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (takes_int, "parameter 'n' is int, which is no artifact type"),
        (takes_any, "parameter 'order' does not say which artifact"),
        (takes_base, "parameter 'order' is BaseModel"),
        (takes_nothing, "consumes nothing"),
        (takes_context_only, "consumes nothing"),
        (takes_many, "parameter 'orders' takes any number"),
        (takes_batch_and_more, "parameter 'orders' is a batch, so it must be the only input"),
        (takes_groups, "parameter 'pairs' takes groups"),
        (takes_both_ways, "mixes payloads and envelopes"),
        (takes_after_default, "parameter 'n' is no input but stands before 'payment'"),
        (takes_different, "bring different arguments"),
    ],
)
def test_a_signature_that_cannot_be_read_is_refused_by_name(
    roster: Roster, function: Callable[..., Any], reason: str
) -> None:
    with pytest.raises(BadSignature, match=reason):
        roster.agent(function)


@pytest.mark.parametrize("function", [takes_only_optional, takes_optional_twice])
def test_something_must_come_for_certain(roster: Roster, function: Callable[..., Any]) -> None:
    with pytest.raises(DefinitionError, match="optional"):
        roster.agent(function)


def test_annotations_as_strings_may_name_models_of_the_defining_function(roster: Roster) -> None:
    agent, local = quoted_signatures.define_with_a_local_model(roster)
    assert consumed(agent) == [[("Local", 1, False)]]
    assert agent.outputs[0].model is local


def test_a_name_that_cannot_be_resolved_is_an_error_that_names_the_parameter(roster: Roster) -> None:
    with pytest.raises(BadSignature, match=r"parameter 'thing' cannot be read .*Nowhere"):
        roster.agent(quoted_signatures.names_an_unknown_type)


def test_wrapped_and_partial_functions_keep_their_signature(roster: Roster) -> None:
    async def work(order: Order, rate: float) -> Note:
        raise NotImplementedError

    @functools.wraps(takes_annotated)
    def wrapper(*args: Any) -> Any:
        return takes_annotated(*args)

    assert published(roster.agent(name="half")(functools.partial(work, rate=0.5))) == ["Note"]
    wrapped = roster.agent(wrapper)
    assert consumed(wrapped) == [[("Order", 1, False)]]
    assert wrapped.means.is_async


async def takes_annotated(order: Order) -> Note:
    raise NotImplementedError


def test_one_agent_may_be_defined_on_two_rosters(roster: Roster) -> None:
    first = roster.agent(takes_annotated)
    again = Roster().agent(first)
    assert consumed(again) == consumed(first)
    assert published(again) == published(first)


# -- options ---------------------------------------------------------------------------------------------------------


def test_options_reach_the_spec_alike_in_both_forms(roster: Roster) -> None:
    retry = Retry(attempts=3)
    decorated = roster.agent(
        name="one", retry=retry, timeout=timedelta(seconds=5), concurrency=2, self_trigger=True, pure=True,
        isolate="process", phase="analysis", labels={"ops"}, tenant="acme", model="m",
    )(takes_annotated)  # fmt: skip
    fluent = (
        roster.agent("two").limits(retry=retry, timeout=5, concurrency=2).self_trigger().pure().isolate("process")
        .phase("analysis").labels("ops").tenant("acme").model("m").consumes(Order).publishes(Note).body(takes_annotated)
    )  # fmt: skip
    for agent in (decorated, fluent):
        spec = agent.spec
        assert (spec.retry, spec.timeout, spec.concurrency) == (retry, 5.0, 2)
        assert (spec.self_trigger, spec.pure, spec.phase) == (True, True, "analysis")
        assert (spec.labels, spec.tenant) == (frozenset({"ops"}), "acme")
        assert (agent.means.isolate, agent.means.model) == ("process", "m")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"retry": 3}, r"retry=Retry\(attempts=3\)"),
        ({"timeout": 0}, "timeout= is 0 s"),
        ({"timeout": "5"}, "timeout= is '5', which is no duration"),
        ({"concurrency": 0}, "concurrency=0; it is a whole number from 1"),
        ({"isolate": "moon"}, "isolate='moon' is not one of"),
        ({"within": 5}, "within= has no meaning for one artifact alone"),
        ({"by": "order_id"}, "by= has no meaning for one artifact alone"),
        ({"batch": 3}, r"batch= needs one list\[T\] parameter"),
        ({"name": ""}, "cannot name an agent"),
        ({"name": "outside"}, "cannot name an agent"),
        ({"name": "a@1"}, "cannot name an agent"),
        ({"name": "a\nb"}, "cannot name an agent"),
        ({"name": "\ud800"}, "cannot name an agent"),
    ],
)
def test_an_option_that_cannot_work_is_refused_where_it_is_written(
    roster: Roster, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DefinitionError, match=reason):
        roster.agent(**options)(takes_annotated)
    with pytest.raises(DefinitionError, match=r"agent\(\) takes no retries=\. Did you mean 'retry'\?"):
        roster.agent(retries=3)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match=r"agent\(\) takes no where=\. Say it fluently: agent\(name\)\.consumes"):
        roster.agent(where={"n": 1})  # type: ignore[call-overload]
    with pytest.raises(BadSignature, match="5 is no function"):
        roster.agent(5)  # type: ignore[call-overload]


def test_options_beside_a_name_are_refused_because_they_would_be_lost(roster: Roster) -> None:
    with pytest.raises(DefinitionError, match=r"phase= has no place here. Say it as \.phase\(…\)"):
        roster.agent("a", phase="x")  # type: ignore[call-overload]
    assert roster.agents == ()


# -- fluent ----------------------------------------------------------------------------------------------------------


def test_a_named_agent_takes_part_at_once_and_is_still_the_same_when_it_is_complete(roster: Roster) -> None:
    builder = roster.agent("analyzer")
    assert roster.find("analyzer") is builder
    builder.description("Analyzes").consumes(Order, where={"n": 1}).publishes(Note)
    assert roster.find("analyzer").spec.description == "Analyzes"
    assert published(roster.find("analyzer")) == ["Note"]
    assert roster.agents == (builder,)


def test_consumes_again_is_or_and_publishes_again_adds(roster: Roster) -> None:
    builder = roster.agent("a").consumes(Order).consumes(Payment).publishes(Note).publishes(Shipment)
    assert consumed(builder) == [[("Order", 1, False)], [("Payment", 1, False)]]
    assert published(builder) == ["Note", "Shipment"]
    assert [s.id for s in builder.subscriptions] == ["a/0", "a/1"]


def test_options_of_consumes_reach_the_subscription(roster: Roster) -> None:
    other = roster.agent("other")
    builder = roster.agent("a").consumes(
        Order, Order, Payment, by="order_id", within=60, window=5, scope="board", where={"order_id": "x"},
        producer=[other, "outside"], tags="ops", since="start",
    )  # fmt: skip
    (subscription,) = builder.subscriptions
    assert consumed(builder) == [[("Order", 2, False), ("Payment", 1, False)]]
    assert (subscription.by, subscription.within, subscription.window) == ("order_id", 60.0, 5)
    assert (subscription.scope, subscription.since, subscription.batch) == ("board", "start", False)
    for slot in subscription.slots:
        assert slot.producers == {"other", "outside"}
        assert slot.tags == {"ops"}
        assert slot.where.equals == (("order_id", ("x",)),)


def test_a_field_of_by_must_be_on_every_type(roster: Roster) -> None:
    with pytest.raises(UnknownField, match=r"joins Order by 'ordr_id'; .*Did you mean 'order_id'\?"):
        roster.agent("a").consumes(Order, Payment, by="ordr_id")
    with pytest.raises(UnknownField, match="joins Note by 'order_id'"):
        roster.agent("b").consumes(Order, Note, by="order_id")


def test_by_may_be_a_common_ancestor_or_a_function(roster: Roster) -> None:
    def number(order: object) -> int:
        return 1

    builder = roster.agent("a").consumes(Payment, Stock, by=ancestor(Order)).consumes(Payment, Stock, by=number)
    assert repr(builder) == (
        "Agent('a': (Payment & Stock by ancestor(Order)) | (Payment & Stock by number()) -> nothing)"
    )
    assert roster.types.names() == ["Order", "Payment", "Stock"]


def test_a_wrong_filter_names_agent_type_field_and_line(roster: Roster) -> None:
    with pytest.raises(UnknownField, match=r'agent "a" filters Order by \'m\'; .* test_agent_definitions\.py:\d+$'):
        roster.agent("a").consumes(Order, where={"m": 1})
    with pytest.raises(BadFilter, match=r"filters Order\.n by 'x'"):
        roster.agent("b").consumes(Order, where={"n": "x"})


@pytest.mark.parametrize(
    ("types", "options", "reason"),
    [
        ((), {}, "Name at least one type"),
        ((Order,), {"groups": 2}, "groups= has no meaning"),
        ((Order,), {"batch": 0}, "batch=0"),
        ((Order, Payment), {"batch": 3}, "batch= takes one type"),
        ((Order, Payment), {"by": 3}, "by=3; it is a field name, a plain function or ancestor"),
        ((Order, Payment), {"window": 0}, "window=0"),
        ((Order, Payment), {"within": "idel"}, "within= is 'idel', which is no duration"),
        ((Order, Payment), {"optional": [Stock]}, "optional type Stock must be listed once"),
        ((Order, Payment), {"optional": [Order, Payment]}, "must not be optional"),
        ((Order, Payment), {"groups": 2, "optional": [Payment]}, "complete groups only"),
        ((Order,), {"max_waiting": 3}, "max_waiting= has no meaning"),
        ((Order,), {"scope": "board"}, "scope= has no meaning"),
        (
            (Order, Payment),
            {"within": 10**400},
            "within= is beyond all time s. Give more than zero",
        ),
        ((Order, Payment), {"within": float("nan")}, "within= is nan s."),
        ((Order, Payment), {"within": 1, "optional": Payment}, r"optional=<class '.*Payment'>; it is a list of types"),
        ((Order, Payment), {"optional": [Payment]}, "Payment is optional, but nothing says how long it is waited for"),
        ((Order, Payment), {"by": takes_annotated}, "it is a field name, a plain function or ancestor"),
        ((Order,), {"producer": []}, r"producer=\[\] names nobody, so nothing would ever pass"),
        ((Order,), {"producer": ""}, "producer='' is no name"),
        ((Order,), {"producer": [None]}, "producer=None is no name"),
        ((Order,), {"tags": ""}, "tags='' is no name"),
        ((Order,), {"tags": 5}, "tags=5 is no name"),
        ((Order,), {"tags": ["ops", None]}, "tags=None is no name"),
        ((Order, Payment), {"max_waiting": 0}, "max_waiting=0"),
        ((Order,), {"batch": 5, "max_waiting": 3}, "max_waiting=3 is too little for the 5 artifacts of one activation"),
        ((Order, Payment), {"scope": "world"}, "scope='world' is not one of run, board"),
        ((Order,), {"since": "ever"}, "since='ever' is not one of now, start"),
        ((BaseModel,), {}, "BaseModel is no artifact type"),
    ],
)
def test_a_consumes_that_cannot_work_is_refused(
    roster: Roster, types: tuple[Any, ...], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DefinitionError, match=reason):
        roster.agent("a").consumes(*types, **options)
    assert roster.find("a").subscriptions == ()


def test_options_of_publishes_reach_the_output(roster: Roster) -> None:
    builder = roster.agent("a").publishes(
        Order, visibility=private("b"), tags=["x", "y"], fan_out=(1, 3), where={"n": 1}
    )
    builder.publishes(Note, fan_out=2, review_by=roster.agent("reviewer"))
    order, note = builder.outputs
    assert (order.visibility, order.tags, order.fan_out) == (private("b"), ("x", "y"), (1, 3))
    assert order.where.equals == (("n", (1,)),)
    assert (note.fan_out, order.review_by, note.review_by) == ((2, 2), "", "reviewer")


def test_a_publishes_that_cannot_work_is_refused(roster: Roster) -> None:
    builder = roster.agent("a").publishes(Shipment)
    with pytest.raises(DefinitionError, match="need exactly one type"):
        builder.publishes(Order, Note, tags="x")  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="need exactly one type"):
        builder.publishes(Order, Note, review_by="x")  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match=r"Order is to be reviewed and delayed by after\(\)"):
        builder.publishes(Order, review_by="x", visibility=after(5))
    with pytest.raises(DefinitionError, match="publishes Shipment twice"):
        builder.publishes(Shipment, visibility=labelled("x"))
    with pytest.raises(DefinitionError, match=r"fan_out=\(3, 1\) for Order cannot be met"):
        builder.publishes(Order, fan_out=(3, 1))
    with pytest.raises(DefinitionError, match="visibility='b' is none of private"):
        builder.publishes(Order, visibility="b")  # type: ignore[call-overload]
    with pytest.raises(BadType):
        builder.publishes(dict)  # type: ignore[type-var]
    assert published(builder) == ["Shipment"]


# -- bodies ----------------------------------------------------------------------------------------------------------


def test_a_body_takes_the_builders_place_in_the_roster(roster: Roster) -> None:
    builder = roster.agent("first")
    roster.agent("second")

    @builder.description("Does it").consumes(Order).publishes(Note).body
    async def work(order: Order, ctx: Context) -> list[Note]:
        return [Note(text=order.order_id)]

    assert isinstance(work, FunctionAgent)
    assert [agent.name for agent in roster.agents] == ["first", "second"]
    assert roster.find("first") is work
    assert work.spec.description == "Does it"
    assert [p.kind for p in work.means.call.parameters] == ["payload", "context"]


def test_a_body_may_take_the_context_alone_whatever_is_consumed(roster: Roster) -> None:
    async def handler(ctx: Context) -> list[Note | Shipment]:
        raise NotImplementedError

    builder = roster.agent("a").consumes(Order).consumes(Payment, Stock).consumes(Note, batch=3)
    agent = builder.publishes(Note, Shipment).body(handler)
    context = Context()
    assert agent.means.call.arguments(envelopes(Payment(), Stock()), (1, 1), context) == ([context], {})


def test_an_unannotated_body_is_believed(roster: Roster) -> None:
    agent = roster.agent("a").consumes(Order, Payment).publishes(Note).body(lambda order, payment: Note())
    inputs = envelopes(Order(), Payment())
    assert agent.means.call.arguments(inputs, (1, 1), None) == ([Order(), Payment()], {})
    assert published(agent) == ["Note"]


def test_without_publishes_the_return_annotation_of_the_body_counts(roster: Roster) -> None:
    agent = roster.agent("a").consumes(Order).body(takes_annotated)  # type: ignore[arg-type]
    assert published(agent) == ["Note"]


def test_complete_groups_arrive_as_tuples(roster: Roster) -> None:
    async def pairs(found: list[tuple[Order, Payment]]) -> None: ...

    agent = roster.agent("a").consumes(Order, Payment, groups=2).body(pairs)
    inputs = envelopes(Order(n=1), Payment(), Order(n=2), Payment())
    expected = [(Order(n=1), Payment()), (Order(n=2), Payment())]
    assert agent.means.call.arguments(inputs, (1, 1, 1, 1), None) == ([expected], {})


async def gives_too_much(order: Order) -> Note | Shipment:
    raise NotImplementedError


async def gives_base(order: Order) -> list[BaseModel]:
    raise NotImplementedError


async def takes_payment(payment: Payment) -> Note:
    raise NotImplementedError


async def takes_list(orders: list[Order]) -> Note:
    raise NotImplementedError


async def takes_two(order: Order, payment: Payment) -> Note:
    raise NotImplementedError


async def takes_unmarked_context(order: Order, ctx) -> Note:  # type: ignore[no-untyped-def]
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (gives_too_much, r"returns Shipment, but it publishes Note. Add it to .publishes\(\)"),
        (takes_payment, "parameter 'payment' is Payment, but Order arrives there"),
        (takes_list, r"parameter 'orders' is list\[Order\], but Order arrives there"),
        (takes_two, r"takes \(order, payment\), but gets \(Order\)"),
        (takes_unmarked_context, "Annotate the last as Context"),
        (takes_nothing, "its body takes nothing"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_naming_the_parameter(
    roster: Roster, function: Callable[..., Any], reason: str
) -> None:
    builder = roster.agent("a").consumes(Order).publishes(Note)
    with pytest.raises(BadSignature, match=f'agent "a".*{reason}'):
        builder.body(function)
    assert roster.find("a") is builder


def test_a_body_must_take_each_kind_of_what_arrives(roster: Roster) -> None:
    with pytest.raises(BadSignature, match=r"is Order, but Order \| Payment arrives there"):
        roster.agent("or").consumes(Order).consumes(Payment).body(takes_annotated)  # type: ignore[arg-type]
    with pytest.raises(BadSignature, match=r"is Order, but list\[Order\] arrives there"):
        roster.agent("batch").consumes(Order, batch=3).body(takes_annotated)  # type: ignore[arg-type]
    with pytest.raises(BadSignature, match=r"'payment' is Payment, but Payment \| None arrives there"):
        roster.agent("opt").consumes(Order, Payment, within=1, optional=[Payment]).body(takes_two)  # type: ignore[arg-type]
    with pytest.raises(BadSignature, match="bring different arguments"):
        roster.agent("mix").consumes(Order, Payment).consumes(Order, Order).body(takes_two)  # type: ignore[arg-type]
    assert published(roster.agent("loose").consumes(Order).publishes(Note).body(gives_base)) == ["Note"]  # type: ignore[arg-type]


def test_what_is_said_after_the_body_is_refused_because_it_would_be_lost(roster: Roster) -> None:
    builder = roster.agent("a").consumes(Order).publishes(Note)
    first = builder.body(takes_annotated)
    for late in (lambda: builder.phase("x"), lambda: builder.publishes(Order), lambda: builder.body(gives_base)):  # type: ignore[arg-type]
        with pytest.raises(DefinitionError, match="already has its body"):
            late()
    again = builder.body(takes_annotated)
    assert again is not first
    assert roster.find("a") is again


def test_calling_a_named_agent_says_how_to_give_it_a_body(roster: Roster) -> None:
    with pytest.raises(NoBody, match=r'agent "a" has no body yet.*@agent\(name="a"\)'):

        @roster.agent("a")  # type: ignore[operator]
        async def work(order: Order) -> None: ...


def test_an_agent_that_could_not_run_says_so_with_its_line(roster: Roster) -> None:
    bodiless = roster.agent("a").consumes(Order).publishes(Note)
    with pytest.raises(NoBody, match=r'"a" has neither a body nor a model\..*test_agent_definitions\.py:\d+$'):
        bodiless.validate(has_model=False)
    bodiless.validate(has_model=True)
    roster.agent("b").model("m").consumes(Order).publishes(Note).validate(has_model=False)
    with pytest.raises(BadSignature, match="consumes nothing"):
        roster.agent("c").publishes(Note).validate(has_model=True)
    with pytest.raises(BadSignature, match="publishes nothing, so its model has nothing to answer"):
        roster.agent("d").consumes(Order).validate(has_model=True)
    roster.agent("e").consumes(Order).tools(print).validate(has_model=True)
    roster.agent(takes_annotated).validate(has_model=False)


# -- the roster ------------------------------------------------------------------------------------------------------

CELL = """
@roster.agent
async def grade(order: Order) -> {returns}:
    raise NotImplementedError


roster.agent("reader").consumes(Order){more}
"""


def run_cell(roster: Roster, returns: str, more: str = "") -> None:
    source = CELL.format(returns=returns, more=more)
    names = {"roster": roster, "Order": Order, "Note": Note, "Shipment": Shipment, "__name__": "__main__"}
    exec(compile(source, f"<cell {hash(source)}>", "exec"), names)


def test_a_notebook_cell_that_is_run_again_replaces_its_agents_in_their_place(roster: Roster) -> None:
    run_cell(roster, "Note")
    run_cell(roster, "Note")
    run_cell(roster, "Shipment", ".publishes(Note)")
    assert [agent.name for agent in roster.agents] == ["grade", "reader"]
    assert published(roster.find("grade")) == ["Shipment"]
    assert published(roster.find("reader")) == ["Note"]


def test_two_agents_of_one_name_are_refused_naming_both_places(roster: Roster) -> None:
    roster.agent("takes_annotated")
    with pytest.raises(DuplicateAgent, match=r'Two are called "takes_annotated": .*py:\d+ and .*py:\d+\.'):
        roster.agent(takes_annotated)
    with pytest.raises(DuplicateAgent):
        roster.agent("takes_annotated")


def test_a_definition_in_a_loop_is_no_second_run_of_a_cell(roster: Roster) -> None:
    def define() -> None:
        @roster.agent
        async def work(order: Order) -> None: ...

    define()
    with pytest.raises(DuplicateAgent):
        define()
    with pytest.raises(DuplicateAgent):
        _ = [roster.agent("again") for _ in range(2)]


def test_an_unknown_agent_is_not_found_and_the_nearest_named(roster: Roster) -> None:
    roster.agent("analyzer")
    with pytest.raises(NotFound, match=r"no agent 'analyser'\. Did you mean 'analyzer'"):
        roster.find("analyser")


class Counter(Component[int]):
    publishes: ClassVar = (Note,)
    observes: ClassVar = (Shipment,)

    def start(self) -> int:
        return 0


class Forgetful(Component[int]):
    """Keeps state and does not say how it starts."""


class Stateless(Component):
    """Needs no start."""


def test_components_take_part_in_the_order_in_which_they_are_added() -> None:
    counter, other = Counter(), Stateless()
    roster = Roster(components=[counter])
    roster.add(other)
    assert roster.components == (counter, other)


def test_a_component_that_breaks_the_contract_is_refused(roster: Roster) -> None:
    with pytest.raises(BadComponent, match=r"Forgetful keeps state but has no start\(\)"):
        roster.add(Forgetful())
    with pytest.raises(BadComponent, match="Give an instance"):
        roster.add(Counter)  # type: ignore[arg-type]
    roster.add(Counter())
    with pytest.raises(BadComponent, match="'counter' is here already"):
        roster.add(Counter())
    with pytest.raises(DuplicateAgent, match="counter"):
        roster.agent("counter")


@pytest.mark.parametrize(
    "said", [{"observes": ("Order",)}, {"observes": Order}, {"publishes": Order}, {"publishes": (Order(),)}], ids=str
)
def test_a_component_names_classes_in_tuples(roster: Roster, said: dict[str, Any]) -> None:
    with pytest.raises(BadComponent, match=f"{next(iter(said))} = .* write a tuple of classes"):
        roster.add(type("Odd", (Component,), said)())


@pytest.mark.parametrize("name", ["", " ", "outside", "a@b", 3, None])
def test_a_component_has_a_name_that_can_be_shown_and_told_from_others(roster: Roster, name: Any) -> None:
    with pytest.raises(DefinitionError, match="cannot name a component"):
        roster.add(Consensus(options=["yes", "no"], voters=["a", "b"], name=name))
    assert roster.components == ()


def test_types_are_all_that_agents_and_components_mention() -> None:
    roster = Roster(components=[Counter()])
    roster.agent("a").consumes(Order, Payment).publishes(Stock)
    assert roster.types.names() == ["Note", "Order", "Payment", "Shipment", "Stock"]


def test_two_classes_of_one_name_with_other_fields_clash(roster: Roster) -> None:
    def other() -> type[BaseModel]:
        class Order(BaseModel):
            quite: str
            different: int

        return Order

    roster.agent("a").consumes(Order)
    roster.agent("b").consumes(other())
    with pytest.raises(TypeClash, match="two classes are called Order"):
        _ = roster.types


def test_a_roster_keeps_what_a_board_is_made_of() -> None:
    assert Roster(concurrency=None).concurrency == 8
    assert Roster(model="m", concurrency=2).model == "m"


# -- what is seen ----------------------------------------------------------------------------------------------------


def test_an_agent_reads_as_what_it_waits_for_and_gives(roster: Roster) -> None:
    ship = (
        roster.agent("ship")
        .consumes(Order, Payment, Stock, by="order_id", within=60, optional=[Stock])
        .publishes(Shipment)
    )
    assert repr(ship) == "Agent('ship': Order & Payment & Stock? by order_id within 60 s -> Shipment)"
    assert repr(roster.agent("or").consumes(Order).consumes(Payment).publishes(Note, Stock)) == (
        "Agent('or': Order | Payment -> Note | Stock)"
    )
    assert repr(roster.agent("many").consumes(Order, batch=32, within="idle")) == (
        "Agent('many': list[Order] of 32 within idle -> nothing)"
    )
    assert repr(roster.agent("twice").consumes(Order, Order, Note, groups=2, window=9)) == (
        "Agent('twice': 2 Order & Note window 9 in groups of 2 -> nothing)"
    )


def first(roster: Roster, name: str, *types: type[BaseModel], **options: Any) -> Subscription:
    builder: Any = roster.agent(name)
    found: Subscription = builder.consumes(*types, **options).subscriptions[0]
    return found


def test_the_shape_of_a_subscription_changes_with_its_places_only() -> None:
    def number(order: object) -> int:
        return 1

    base = shape(first(Roster(), "a", Order, Payment, by="order_id"))
    same = [
        first(Roster(), "a", Order, Payment, by="order_id", within=5, where={"order_id": "x"}),
        first(Roster(), "b", Order, Payment, by="order_id", tags="x", window=3),
    ]
    other = [
        first(Roster(), "a", Order, Payment),
        first(Roster(), "a", Payment, Order, by="order_id"),
        first(Roster(), "a", Order, Order, Payment, by="order_id"),
        first(Roster(), "a", Order, Payment, by="order_id", scope="board"),
        first(Roster(), "a", Order, Payment, by=number),
        first(Roster(), "a", Order, Payment, by=ancestor(Note)),
    ]
    assert {shape(s) for s in same} == {base}
    assert base not in {shape(s) for s in other}
    assert len({shape(s) for s in other}) == len(other)


def test_a_fingerprint_sees_types_keys_and_deadlines_and_not_code() -> None:
    def agent(**options: Any) -> Agent:
        builder: Any = Roster().agent("a")
        made: Agent = builder.consumes(Order, Payment, **options).publishes(Note)
        return made

    base = fingerprint(agent(where=lambda x: x.n > 1).spec)
    assert base == fingerprint(agent(where=lambda x: x.n > 2).spec)
    changed = [
        agent(within=5),
        agent(by="order_id"),
        agent(where={"order_id": "x"}),
        agent(where={"order_id": {"x", "y"}}),
        agent(groups=2),
        agent(tags="x"),
        agent(producer="b"),
        agent().publishes(Shipment),  # type: ignore[attr-defined]
    ]
    digests = {fingerprint(a.spec) for a in changed}
    assert base not in digests
    assert len(digests) == len(changed)
