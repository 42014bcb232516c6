"""What people do to a board: answer its questions, and see to what failed."""

from collections.abc import Iterable
from typing import cast

from pydantic import BaseModel, JsonValue
from pydantic_core import to_jsonable_python

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.artifacts import envelope
from stigmergy.blackboard.decision import PERSON
from stigmergy.blackboard.drafting import draft_of
from stigmergy.blackboard.errors import KeyReused, NotAChoice, NotFound
from stigmergy.blackboard.events import Activated, Published
from stigmergy.blackboard.owner import Owner
from stigmergy.blackboard.question import HumanAnswer, HumanQuestion, answer_key
from stigmergy.blackboard.types import type_of
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
            KeyReused: it was answered already.
        """

        async def verb(owner: Owner) -> Artifact[HumanAnswer]:
            asked, question = self._question(owner, self._position(id)[0])
            given = to_jsonable_python(value)
            if question.choices and not any(given is c or (given == c and type(given) is type(c))
                                            for c in question.choices):  # fmt: skip
                few = ", ".join(str(c).lower() if isinstance(c, bool) else str(c) for c in question.choices)
                raise NotAChoice(f"{value!r} is no answer to {question.what!r}. Choose one of {few}.")
            answer = HumanAnswer(question=asked.seq, value=given, by=PERSON.producer)
            draft = draft_of(self._table, answer, key=answer_key(asked.seq), run=asked.run)
            try:
                [seq] = await owner.publish([draft], PERSON)
            except KeyReused as error:
                raise KeyReused(
                    f"question {asked.seq} was answered already, otherwise. Look at it with why."
                ) from error
            return envelope(owner.past.published(seq), answer)

        return cast("Artifact[HumanAnswer]", await self._during(verb))

    def _question(self, owner: Owner, id: int) -> tuple[Published, HumanQuestion]:
        event = owner.past.event(id)
        if not isinstance(event, Published) or event.type != type_of(HumanQuestion).name:
            raise NotFound(f"{id} is no question. The report lists those that wait for an answer.")
        question = HumanQuestion.model_validate_json(event.payload)
        answered = owner.past.key(event.run, answer_key(id)) is not None
        if not event.system and not answered and question.about not in owner.decider.state.activations:
            raise NotFound(f"nobody waits for an answer to {id} any more: the activation that asked has ended.")
        return event, question

    async def cancel(self, *ids: int | str, reason: str = "asked for") -> None:
        """End activations as cancelled, unless they have ended already; their bodies are stopped.

        Raises:
            NotFound: one of them is no activation.
        """

        async def verb(owner: Owner) -> None:
            found = self._activations(owner, ids)
            await owner.durable(owner.record(owner.decider.cancel(found, reason, self._clock.now())))

        await self._during(verb)

    def _activations(self, owner: Owner, ids: Iterable[int | str]) -> list[int]:
        found = list(dict.fromkeys(self._position(id)[0] for id in ids))
        for id in found:
            if id not in owner.decider.state.activations and not isinstance(owner.past.event(id), Activated):
                raise NotFound(f"{id} is no activation. The report names those that are left, as agent@{id}.")
        return found

    async def retry(self, *ids: int | str) -> None:
        """Try dead letters again, with the same inputs, in the next run; all of them or none.

        Args:
            ids: of the activations that ended as dead letters: `33` or `"agent@33"`.

        Raises:
            NotFound: one of them did not fail, or was tried again already.
        """

        async def verb(owner: Owner) -> None:
            found = self._activations(owner, ids)
            for id in found:
                owner.decider.redrivable(id)
            for id in found:
                owner.record(owner.decider.redrive(id, self._clock.now()))
            await owner.durable(owner.writer.last)

        await self._during(verb)
