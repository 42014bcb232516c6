"""Bodies in processes of their own: one may hang, exit or crash, and only its activation fails.

A process serves one body at a time and is used again, since starting one takes half a second. What a body prints
goes to stderr. A process ends with the one that started it, and when nobody has needed it for a while.
"""

import asyncio
import atexit
import importlib
import inspect
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from threading import Thread
from traceback import format_exc
from typing import Any
from weakref import WeakSet

from stigmergy.agents.threads import Inside, enter_body, in_thread
from stigmergy.blackboard.errors import NotSendable, ProcessDied

KEPT = 30.0
"""Seconds that a process waits for another body."""

_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Call:
    """A body as another process finds it, and its arguments; `home` is the board's file, if it has one."""

    agent: str
    home: str | None
    module: str
    qualname: str
    args: Sequence[object]
    named: dict[str, object]


class Processes:
    """The processes of one board."""

    def __init__(self) -> None:
        self._idle: list[_Process] = []

    async def run(self, call: Call) -> object:
        """What the body returns. When the caller is cancelled the process is killed.

        Raises:
            ProcessDied: it ended before the body did.
            NotSendable: arguments, body or result cannot get from one process to the other.
            BaseException: what the body raised.
        """
        try:
            data = bytes(ForkingPickler.dumps(call))
        except Exception as error:
            raise NotSendable(
                f'the inputs of "{call.agent}" cannot be sent to another process ({error}). Define their classes at '
                "the top level of a module, and take no ctx."
            ) from error
        while True:
            fresh = not self._idle
            process = _Process() if fresh else self._idle.pop()
            try:
                answer = await in_thread(partial(process.ask, data))
            except BaseException:
                process.kill()
                await in_thread(process.end)
                raise
            if answer is not None:
                self._idle.append(process)
                return _opened(answer, call)
            process.kill()
            if process.begun:
                raise ProcessDied(
                    f'the process of "{call.agent}" ended before its body returned ({process.end()}). What it wrote '
                    "to stderr may say why."
                )
            if fresh:
                raise ProcessDied(
                    f'a process for "{call.agent}" did not start ({process.end()}). It imports the main program: put '
                    "what that runs under `if __name__ == '__main__':`. What was written to stderr says more."
                )


class _Process:
    """The end of the connection that we hold."""

    def __init__(self) -> None:
        self._ours, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=serve, args=(theirs,), name="stigmergy body")
        self._process.start()
        theirs.close()
        self.begun = False
        _LIVE.add(self)

    def ask(self, data: bytes) -> bytes | None:
        """The answer; None if the process has ended. Blocks."""
        self.begun = False
        try:
            self._ours.send_bytes(data)
            self._ours.recv_bytes()
            self.begun = True
            return self._ours.recv_bytes()
        except (EOFError, OSError):
            return None

    def kill(self) -> None:
        """End it, and what it started."""
        pid = self._process.pid
        with suppress(ProcessLookupError, PermissionError):
            if pid is not None and self._process.is_alive() and os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
        self._process.kill()
        self._process.join(1)

    def end(self) -> str:
        """How it ended."""
        self._process.join(5)
        code = self._process.exitcode
        return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


_LIVE: WeakSet[_Process] = WeakSet()


def _kill_all() -> None:
    for process in list(_LIVE):
        process.kill()


atexit.register(_kill_all)


def _opened(answer: bytes, call: Call) -> object:
    try:
        how, value = ForkingPickler.loads(answer)
    except Exception as error:
        raise NotSendable(f'what "{call.agent}" returned cannot be read in this process ({error}).') from error
    if how == "raised":
        raise value
    return value


# -- in the other process -----------------------------------------------------------------------------------------


def serve(connection: Connection) -> None:
    """Run bodies until nobody asks for more."""
    os.setpgrp()  # so that Ctrl-C reaches the board alone, and what the body starts can be killed with it
    sys.stdout.flush()
    os.dup2(2, 1)
    Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while connection.poll(KEPT):
            data = connection.recv_bytes()
            connection.send_bytes(b"begun")
            answer = _answer(data)
            sys.stdout.flush()
            connection.send_bytes(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(data: bytes) -> bytes:
    name = "the body"
    try:
        call: Call = ForkingPickler.loads(data)
        name = f"{call.module}.{call.qualname}"
        body: Any = importlib.import_module(call.module)
        for part in call.qualname.split("."):
            body = getattr(body, part)
    except Exception as error:  # noqa: BLE001  told to the process that asks
        way_out = "Define it, and the classes of its inputs, at the top level of a module file"
        return _packed("raised", NotSendable(f"{name} cannot be loaded in another process ({error}). {way_out}."))
    enter_body(Inside(call.agent, call.home))
    try:
        result = body(*call.args, **call.named)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except BaseException as error:  # noqa: BLE001  raised again in the process that asks
        error.add_note(f"In the process of the body:\n{format_exc()}")
        return _packed("raised", error)
    return _packed("returned", result)


def _packed(how: str, value: object) -> bytes:
    try:
        data = bytes(ForkingPickler.dumps((how, value)))
        ForkingPickler.loads(data)  # some exceptions can be written and not read
    except Exception as error:  # noqa: BLE001  told to the process that asks
        what = f"raised {type(value).__name__}: {value}" if how == "raised" else f"returned <{type(value).__name__}>"
        return bytes(ForkingPickler.dumps(("raised", NotSendable(f"the body {what}, which cannot be sent ({error})."))))
    return data
