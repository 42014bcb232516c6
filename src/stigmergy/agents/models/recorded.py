"""A cassette: what a model answered once is replayed for ever, without the model."""

import json
import os
from collections import Counter
from difflib import unified_diff
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from stigmergy.agents.models.errors import BadCassette, NotRecorded
from stigmergy.agents.models.model import Estimate, Model, OnToken, Reply, Request
from stigmergy.agents.models.resolve import as_model
from stigmergy.blackboard.errors import DefinitionError

Mode = Literal["none", "once", "all"]


class Recorded:
    """Replays replies from a file, and records there what is missing, if it may.

    The file has one JSON object a line: a request without its defaults, and its reply. It is found by the whole
    request; the order of the lines matters only among equal requests, which get their replies one after the other.
    What is recorded is appended when it arrives. Keys are no part of requests, and thus of no cassette.

    Args:
        model: who is asked when something is recorded, or its name; not needed to replay.
        path: the file.
        mode: "none" replays only, and repeats the last reply where an equal request comes more often than it was
            recorded; "once" replays too, but asks and records what is not there yet; "all" asks and records everything
            anew, and replaces the file.

    Raises:
        DefinitionError: there is no such mode, or nobody to ask.
        BadCassette: a line of the file is none.
    """

    def __init__(self, model: Model | str | None, path: str | Path, *, mode: Mode = "none") -> None:
        if mode not in ("none", "once", "all"):
            raise DefinitionError(f'Recorded(mode={mode!r}): it is one of "none", "once", "all".')
        if model is None and mode != "none":
            raise DefinitionError(f"Recorded(mode={mode!r}) needs a model to ask.")
        self._model = None if model is None else as_model(model)
        self._path = Path(path)
        self._mode: Final = mode
        self._replies: dict[str, list[Reply]] = {}
        self._times: Counter[str] = Counter()
        self._fresh = mode == "all"
        if not self._fresh and self._path.exists():
            self._load()
        self.name = self._model.name if self._model is not None else self._first_name()

    def estimate(self, request: Request, /) -> Estimate:
        """Nothing for what is replayed."""
        if self._model is None or self._kept(request.canonical()) is not None:
            return Estimate()
        return self._model.estimate(request)

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        """The reply that was recorded, marked as reused; or a new one, which is recorded.

        Raises:
            NotRecorded: there is none, and none may be recorded.
        """
        key = request.canonical()
        kept = self._kept(key)
        self._times[key] += 1
        if kept is not None:
            if on_token is not None and kept.text:
                on_token(kept.text)
            return kept.again()
        if self._model is None or self._mode == "none":
            raise self._miss(request)
        reply = await self._model.complete(request, on_token)
        self._append(key, reply)  # without an await in between, so that what was paid for is kept
        return reply

    def _kept(self, key: str) -> Reply | None:
        replies, time = self._replies.get(key, []), self._times[key]
        if self._mode == "all" or not replies:
            return None
        if self._mode == "none":
            return replies[min(time, len(replies) - 1)]
        return replies[time] if time < len(replies) else None

    def _first_name(self) -> str:
        for key in self._replies:
            return Request.model_validate_json(key).model
        return "recorded"

    def _load(self) -> None:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1  # what follows was being written when its process died
        if whole < len(content) and self._mode != "none":
            os.truncate(self._path, whole)
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                data = json.loads(line)
                key = Request.model_validate(data["request"]).canonical()
                self._replies.setdefault(key, []).append(Reply.model_validate(data["reply"]))
            except (ValueError, ValidationError, KeyError, TypeError) as error:
                short = " ".join(str(error).split())[:200]
                raise BadCassette(f"{self._path}:{number} is no recorded reply ({short}).") from error

    def _append(self, key: str, reply: Reply) -> None:
        self._replies.setdefault(key, []).append(reply)
        said = json.dumps(reply.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False, sort_keys=True)
        line = f'{{"request": {key}, "reply": {said}}}\n'.encode()
        if self._fresh:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_name(self._path.name + ".new")
            new.write_bytes(line)
            new.replace(self._path)
            self._fresh = False
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line)  # one write, so that lines of several writers do not mix
        finally:
            os.close(file)

    def _miss(self, request: Request) -> NotRecorded:
        wanted = _lines(request)
        what = f"{self._path}: has no reply to this request to {request.model}"
        hint = 'Record it with Recorded(model, path, mode="once").'
        if not self._replies:
            return NotRecorded(f"{what}, nor to any other. {hint}")
        recorded = (_lines(Request.model_validate_json(key)) for key in self._replies)
        nearest = max(recorded, key=lambda lines: _likeness(lines, wanted))
        difference = list(unified_diff(nearest, wanted, "recorded", "asked", lineterm="", n=0))[2:]
        miss = NotRecorded(
            f"{what}; the nearest has {_first(difference, '-')} where this has {_first(difference, '+')}. {hint}"
        )
        miss.difference = "\n".join(difference)
        return miss


def _lines(request: Request) -> list[str]:
    data = request.model_dump(mode="json", exclude_defaults=True)
    lines = [f"model: {data.pop('model')}"]
    for message in data.pop("messages"):
        text = str(message.pop("text", ""))
        lines += [
            f"{message.pop('role')}: {json.dumps(message, sort_keys=True) if message else ''}",
            *text.splitlines(),
        ]
    for name, value in sorted(data.items()):
        lines += f"{name}: {json.dumps(value, indent=1, sort_keys=True)}".splitlines()
    return lines


def _likeness(lines: list[str], wanted: list[str]) -> float:
    common = (Counter(lines) & Counter(wanted)).total()
    return 2 * common / (len(lines) + len(wanted))


def _first(difference: list[str], sign: str) -> str:
    for line in difference:
        if line.startswith(sign):
            return repr(line[1:] if len(line) < 80 else line[1:79] + "…")
    return "nothing"
