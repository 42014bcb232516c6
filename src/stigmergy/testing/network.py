"""A guard: tests that reach for the network fail at once, and say where they reached."""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, cast
from urllib.parse import urlsplit

from stigmergy.blackboard.errors import StigmergyError

_LOOKUPS = ("getaddrinfo", "gethostbyname", "create_connection")
_SENDING = ("connect", "connect_ex", "sendto")
_LOCAL = (None, "", "localhost", "localhost.localdomain")


class NetworkRefused(StigmergyError):
    """A test tried to reach another machine."""


@contextmanager
def refused_network() -> Iterator[None]:
    """Inside, sockets of this process reach this machine only; names of others are not looked up either.

    Whoever tries gets `NetworkRefused`.
    """
    lookups = {name: getattr(socket, name) for name in _LOOKUPS}
    sending = {name: socket.socket.__dict__.get(name) for name in _SENDING}
    for name in _LOOKUPS:
        setattr(socket, name, _looked_up(lookups[name]))
    for name in _SENDING:
        setattr(socket.socket, name, _sent(getattr(socket.socket, name)))
    try:
        yield
    finally:
        for name, original in lookups.items():
            setattr(socket, name, original)
        for name, own in sending.items():
            if own is None:  # it was inherited
                delattr(socket.socket, name)
            else:
                setattr(socket.socket, name, own)


def refuse_real_model(name: str, address: str | None) -> None:
    """Let a test ask a model on this machine only.

    Raises:
        NetworkRefused: anywhere else it would cost money.
    """
    host = urlsplit(address).hostname if address is not None else None
    if host is None or not _is_local(host):
        raise NetworkRefused(
            f"a test asked the model {name}. Put Scripted or Recorded there, or use real_models where it is meant."
        )


def _looked_up(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def checked(host: Any, *args: Any, **options: Any) -> Any:
        _refuse_unless_local(host[0] if isinstance(host, tuple) else host)
        return original(host, *args, **options)

    return checked


def _sent(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def checked(self: socket.socket, *args: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and args and isinstance(args[-1], tuple):
            _refuse_unless_local(args[-1][0])
        return original(self, *args)

    return checked


def _refuse_unless_local(host: object) -> None:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not _is_local(name):
        raise NetworkRefused(
            f"a test tried to reach {name}. Put a double there, or leave out no_network where it is meant."
        )


def _is_local(name: object) -> bool:
    if name in _LOCAL:
        return True
    try:
        return ipaddress.ip_address(cast("str", name)).is_loopback
    except ValueError:
        return False
