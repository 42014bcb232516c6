"""The smallest board: one agent, one question, one answer. Run it: `python -m examples.hello`."""

from pydantic import BaseModel

from stigmergy import Blackboard


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    text: str


board = Blackboard()  # Blackboard("hello.db") would survive kill -9


@board.agent  # consumes Question, publishes Answer: read from the signature
async def shout(question: Question) -> Answer:
    return Answer(text=question.text.upper())


if __name__ == "__main__":
    print(board.run_sync(Question(text="hello")))  # what ran, and what is left over
    print(board.one(Answer).text)
