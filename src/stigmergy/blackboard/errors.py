"""One family of errors; each says what happened, where, and what to do.

StigmergyError
├── DefinitionError        what was written in code cannot work; raised where it is defined
│   ├── UnknownField, BadFilter, BadSignature, BadType, TypeClash, DuplicateAgent, NoBody, BadComponent, BadModel
├── PublishError           an artifact was refused; nothing was published
│   ├── InvalidPayload, NotRoundTrippable, PayloadTooLarge, UnknownType, UnknownPhase
│   ├── KeyReused, DuplicateWork, UnknownWork, BlockingCycle, UndeclaredOutput, WrongFanOut
│   └── SeedError          a seed or stream file, named by line
├── StoreError             the file cannot be opened or written
│   ├── BoardBusy, NotABoard, StoreReadOnly, StoreFull, StoreDamaged, NewerBoard, StoreLooksLikeModel
├── BoardError             the board cannot do this now
│   ├── BoardClosed, BoardBroken, OutcomeUnknown, BrokenOff, UseContext, WrongLoop
├── CallError              a journaled effect was misused
│   ├── DuplicateCall, CallChanged, NotJournalable, CallRefused, BudgetSpent, NotAnswered
├── BodyError              a body could not run to its end
│   ├── ProcessDied, NotSendable, ToolsUnavailable
├── ModelError             a language model did not answer; `retryable` says whether it may later (stigmergy.models)
│   ├── ModelUnreachable, ModelTimeout, RateLimited, ProviderFailed, BadReply         worth another try
│   ├── BadKey, BadRequest, ContextTooLong, ModelMissing, UnknownPrice                not worth one
│   ├── ScriptEnded, NotRecorded, BadCassette
├── QueryError             a read found something else than it asked for
│   ├── NotFound, NotExactlyOne, BadFileName, NotAChoice, PayloadErased
├── NetworkRefused         a test tried to reach something outside (stigmergy.testing)
└── RunFailed              `report.raise_for_failures()`: chains the first failure, `Recorded` as the log has it
"""


class StigmergyError(Exception):
    """Something this library refused or could not do."""

    @property
    def code(self) -> str:
        """The stable name of the error, for programs; the message is for people."""
        return type(self).__name__


class DefinitionError(StigmergyError):
    """A definition cannot work."""


class UnknownField(DefinitionError):
    """A filter or key names a field that its type does not have."""


class BadFilter(DefinitionError):
    """A filter that could never pass anything, or that is none."""


class BadSignature(DefinitionError):
    """A body's signature cannot be read as inputs and outputs."""


class BadType(DefinitionError):
    """Something that is no pydantic model was used as an artifact type."""


class TypeClash(DefinitionError):
    """Two different classes claim one artifact type name."""


class DuplicateAgent(DefinitionError):
    """Two agents have one name."""


class NoBody(DefinitionError):
    """An agent has neither a body nor a model."""


class BadComponent(DefinitionError):
    """A component does not keep the component contract."""


class PublishError(StigmergyError):
    """An artifact was refused; nothing was published.

    Attributes:
        position: which of several payloads it was, from 0; None if that is no question.
        limit: the limit of the board that refuses it, and how much was asked of it; "" if none does.
    """

    position: int | None = None
    limit: str = ""


class InvalidPayload(PublishError):
    """The payload is not a valid value of its type."""


class NotRoundTrippable(PublishError):
    """The payload does not come back from JSON as it was."""


class PayloadTooLarge(PublishError):
    """The payload is larger than the board's limit."""


class UnknownType(PublishError):
    """A type name that no class of this program has."""


class UnknownPhase(PublishError):
    """Work was published for a phase that is not registered."""


class KeyReused(PublishError):
    """An idempotency key was used again with another payload."""


class DuplicateWork(PublishError):
    """A work id was used twice in one run."""


class UnknownWork(PublishError):
    """A parent work id that names no published work."""


class BlockingCycle(PublishError):
    """Work items wait for each other."""


class UndeclaredOutput(PublishError):
    """An agent returned something it does not publish, or gave it to `ctx.publish`."""


class WrongFanOut(PublishError):
    """An agent gave another number of outputs than it declared, or more than the board's limit."""


class SeedError(PublishError):
    """A line of a seed or stream file is wrong; nothing was published."""


class StoreError(StigmergyError):
    """The store cannot be opened, read or written.

    Attributes:
        reader: the reader that failed; None if it was no read.
    """

    reader: object = None


class BoardBusy(StoreError):
    """Another process owns the board."""


class NotABoard(StoreError):
    """The file is not a board."""


class StoreReadOnly(StoreError):
    """The board cannot be written."""


class StoreFull(StoreError):
    """The disk is full."""


class StoreDamaged(StoreError):
    """The file is damaged: something that was read is not what was written."""


class NewerBoard(StoreError):
    """The board was written by a newer version."""


class StoreLooksLikeModel(StoreError):
    """The name of a model was given as the store."""


class BoardError(StigmergyError):
    """The board cannot do this now."""


class BoardClosed(BoardError):
    """The board was closed."""


class BoardBroken(BoardError):
    """An append failed; the board does nothing more until it is opened again."""


class OutcomeUnknown(BoardBroken):
    """The append that carried this publish failed; it may or may not be on the board."""


class BrokenOff(BoardBroken):
    """A decision broke off after its first event; what is in memory is ahead of the log."""


class UseContext(BoardError):
    """A body used the board instead of its context."""


class WrongLoop(BoardError):
    """The board is in use in another event loop."""


class CallError(StigmergyError):
    """A journaled effect was misused."""


class DuplicateCall(CallError):
    """One key was used for two effects of one attempt."""


class CallChanged(CallError):
    """A recorded effect was asked for again with other arguments, or its result read as another type."""


class NotJournalable(CallError):
    """The result of an effect cannot be recorded."""


class CallRefused(CallError):
    """A component denied an effect, or the attempt that wanted it is over."""


class NotAnswered(CallError):
    """Nobody answered a question in time, and it has no default."""


class BudgetSpent(CallRefused):
    """An effect would cost more than is left; its activation stays open, for a run with a larger limit."""


class BodyError(StigmergyError):
    """A body could not run to its end."""


class ProcessDied(BodyError):
    """The process of an isolated body ended before the body did."""


class NotSendable(BodyError):
    """Something cannot get from one process to another."""


class QueryError(StigmergyError):
    """A read found something else than it asked for."""


class NotFound(QueryError):
    """There is no such thing on the board."""


class PayloadErased(QueryError):
    """What an artifact said was erased; that there was one, and what came of it, is still on the log."""


class NotExactlyOne(QueryError):
    """One artifact was asked for and none or several were found."""


class BadFileName(QueryError):
    """A file cannot be read or written under this name."""


class NotAChoice(QueryError):
    """A question was answered with something that is none of its answers."""


class RunFailed(StigmergyError):
    """A run ended with failures."""
