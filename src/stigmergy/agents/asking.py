"""How a body waits for a person: the question and its answer are artifacts, and between them there is no body."""

from dataclasses import dataclass
from itertools import count
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.core.visibility import inherited, of_inputs
from stigmergy.blackboard.errors import CallChanged, CallRefused, DefinitionError, NotAnswered
from stigmergy.blackboard.events import Published
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.question import HumanAnswer, HumanQuestion, answer_key
from stigmergy.blackboard.shell.job import Job, Suspended
from stigmergy.blackboard.stores.rows import as_published
from stigmergy.blackboard.text import problems


@dataclass(frozen=True, slots=True)
class Asking:
    """One question of one body; see `Context.ask`."""

    job: Job
    key: str
    what: str
    answer: Any
    within: float | None
    default: Any

    async def wait(self) -> Any:
        """The answer, if it is there; else the question is asked and the body unwound."""
        if self.default is not None and self.within is None:
            raise DefinitionError(f"ctx.ask({self.key!r}): default= counts when within= has passed. Give both.")
        recorded = self.job.desk.recorded(self.job).get(self.key)
        if recorded is not None and recorded[1] is not None:  # by a test that calls the body by hand
            return TypeAdapter(self.answer).validate_json(recorded[1].payload)
        if not self.job.desk.watched(type_of(HumanQuestion).name):
            raise CallRefused(
                f"{self.job.agent.name!r} asks a question, but nobody keeps questions on this board. "
                "Add the component: Blackboard(components=[Questions()])."
            )
        adapter = self._adapter()
        refused = ""
        for turn in count(1):
            asked, given = await self._asked(adapter, turn, refused)
            if given is None:
                self.job.suspended = True
                raise Suspended(self.what)
            if given.missing:
                raise NotAnswered(f"nobody answered {self.what!r} (HumanQuestion@{asked}) in time.")
            try:
                return adapter.validate_python(given.value, strict=False)
            except ValidationError as error:
                refused = problems(error)
        raise AssertionError("counting does not end")

    def _adapter(self) -> TypeAdapter[Any]:
        """What checks the answer.

        Raises:
            DefinitionError: `answer=` is nothing that can be checked, or the default is no such answer.
        """
        try:
            adapter = TypeAdapter(self.answer)
            adapter.json_schema()
        except PydanticUserError as error:
            raise DefinitionError(
                f"ctx.ask({self.key!r}): answer={self.answer!r} is no type, or none that JSON can hold."
            ) from error
        try:
            if self.default is not None:
                adapter.validate_python(self.default)
        except ValidationError as error:
            raise DefinitionError(f"ctx.ask({self.key!r}): default={self.default!r} is no answer to it.") from error
        return adapter

    async def _asked(self, adapter: TypeAdapter[Any], turn: int, refused: str) -> tuple[int, HumanAnswer | None]:
        """The question on the board, asked once however often the body comes here, and its answer.

        What a dead letter had been told is still good when it is tried again; what nobody told it is asked anew.
        """
        desk, job = self.job.desk, self.job
        question = HumanQuestion(
            what=self.what, answer=adapter.json_schema(), within=self.within, about=job.id, refused=refused,
            default=None if self.default is None else adapter.dump_python(self.default, mode="json"),
        )  # fmt: skip
        for id in desk.chain(job):
            known = self._published(f"{id}/ask/{self.key}/{turn}")
            if known is None:
                continue
            answer = self._published(answer_key(known.seq))
            given = HumanAnswer.model_validate_json(answer.payload) if answer is not None else None
            if id != job.id and (given is None or given.missing):
                continue
            if HumanQuestion.model_validate_json(known.payload) != question.model_copy(update={"about": id}):
                raise CallChanged(
                    f"question {self.key!r} of {job.agent.name!r} was asked in other words before. Use a new key, or "
                    "make it depend on the inputs alone."
                )
            return known.seq, given
        shown = inherited(of_inputs(map(desk.published, job.inputs), job.agent.name))
        draft = draft_of(TypeTable(), question, key=f"{job.id}/ask/{self.key}/{turn}", visibility=shown)
        [asked] = await desk.publish_from(job, [draft])
        return asked, None

    def _published(self, key: str) -> Published | None:
        return as_published(self.job.desk.reader().by_key(self.job.run, key))
