"""Where in the user's code a definition stands."""

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of a definition.

    Attributes:
        qualname: of the function that is the agent; "" for an agent that was only named.
        code: what was compiled there.
    """

    module: str
    qualname: str
    file: str
    line: int
    code: CodeType | None = None

    @property
    def place(self) -> str:
        """How errors name it: `team.py:14`."""
        return f"{os.path.basename(self.file)}:{self.line}"

    def redefines(self, other: "Origin") -> bool:
        """Whether this is the same definition compiled again, as a notebook cell is when it is run again.

        The same compiled code twice is a loop, and two lines of one file are two definitions. A module that has two
        files is a notebook: each is a cell.
        """
        if (self.module, self.qualname) != (other.module, other.qualname) or (self.code and self.code is other.code):
            return False
        return bool(self.qualname) or self.file != other.file or self.line == other.line


def caller() -> FrameType:
    """The nearest frame that is not this library's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "stigmergy":
        frame = frame.f_back
    return frame


def here() -> Origin:
    """The line of user code that is calling."""
    frame = caller()
    return Origin(str(frame.f_globals.get("__name__", "")), "", frame.f_code.co_filename, frame.f_lineno, frame.f_code)


def origin_of(function: Callable[..., object]) -> Origin:
    """Where a function is written; for a callable that has no code of its own, the line that is calling."""
    plain = inspect.unwrap(function)
    code: CodeType | None = getattr(plain, "__code__", None)
    module, qualname = str(getattr(plain, "__module__", "")), str(getattr(plain, "__qualname__", ""))
    if code is None:
        return Origin(module, qualname, here().file, here().line)
    return Origin(module, qualname, code.co_filename, code.co_firstlineno, code)
