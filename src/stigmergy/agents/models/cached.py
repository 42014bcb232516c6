"""A cache of replies, found by the content of the request."""

import hashlib
import os
from collections import Counter
from pathlib import Path
from uuid import uuid4

from anyio import Lock
from pydantic import ValidationError

from stigmergy.agents.models.model import Estimate, Model, OnToken, Reply, Request
from stigmergy.agents.models.resolve import as_model


class Cached:
    """Asks a model only what it was not asked before; what is taken from the cache costs nothing and says so.

    The key is the whole request: model, parameters, messages, tools and output. Equal requests get equal replies, so
    whoever wants several opinions gives each request a seed.

    The cache is a folder of its own, one file a reply, and not a part of a board: a board's log has the replies that
    its agents were given and stays the truth whether or not the cache exists; the cache is shared by boards and by
    processes, and may be deleted at any time. A file that cannot be read counts as missing. `docs/models.md` says why
    the log is not the cache.

    Args:
        model: who is asked, or its name.
        folder: made when the first reply is kept.
    """

    def __init__(self, model: Model | str, folder: str | Path) -> None:
        self._model = as_model(model)
        self.name = self._model.name
        self._folder = Path(folder)
        self._asking: dict[str, Lock] = {}
        self._waiting: Counter[str] = Counter()

    def estimate(self, request: Request, /) -> Estimate:
        """Nothing for what is in the cache."""
        return Estimate() if self._kept(_key(request)) is not None else self._model.estimate(request)

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        """The kept reply, or the model's; of equal requests at the same time one is asked and the others wait."""
        key = _key(request)
        lock = self._asking.setdefault(key, Lock())
        self._waiting[key] += 1
        try:
            async with lock:
                kept = self._kept(key)
                if kept is None:
                    reply = await self._model.complete(request, on_token)
                    self._keep(key, reply)  # without an await in between, so that what was paid for is kept
                    return reply
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._asking[key]
        if on_token is not None and kept.text:
            on_token(kept.text)
        return kept.again()

    def _file(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def _kept(self, key: str) -> Reply | None:
        try:
            return Reply.model_validate_json(self._file(key).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _keep(self, key: str, reply: Reply) -> None:
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.{uuid4().hex}")
        new.write_bytes(reply.model_dump_json().encode())
        os.replace(new, file)  # whoever reads sees a whole reply or none


def _key(request: Request) -> str:
    return hashlib.blake2b(request.canonical().encode(), digest_size=20).hexdigest()
