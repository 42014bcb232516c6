"""One owner per board file: a lock file beside it, which the kernel gives up when the owner dies, however it dies."""

import errno
import fcntl
import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypedDict
from weakref import WeakSet

from stigmergy.blackboard.errors import BoardBusy, StoreError, StoreFull, StoreReadOnly


class _Owner(TypedDict):
    pid: int
    host: str
    since: str


class FileLock:
    """The right to write one board.

    Args:
        board: the file as people call it; the lock is `<file>.lock` beside what it really is, links followed.
    """

    def __init__(self, board: Path) -> None:
        self._board = board
        self._path = Path(os.path.realpath(board) + ".lock")
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this process has it; a forked child has not."""
        return self._fd >= 0

    def lost(self) -> bool:
        """Whether the lock file was removed, so that somebody else may own the board, too."""
        return not self._is_current(self._fd)

    def acquire(self) -> None:
        """Take it, without waiting.

        Raises:
            BoardBusy: somebody has it; says who, and since when.
            StoreReadOnly: the lock file cannot be made.
            StoreError: the folder does not exist, or its file system has no locks.
        """
        while True:
            fd = self._open()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self._is_current(fd):
                    os.close(fd)  # the last owner removed the file between our opening and our locking it
                    continue
                owner = _Owner(pid=os.getpid(), host=socket.gethostname(), since=datetime.now().isoformat())
                os.ftruncate(fd, 0)
                os.pwrite(fd, json.dumps(owner).encode(), 0)
            except BlockingIOError as error:
                busy = self._busy(fd)
                os.close(fd)
                raise BoardBusy(busy) from error
            except OSError as error:
                os.close(fd)
                raise StoreError(
                    f"{self._board} cannot be locked: {error.strerror}. Put the board on a local disk."
                ) from error
            self._fd = fd
            _HELD.add(self)
            return

    def release(self) -> None:
        """Give it up; nothing happens if it is not held."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with suppress(OSError):  # a lock file that stays behind is harmless: nobody holds it
            if self._is_current(fd):  # or else it is the lock of somebody else
                self._path.unlink()
        os.close(fd)

    def forget(self) -> None:
        """In a forked child: let go of the parent's lock without giving it up."""
        fd, self._fd = self._fd, -1
        with suppress(OSError):
            os.close(fd)

    def __del__(self) -> None:
        self.release()

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(f"{self._board}: there is no folder {self._path.parent}. Make it first.") from error
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise StoreReadOnly(
                    f"{self._board} cannot be written by this user: {self._path} cannot be made ({error.strerror}). "
                    f'Use read("{self._board}").'
                ) from error
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(f"{self._board}: the disk is full ({error.strerror}). Make room first.") from error
            raise StoreError(
                f"{self._board} cannot be opened: {error.strerror}. Choose another file for the board."
            ) from error

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except OSError:
            return False

    def _busy(self, fd: int) -> str:
        look = f'Read it with read("{self._board}"), or stop that run.'
        try:
            owner: _Owner = json.loads(os.pread(fd, 4096, 0))
            since = datetime.fromisoformat(owner["since"])
        except (ValueError, KeyError, TypeError):
            return f"{self._board} is owned by another process. {look}"
        day = since.strftime("%H:%M" if since.date() == datetime.now().date() else "%Y-%m-%d %H:%M")
        if owner["pid"] == os.getpid() and owner["host"] == socket.gethostname():
            return f"{self._board} is already open in this process, since {day}. Close that board first."
        return f"{self._board} is owned by process {owner['pid']} on {owner['host']} since {day}. {look}"


_HELD: "WeakSet[FileLock]" = WeakSet()


def _forget_all() -> None:
    for lock in list(_HELD):
        if lock.held:
            lock.forget()


os.register_at_fork(after_in_child=_forget_all)
