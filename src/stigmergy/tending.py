"""What people do to a board: answer its questions, and see to what failed."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decider import PAUSED
from stigmergy.blackboard.core.decision import PERSON
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.core.redriving import Edited, Edits, Fields, with_fields
from stigmergy.blackboard.core.where import did_you_mean
from stigmergy.blackboard.errors import InvalidPayload, KeyReused, NotAChoice, NotFound, UnknownField
from stigmergy.blackboard.events import Activated, Event, Published
from stigmergy.blackboard.payloads.envelope import envelope
from stigmergy.blackboard.payloads.types import check_size, check_text, type_of
from stigmergy.blackboard.question import REMEDY, HumanAnswer, HumanQuestion, Remedy, answer_key
from stigmergy.blackboard.reading.erasable import Erasure, erasable
from stigmergy.blackboard.shell.owner import Owner
from stigmergy.blackboard.text import problems, short
from stigmergy.opening import OpenBoard


class TendedBoard(OpenBoard):
    """A board and the people who look after it."""

    async def answer(self, id: int | str, value: BaseModel | JsonValue, /) -> Artifact[HumanAnswer]:
        """Answer a question that an agent or the board asked; what waited for it goes on, now or in the next run.

        Args:
            id: of the question: `15` or `"HumanQuestion@15"`.
            value: what is asked for: True or False, one of the choices, or a model or its JSON.

        Raises:
            NotFound: there is no such question, or nobody waits for its answer any more.
            NotAChoice: it is none of the answers to choose from.
            UnknownField, InvalidPayload, PayloadTooLarge: it edits inputs that cannot be edited so; see `retry`.
            KeyReused: it was answered already.
        """

        async def verb(owner: Owner) -> Artifact[HumanAnswer]:
            position, name = self._position(id)
            asked, question = self._question(owner, position if name in ("", type_of(HumanQuestion).name) else 0, id)
            given = _as_json(value, "an answer")
            form = isinstance(given, dict) and "anyOf" in question.answer
            one_of = form or any(given == c and type(given) is type(c) for c in question.choices)
            if question.choices and not one_of:
                few = ", ".join(str(c).lower() if isinstance(c, bool) else str(c) for c in question.choices)
                raise NotAChoice(f"{_shown(given)} is no answer to {question.what!r}. Choose one of {few}.")
            if question.answer == REMEDY and owner.past.key(asked.run, answer_key(asked.seq)) is None:
                self._check_remedy(owner, question, given)
            answer = HumanAnswer(question=asked.seq, value=given, by=PERSON.producer)
            draft = draft_of(self._table, answer, key=answer_key(asked.seq), run=asked.run,
                             visibility=asked.visibility)  # fmt: skip
            try:
                [seq] = await owner.publish([draft], PERSON)
            except KeyReused as error:
                raise KeyReused(_answered(owner, asked)) from error
            return envelope(owner.past.published(seq), answer)

        return cast("Artifact[HumanAnswer]", await self._during(verb))

    def _question(self, owner: Owner, id: int, said: int | str) -> tuple[Published, HumanQuestion]:
        event = owner.past.event(id)
        if not isinstance(event, Published) or event.type != type_of(HumanQuestion).name:
            raise NotFound(f"{said} is no question. The report lists those that wait for an answer.")
        question = HumanQuestion.model_validate_json(event.payload)
        answered = owner.past.key(event.run, answer_key(id)) is not None
        if not event.system and not answered and question.about not in owner.decider.state.activations:
            raise NotFound(
                f"nobody waits for an answer to HumanQuestion@{id} any more: the activation that asked has ended."
            )
        return event, question

    def _check_remedy(self, owner: Owner, question: HumanQuestion, given: JsonValue) -> None:
        """Refuse now what the component that asks could only ask about again, or do otherwise than was meant."""
        owner.decider.redrivable(question.about)
        try:
            remedy = Remedy.of(given)
        except ValidationError as error:
            raise NotAChoice(
                f"{_shown(given)} is no answer to {question.what!r} ({problems(error)}). Give then, one of retry, "
                "skip, abort, and with retry edited, the fields that are to be others."
            ) from error
        if remedy.edited and remedy.then == "retry":
            self._edits(owner, question.about, remedy.edited)

    async def cancel(self, *ids: int | str, run: str | None = None, reason: str = "asked for") -> None:
        """End open activations as cancelled; their bodies are stopped, and what they would have published is not.

        Args:
            ids: of activations; of an artifact for everything open that descends from it, what waits in joins and
                batches that are not full, and what is delayed or held for review.
            run: the same for everything in this run.

        Raises:
            NotFound: an id is that of no activation and no artifact, or there is no such run.
        """
        _check_reason(reason)

        async def verb(owner: Owner) -> None:
            open_now = owner.decider.state.activations
            if run is not None:
                self._known(owner, run)
            found = dict.fromkeys(a.id for a in open_now.values() if run is not None and a.run == run)
            state = owner.decider.state
            waiting = sorted({*state.held, *(id for places in state.waiting.values() for id in places)})
            let_go = dict.fromkeys(id for id in waiting if run is not None and owner.past.published(id).run == run)
            for said in ids:
                id, name = self._position(said)
                event = owner.past.event(id)
                if isinstance(event, Published) and name in ("", event.type):
                    found |= dict.fromkeys(a.id for a in open_now.values() if self._descends(owner, a.inputs, id))
                    let_go |= dict.fromkeys(w for w in waiting if self._descends(owner, [w], id))
                else:
                    found |= dict.fromkeys(self._activations(owner, [said]))
            now = self._clock.now()
            await self._recorded(owner, owner.decider.cancel(list(found), reason, now, waiting=list(let_go)))

        await self._during(verb)

    def _descends(self, owner: Owner, artifacts: Iterable[int], artifact: int) -> bool:
        """Whether one of these is an artifact, or came of it."""
        todo, seen = list(artifacts), set[int]()
        while todo:
            id = todo.pop()
            if id == artifact:
                return True
            if id < artifact or id in seen:
                continue
            seen.add(id)
            event = owner.past.event(id)
            if isinstance(event, Activated):
                todo += event.inputs
            elif event is not None:
                todo.append(event.cause)
        return False

    async def pause(self, *, run: str | None = None, reason: str = "paused") -> None:
        """Start nothing more in a run until `resume`; what runs ends well, and other runs go on.

        It survives a restart. A run of the board in which nothing else is left ends as `waiting`.

        Raises:
            NotFound: there is no such run.
        """
        _check_reason(reason)

        async def verb(owner: Owner) -> None:
            name, now = self._known(owner, run), self._clock.now()
            await self._recorded(owner, owner.decider.close_run(name, PAUSED, f"run {name!r}: {reason}", "person",
                                                                "park", now))  # fmt: skip

        await self._during(verb)

    async def resume(self, *, run: str | None = None) -> None:
        """Let a paused run go on, in this run of the board or in the next.

        Raises:
            NotFound: there is no such run.
        """

        async def verb(owner: Owner) -> None:
            await self._recorded(owner, owner.decider.resume_run(self._known(owner, run), self._clock.now()))

        await self._during(verb)

    def _known(self, owner: Owner, run: str | None) -> str:
        """The name of a run that there is; the board's own may be yet to come."""
        name, runs = self._run if run is None else run, owner.decider.state.runs
        check_text("run", name)
        if name != self._run and name not in runs:
            raise NotFound(f"there is no run {name!r}.{did_you_mean(name, runs)}")
        return name

    async def _recorded(self, owner: Owner, *decisions: list[Event]) -> None:
        """Make decisions durable, and start what follows from them."""
        for events in decisions:
            owner.record(events)
        if owner.running:
            owner.pump()
        await owner.durable(owner.writer.last)

    def _activations(self, owner: Owner, ids: Iterable[int | str]) -> list[int]:
        found: dict[int, None] = {}
        for said in ids:
            id, name = self._position(said)
            event = owner.past.event(id)
            if not isinstance(event, Activated) or name not in ("", event.agent):
                raise NotFound(f"{said} is no activation. The report names those that are left, as agent@33.")
            found[id] = None
        return list(found)

    async def retry(self, *ids: int | str, edited: BaseModel | Mapping[str, JsonValue] | None = None) -> None:
        """Try dead letters again in the next run, or in this one; all of them or none.

        Args:
            ids: of the activations that ended as dead letters: `33` or `"agent@33"`.
            edited: what is to be other than it was: a payload in the place of the input of its type, or fields, which
                replace those of that name in every input that has them.

        Raises:
            NotFound: one of them did not fail, or was tried again already.
            UnknownField: none of its inputs has such a field, or is of that type.
            InvalidPayload, PayloadTooLarge: what is edited is no value of its class, if that is known, or too large.
        """

        async def verb(owner: Owner) -> None:
            found = self._activations(owner, ids)
            edits = {id: self._edits(owner, id, edited) for id in found}
            now = self._clock.now()
            await self._recorded(owner, *[owner.decider.redrive(id, now, edits=edits[id]) for id in found])

        await self._during(verb)

    def _edits(self, owner: Owner, id: int, edited: BaseModel | Mapping[str, JsonValue] | None) -> Edits:
        """What is changed in which inputs of a dead letter."""
        old, _ = owner.decider.redrivable(id)
        if edited is None:
            return {}
        inputs = owner.decider.inputs_of(old)
        which = ", ".join(f"{p.type}@{p.seq}" for p in inputs)
        if isinstance(edited, BaseModel):
            draft = draft_of(self._table, edited, most=owner.decider.limits.payload_bytes)
            same = [p.seq for p in inputs if p.type == draft.type]
            if len(same) != 1:
                raise UnknownField(f"{old.agent}@{id} has {len(same)} inputs of type {draft.type} among {which}.")
            found: Edits = {same[0]: Edited(draft.data, draft.version, draft.schema)}
        elif not isinstance(edited, Mapping):
            raise UnknownField(f"edited={edited!r} is no payload, and no fields by their names.")
        else:
            found = self._with_fields(inputs, _as_json(edited, "an edit"), f"{old.agent}@{id}: {which}")
        for p in inputs:
            if p.seq in found:
                check_size(p.type, found[p.seq].data, owner.decider.limits.payload_bytes)
        return found

    def _with_fields(self, inputs: Sequence[Published], fields: Fields, where: str) -> Edits:
        """The inputs that have such fields with these changed, each in today's version of its class if it is known.

        Raises:
            UnknownField: none of them has one of the fields.
            InvalidPayload: a class does not take it: refused here rather than in the body.
        """
        fields = _as_json(fields, "edited=")
        before = {p.seq: self._as_of_today(p) for p in inputs}
        unknown = [name for name in fields if not any(name in from_json(e.data) for e in before.values())]
        if unknown:
            raise UnknownField(f"no input of {where} has a field {unknown[0]!r}.")
        found: dict[int, Edited] = {}
        for p in inputs:
            edited = with_fields(before[p.seq], fields)
            kind = self._table.get(p.type)
            if edited is not None and kind is not None:
                payload = self._table.parse(p.type, edited.version, from_json(edited.data), where="edited")
                edited = Edited(kind.encode(payload)[1], kind.version, kind.schema)
            if edited is not None:
                found[p.seq] = edited
        return found

    def _as_of_today(self, p: Published) -> Edited:
        kind = self._table.get(p.type)
        if kind is not None and kind.version != p.version:
            with suppress(InvalidPayload):  # that it cannot be brought up to date may be why it is edited
                return Edited(
                    kind.encode(self._table.decode(p.type, p.version, p.payload))[1], kind.version, kind.schema
                )
        return Edited(p.payload, p.version, p.schema)

    async def discard(self, *ids: int | str, reason: str) -> None:
        """Give dead letters up, all of them or none: they count as skipped, with the reason, and nobody tries them.

        Raises:
            NotFound: one of them did not fail, or was tried again already.
            InvalidPayload: the reason says nothing.
        """
        _check_reason(reason)

        async def verb(owner: Owner) -> None:
            found = self._activations(owner, ids)
            for id in found:
                owner.decider.redrivable(id)
            now = self._clock.now()
            await self._recorded(owner, *[owner.decider.discard(id, reason, now) for id in found])

        await self._during(verb)

    async def erase(self, *, before: int | datetime) -> Erasure:
        """Remove for good what was said before a moment: the payloads of artifacts, and what effects replied.

        That they were there stays: ids, types, who published what from what, times, costs, errors and digests. So do
        payloads that are still needed: of what waits, of what is open, of what failed and may be tried again, with
        their effects, and questions with their answers. Components keep what they know, which is put on record; one
        that comes later is not shown what was erased, nor is an agent offered it. It cannot be replayed, either. It
        takes as long as reading the log, in which bodies wait.

        Args:
            before: a position, which is not erased itself, or a time; one without a time zone is local time.

        Returns:
            how much is gone.

        Raises:
            BadComponent: one that takes part is not here, or its state is no data: what it knows would be lost.
            NotFound: that is no moment of a board.
        """

        async def verb(owner: Owner) -> Erasure:
            end = self._erased_up_to(before)
            found = erasable(owner.reader, owner.past, owner.decider.state, end)
            if found.payloads:
                await self._recorded(owner, owner.decider.erase(end, found.keep, self._clock.now()))
                await self._store.erase(end, found.keep)
            return found

        return cast("Erasure", await self._during(verb))

    def _erased_up_to(self, before: int | datetime) -> int:
        if type(before) is int:
            return min(before, self.last + 1)
        return self.at(before).last + 1


def _answered(owner: Owner, asked: Published) -> str:
    """Who answered a question before, and what."""
    known = owner.past.key(asked.run, answer_key(asked.seq))
    answer = HumanAnswer.model_validate_json(owner.past.published(known[0]).payload) if known is not None else None
    if answer is None or answer.missing:
        return f"HumanQuestion@{asked.seq}: its time is over. If a dead letter came of it, retry that: it asks again."
    return f"HumanQuestion@{asked.seq} was answered already, by {answer.by}: {_shown(answer.value)}. The first counts."


def _check_reason(reason: str) -> None:
    check_text("reason", reason)
    if not reason.strip():
        raise InvalidPayload(f"reason {reason!r} says nothing. Say why, for whoever looks at it later.")


def _as_json(value: object, what: str) -> Any:
    try:
        return from_json(to_json(value))
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidPayload(f"{what} is JSON or a model, and {_shown(value)} is not ({error}).") from error


def _shown(value: object) -> str:
    """A few characters of it; what is too deep or too large to be written is named by its type."""
    try:
        return short(repr(value), 200)
    except (RecursionError, ValueError):
        return f"<{type(value).__name__}>"
