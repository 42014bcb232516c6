"""A question to a person, and its answer: both are artifacts, so that what was asked and said stays on the log."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class HumanQuestion(BaseModel):
    """Somebody waits for a person to decide; `board.answer` or `stigmergy answer` gives the answer.

    Attributes:
        what: the question.
        answer: the JSON schema of the answer.
        within: seconds after publication until the default counts; None = it waits as long as it takes.
        default: the answer then; None = there is none, and whoever asked is told that nobody answered.
        about: the activation that asks, or that failed.
        refused: why the answer before was none.
    """

    model_config = ConfigDict(frozen=True)

    what: str
    answer: dict[str, JsonValue] = Field(default_factory=dict)
    within: float | None = None
    default: JsonValue = None
    about: int = 0
    refused: str = ""

    @property
    def choices(self) -> tuple[JsonValue, ...]:
        """The answers to choose from, if it is, or may be, one of a few."""
        if self.answer.get("type") == "boolean":
            return (True, False)
        either = self.answer.get("anyOf")
        first = either[0] if isinstance(either, list) else self.answer
        few = first.get("enum") if isinstance(first, dict) else None
        return tuple(few) if isinstance(few, list) else ()


Choice = Literal["retry", "skip", "abort"]


class Remedy(BaseModel):
    """What a person decided about a failure.

    Attributes:
        then: try it again, give it up, or cancel the whole run.
        edited: fields of its inputs that are to be others when it is tried again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    then: Choice
    edited: dict[str, JsonValue] | None = None

    @classmethod
    def of(cls, value: JsonValue) -> "Remedy":
        """The remedy that an answer is, if it is one: a choice alone, or the fields.

        Raises:
            ValidationError: it is none.
        """
        return cls.model_validate({"then": value} if isinstance(value, str) else value)


REMEDY: dict[str, JsonValue] = {"anyOf": [{"enum": ["retry", "skip", "abort"]}, Remedy.model_json_schema()]}
"""What a question about a failure wants."""


class HumanAnswer(BaseModel):
    """What was answered, and by whom: a "person", an agent, or the "deadline", when the default counts."""

    model_config = ConfigDict(frozen=True)

    question: int
    value: JsonValue = None
    by: str = ""

    @property
    def missing(self) -> bool:
        """Whether nobody answered in time, and there was no default."""
        return self.by == DEADLINE and self.value is None


DEADLINE = "deadline"
"""Who answers when nobody did in time."""


def answer_key(question: int) -> str:
    """The key of the answer, so that there is only one."""
    return f"answer/{question}"
